"""Waiting: a terminal shows what for, and nobody waits for the news that a VM is not there."""

from __future__ import annotations

import os
import pty
import resource
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import leaves, vm_published_by
from processes import run_queue_s

from kvmscope.cli.group import main

KVMSCOPE = [sys.executable, "-m", "kvmscope"]
FROM = ("--source", "published")
TOLD_WITHIN_S = 1.0


@pytest.fixture(scope="module", autouse=True)
def simulated() -> Iterator[str]:
    """A simulated host; the id of one of its VMs."""
    from kvmscope.lab import simulate

    with simulate.start(vms=3) as host:
        yield vm_published_by(host.pid)


def seen_on_terminal(*arguments: str) -> str:
    """What a terminal gets on stderr."""
    ours, theirs = pty.openpty()
    try:
        subprocess.run([*KVMSCOPE, *arguments], stdout=subprocess.DEVNULL, stderr=theirs, check=True, timeout=60)
        os.close(theirs)
        return os.read(ours, 65536).decode()
    finally:
        os.close(ours)


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (["status", "--interval", "600ms"], "reading for 600 ms …"),
        (["doctor", "--for", "400ms", "--interval", "200ms"], "reading for 400 ms …"),
        (["apicv", "--interval", "300ms"], "reading for 300 ms …"),
        (["explain", "exits", "--interval", "300ms"], "looking for exits on this host …"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_terminal_shows_what_is_waited_for_and_then_nothing_of_it(arguments: list[str], first: str) -> None:
    text = seen_on_terminal(*arguments, *FROM)
    assert text.startswith(first)
    assert "\x1b[K" in text.rpartition("…")[2]


@pytest.mark.live
@pytest.mark.needs("kvm")
def test_a_terminal_shows_that_guests_run() -> None:
    assert seen_on_terminal("lab", "run", "-w", "spin", "--for", "300ms").startswith("VMs run spin until 300 ms are")


LONG_QUERY = "SELECT/**/count(*)/**/FROM/**/range(99999999)a,range(99999999)b"
WAITING = [
    "status --interval 10m",
    "status --watch --interval 10m",
    "top --interval 10m",
    "hist {vm} halt_wait_hist --interval 10m",
    "apicv --interval 10m",
    "apicv --watch --interval 10m",
    "doctor --for 10m --interval 5m",
    "doctor --watch --interval 10m",
    "explain exits --interval 10m",
    "record {scratch}/recording --interval 10m --for 20m",
    "snapshot {scratch}/snapshot --interval 10m",
    "serve --web.listen-address 127.0.0.1:0 --interval 1m",
    "dump --interval 10m",
    f"sql --from {{scratch}} {LONG_QUERY}",
]
ELSEWHERE: dict[tuple[str, ...], str] = {
    ("groups", "try"): "tests/live/test_groups_command.py",
    ("govern", "polling"): "tests/live/test_govern.py",
    ("lab", "run"): "needs KVM; below",
    ("lab", "simulate"): "says at once what runs",
    ("replay",): "reads a recording; the interval is a length in it",
    **{("fleet", what): "the same" for what in ("status", "doctor", "apicv", "diff", "schemas")},
    ("lab", "fleet"): "the interval is a length in what it writes",
}
SHOWN_WITHIN_S = 0.5


@pytest.mark.parametrize("text", WAITING, ids=lambda text: text.partition(" {")[0])
def test_a_terminal_shows_something_long_before_what_is_waited_for(text: str, simulated: str, tmp_path: Path) -> None:
    """From when it has begun to run: what a start takes is measured by bench/start.py."""
    source = () if text.startswith("sql") else FROM
    command = [*KVMSCOPE, *(word.format(scratch=tmp_path, vm=simulated) for word in text.split()), *source]
    assert any(s_until_shown(command) < SHOWN_WITHIN_S + LOADED_WITHIN_S for _ in range(3))


LOADED_WITHIN_S = 1.0
"""Of Python and what the command imports, and one look at the simulated host."""


def s_until_shown(command: list[str]) -> float:
    """How long a command that goes on shows nothing, without the time that it waits for a CPU."""
    ours, theirs = pty.openpty()
    try:
        began_s = time.monotonic()
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
            is_shown, _, _ = select.select([ours], [], [], 60)
            shown_after_s = time.monotonic() - began_s - run_queue_s(process.pid)
            goes_on = process.poll() is None
            process.kill()
        assert is_shown and goes_on, os.read(ours, 65536)
        return shown_after_s
    finally:
        os.close(theirs)
        os.close(ours)


def test_every_command_that_takes_a_time_to_wait_is_tried() -> None:
    tried = {tuple(line.split()[: len(path)]) for line in WAITING for path in _leaves_that_wait()}
    assert [path for path in _leaves_that_wait() if path not in tried and path not in ELSEWHERE] == []


def _leaves_that_wait() -> list[tuple[str, ...]]:
    waits = {"--interval", "--for", "--watch"}
    return [path for path, command in leaves(main) if waits & {word for param in command.params for word in param.opts}]


def test_a_file_gets_no_progress() -> None:
    done = subprocess.run(
        [*KVMSCOPE, "status", "--interval", "100ms", *FROM], capture_output=True, text=True, check=True, timeout=60
    )
    assert "reading for" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["doctor", "nope", "--for", "10m"],
        ["doctor", "nope", "--watch", "--interval", "10m"],
        ["apicv", "nope", "--interval", "10m"],
        ["hist", "nope", "halt_wait_hist", "--interval", "10m"],
        ["read", "nope"],
    ],
    ids=" ".join,
)
def test_a_vm_that_is_not_there_is_told_at_once_and_before_any_waiting(arguments: list[str]) -> None:
    assert any(cpu_s_until_told(*arguments) < TOLD_WITHIN_S for _ in range(3))


