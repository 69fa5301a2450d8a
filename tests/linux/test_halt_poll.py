"""Who holds the parameter puts it back, however it ends. Files stand for it here; tests/live has the real one.

Also covers ``parameter_guard``, whose program runs in each of these tests.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kvmscope.errors import PermissionNeeded, Unavailable
from kvmscope.linux.halt_poll import hold_halt_poll, read_halt_poll_ns

BEGUN = 200_000
HOLDER = """
import sys
from kvmscope.linux.halt_poll import hold_halt_poll
with hold_halt_poll(parameter=sys.argv[1], state=sys.argv[2]) as held:
    held.set(65536)
    held.set(32768)
    print(held.guard_pid, flush=True)
    sys.stdin.readline()
    if sys.argv[3:]:
        raise RuntimeError(sys.argv[3])
"""
ENDS_S = 10.0


@dataclass(frozen=True)
class Place:
    """Where a parameter and the state of who holds it are."""

    parameter: str
    state: str

    @property
    def value(self) -> int:
        return read_halt_poll_ns(self.parameter)

    def write(self, value: int) -> None:
        Path(self.parameter).write_text(f"{value}\n", encoding="ascii")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(str(tmp_path / "halt_poll_ns"), str(tmp_path / "state"))
    place.write(BEGUN)
    return place


@dataclass(frozen=True)
class Holder:
    """A process that holds the parameter and has set it to 32768. ``guard``: pidfd of its guard."""

    process: subprocess.Popen[str]
    guard_pid: int
    guard: int

    def wait_for_guard(self) -> None:
        """Wait until the guard is done. Fails if that takes too long."""
        assert select.select([self.guard], [], [], ENDS_S)[0], "the guard goes on"

    @property
    def has_guard(self) -> bool:
        return not select.select([self.guard], [], [], 0)[0]


@contextmanager
def holder(place: Place, *arguments: str) -> Iterator[Holder]:
    command = [sys.executable, "-c", HOLDER, place.parameter, place.state, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        guard = os.pidfd_open(pid)
        try:
            yield Holder(process, pid, guard)
        finally:
            process.kill()
            process.wait()
            assert select.select([guard], [], [], ENDS_S)[0]
            os.close(guard)


def test_the_value_is_back_after_the_block(place: Place) -> None:
    with hold_halt_poll(parameter=place.parameter, state=place.state) as held:
        assert held.began_ns == BEGUN
        held.set(65_536)
        assert (place.value, held.check()) == (65_536, 65_536)
    assert place.value == BEGUN


@pytest.mark.parametrize("arguments", [(), ("a mistake",)], ids=["end", "exception"])
def test_the_value_is_back_when_the_process_ends(place: Place, arguments: tuple[str, ...]) -> None:
    with holder(place, *arguments) as found:
        assert place.value == 32_768
        found.process.communicate("\n")
        found.wait_for_guard()
    assert place.value == BEGUN


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_the_value_is_back_when_the_process_is_killed(place: Place, number: signal.Signals) -> None:
    with holder(place) as found:
        found.process.send_signal(number)
        found.wait_for_guard()
        assert place.value == BEGUN


def test_a_signal_to_the_whole_group_and_to_the_guard_leaves_the_guard(place: Place) -> None:
    with holder(place) as found:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(found.guard_pid, number)
        assert os.getpgid(found.guard_pid) != os.getpgid(found.process.pid)
        assert found.has_guard
        found.process.kill()
        found.wait_for_guard()
        assert place.value == BEGUN


def test_the_end_of_the_guard_is_seen_and_the_value_goes_back(place: Place) -> None:
    with hold_halt_poll(parameter=place.parameter, state=place.state) as held:
        held.set(65_536)
        os.kill(held.guard_pid, signal.SIGKILL)
        os.waitid(os.P_PID, held.guard_pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(Unavailable, match="guard process has ended"):
            held.set(32_768)
        assert place.value == 65_536
    assert place.value == BEGUN


def test_the_value_of_somebody_else_stays(place: Place) -> None:
    with hold_halt_poll(parameter=place.parameter, state=place.state) as held:
        held.set(65_536)
        place.write(5000)
        with pytest.raises(Unavailable, match="was 65536, and another program set it to 5000; that value stays"):
            held.set(32_768)
    assert place.value == 5000


def test_the_value_of_somebody_else_stays_after_a_kill(place: Place) -> None:
    with holder(place) as found:
        place.write(5000)
        found.process.kill()
        found.wait_for_guard()
    assert place.value == 5000


def test_a_second_one_is_refused_until_the_guard_of_the_first_is_done(place: Place) -> None:
    with holder(place) as found:
        with (
            pytest.raises(Unavailable, match="another governor"),
            hold_halt_poll(parameter=place.parameter, state=place.state),
        ):
            raise AssertionError("both hold it")
        assert place.value == 32_768
        found.process.kill()
        found.wait_for_guard()
    with hold_halt_poll(parameter=place.parameter, state=place.state) as held:
        assert held.began_ns == BEGUN


def test_what_a_process_left_that_was_killed_with_its_guard_is_put_back_by_the_next(place: Place) -> None:
    with holder(place) as found:
        os.kill(found.process.pid, signal.SIGSTOP)  # it cannot restore anything when the guard is gone
        os.kill(found.guard_pid, signal.SIGKILL)
        found.process.kill()
        found.wait_for_guard()
        found.process.wait()
        assert place.value == 32_768
        with hold_halt_poll(parameter=place.parameter, state=place.state) as held:
            assert (held.began_ns, place.value) == (BEGUN, BEGUN)


@pytest.mark.parametrize(
    "state", ["{", '{"began": 1}', '{"began": "x", "ours": [200000]}', '{"began": 5, "ours": 7}', "[]"]
)
def test_a_damaged_state_changes_nothing(place: Place, state: str) -> None:
    Path(place.state).write_text(state, encoding="ascii")
    with hold_halt_poll(parameter=place.parameter, state=place.state) as held:
        assert held.began_ns == BEGUN
    assert place.value == BEGUN


def test_a_state_that_is_a_link_is_refused(place: Place, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("text", encoding="ascii")
    Path(place.state).symlink_to(tmp_path / "victim")
    with pytest.raises(Unavailable), hold_halt_poll(parameter=place.parameter, state=place.state):
        raise AssertionError("it follows links")
    assert (tmp_path / "victim").read_text(encoding="ascii") == "text"


def test_a_host_without_the_parameter_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable), hold_halt_poll(parameter=str(tmp_path / "none"), state=str(tmp_path / "state")):
        raise AssertionError("there is nothing to hold")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write every file")
def test_who_may_not_write_it_is_told(place: Place) -> None:
    Path(place.parameter).chmod(0o444)
    with pytest.raises(PermissionNeeded), hold_halt_poll(parameter=place.parameter, state=place.state):
        raise AssertionError("it may be written")
