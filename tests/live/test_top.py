"""``kvmscope top`` in a real terminal: tmux draws what it writes, and types for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tmux import terminal

from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf", "tmux")]


@pytest.fixture
def guests() -> Iterator[None]:
    with process.start(LabSpec(workload="halt", name="tmuxed", vms=2, vcpus=2)) as running:
        running.go()
        yield


@pytest.mark.usefixtures("guests")
def test_it_shows_the_vms_opens_one_and_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    with terminal(tmp_path, "top") as top:
        text = top.wait_for(lambda text: "tmuxed-0" in text and "tmuxed-1" in text)
        assert len(text.splitlines()) == 24
        top.keys("/", "tmuxed-1", "Enter", "Down", "Enter")
        top.wait_for(lambda text: "kvmscope top · tmuxed-1" in text.splitlines()[0])
        top.keys("Enter")
        top.wait_for(lambda text: "statistics of tmuxed-1" in text)
        top.keys("q", "q", "q")
        assert "kvmscope top" not in top.wait_for(lambda text: "ended: 0" in text)


@pytest.mark.usefixtures("guests")
def test_in_an_ascii_locale_it_writes_nothing_else(tmp_path: Path) -> None:
    with terminal(tmp_path, "top", environment="LC_ALL=C") as top:
        assert top.wait_for(lambda text: "tmuxed-0" in text).isascii()
        top.keys("C-c")
        top.wait_for(lambda text: "ended: 0" in text)