@pytest.mark.slow
def test_a_vm_that_is_not_there_is_told_at_once_on_a_host_of_a_thousand_vms() -> None:
    from kvmscope.lab import simulate

    with simulate.start(vms=1_000):
        spent_s = min(cpu_s_until_told("doctor", "nope", "--for", "10m") for _ in range(3))
        assert spent_s < 2 * TOLD_WITHIN_S, "most of it goes into seven files of each VM"


def cpu_s_until_told(*arguments: str) -> float:
    """CPU time of a command that finds no VM of this name; how long it waits for a CPU is the machine's."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*KVMSCOPE, *arguments, *FROM], capture_output=True, text=True, check=False, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no VM 'nope'" in done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_doctor_does_not_wait_for_vms_where_there_are_none(kvmscope: Any, crafted: Any) -> None:
    nobody = [crafted.make_sample([]), crafted.make_sample([], at_s=1), crafted.make_sample([], at_s=2)]
    began = time.monotonic()
    result = kvmscope.run("doctor", "--for", "60s", "--interval", "30s", on=nobody)
    assert time.monotonic() - began < 30
    assert "no VM is running here" in result.stdout


@pytest.mark.parametrize("command", ["status", "apicv"])
def test_what_is_waited_for_is_gone_from_a_terminal_that_is_watched(command: str) -> None:
    ours, theirs = pty.openpty()
    arguments = [*KVMSCOPE, command, "--watch", "--interval", "100ms", *FROM]
    seen = ""
    with subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs) as process:
        try:
            deadline = time.monotonic() + 30
            while "SIMULATED" not in seen and time.monotonic() < deadline:
                seen += os.read(ours, 65536).decode(errors="replace")
        finally:
            process.kill()
    os.close(theirs)
    os.close(ours)
    before, waited, after = seen.partition("reading for 100 ms …")
    assert waited, before
    assert after.startswith("\r\x1b[K")
    assert "[K" not in seen.replace("\x1b[K", "")
