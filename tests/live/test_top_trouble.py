"""``kvmscope top`` while the host is in trouble: its source goes and comes back, a VMM hangs, VMs come and die."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from stuck import hanging_vmm
from tmux import terminal

from kvmscope.lab import process
from kvmscope.lab.process import Running
from kvmscope.lab.spec import LabSpec
from kvmscope.sources.bpf.attach import attach, detach

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf", "root", "tmux")]

SAID_WITHIN_S = 2.0
LATE_S = 1.5
"""How late a busy machine may be with what is due within a time."""


def guests(name: str, vms: int = 2) -> Running:
    running = process.start(LabSpec(workload="halt", name=name, vms=vms, vcpus=2))
    running.go()
    return running


def row(text: str, name: str) -> str:
    """The line of a VM; empty if it has none."""
    return next((line for line in text.splitlines() if f" {name} " in f" {line} "), "")


def shows_another(known: Sequence[str], text: str) -> bool:
    """Whether the line of `fine-0` is none of those."""
    return row(text, "fine-0") not in known


@pytest.fixture
def attached() -> Iterator[None]:
    attach()
    try:
        yield
    finally:
        detach()


@pytest.mark.usefixtures("attached")
def test_a_pinned_source_goes_and_comes_back(tmp_path: Path) -> None:
    options = ("top", "--source", "pinned", "--interval", "200ms")
    with guests("pinned"), terminal(tmp_path, *options, width=120) as top:
        top.wait_for(lambda text: "by pinned" in text and bool(row(text, "pinned-0")))
        for _ in range(2):
            detach()
            lost = top.wait_for(lambda text: "source lost" in text)
            assert "STALE" in lost.splitlines()[0]
            assert "values are of" in lost
            assert row(lost, "pinned-0"), "the last values stay, marked as stale"
            attach()
            back = top.wait_for(lambda text: "source lost" not in text)
            assert "STALE" not in back
        top.keys("e")
        events = top.wait_for(lambda text: text.count("source back") == 2)
        assert events.count("source lost") == 2
        top.keys("q", "q")
        top.wait_for(lambda text: "ended: 0" in text)


def test_a_vmm_that_hangs_is_marked_in_time_and_the_others_go_on(tmp_path: Path) -> None:
    with guests("fine", 1), hanging_vmm(tmp_path) as hanging, terminal(tmp_path, "top", width=160) as top:
        name = f"-{hanging.pid} "
        top.wait_for(lambda text: name in text and bool(row(text, "fine-0")))
        hanging.hang()
        began_s = time.monotonic()
        marked = top.wait_for(lambda text: "VMM silent" in text)
        took_s = time.monotonic() - began_s
        assert name in next(line for line in marked.splitlines() if "VMM silent" in line)
        assert took_s <= SAID_WITHIN_S + LATE_S
        for _ in range(3):
            known = ("", row(top.text(), "fine-0"))
            after = top.wait_for(partial(shows_another, known))
            assert "STALE" not in after
            assert "VMM silent" in after
        hanging.file.release()
        top.wait_for(lambda text: "VMM silent" not in text)


def test_vms_come_and_die_and_the_one_in_view_is_marked_as_ended(tmp_path: Path) -> None:
    with guests("stays", 1), terminal(tmp_path, "top", "--interval", "200ms", width=120) as top:
        with guests("dies", 1) as dying:
            top.wait_for(lambda text: bool(row(text, "dies-0")))
            top.keys("/", "dies", "Enter", "Down", "Enter")
            top.wait_for(lambda text: "· dies-0" in text.splitlines()[0])
            for _ in range(3):
                guests("passes").close()
            dying.kill()
            top.wait_for(lambda text: "ENDED" in text)
        top.keys("q", "Left", "Left")  # out of the VM, its selection and the filter
        top.wait_for(lambda text: bool(row(text, "stays-0")))
        with guests("comes", 1):
            top.wait_for(lambda text: bool(row(text, "comes-0")))


def test_a_storm_of_sizes_ends_in_a_whole_screen(tmp_path: Path) -> None:
    chance = random.Random(5)
    with guests("resized"), terminal(tmp_path, "top", "--interval", "200ms") as top:
        top.wait_for(lambda text: bool(row(text, "resized-0")))
        for _ in range(100):
            top.resize(chance.randint(1, 300), chance.randint(1, 80))
        top.resize(80, 24)
        text = top.wait_for(lambda text: bool(row(text, "resized-0")) and "kvmscope top" in text.splitlines()[0])
        assert len(text.splitlines()) == 24
        assert "Traceback" not in text
        top.keys("q")
        top.wait_for(lambda text: "ended: 0" in text)
