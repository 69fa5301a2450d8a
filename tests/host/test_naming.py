"""Who is who, asked beside the sampling loop: remembered, asked again, and never waited for if no answer comes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kvmscope.host import naming
from kvmscope.host.naming import Naming, VmmAnswer
from kvmscope.host.process import OTHER

BuildProcess = Callable[[int, dict[str, Any]], str]
Spawn = Callable[..., "subprocess.Popen[bytes]"]
Eventually = Callable[[Callable[[], bool]], None]

ASK_AGAIN_S = naming._ASK_AGAIN_S
WAITING_SHELL = ["-c", "read line; exec sleep 1000"]


@pytest.fixture(autouse=True)
def _asked_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is known is asked again each time, so that no test waits for that."""
    monkeypatch.setattr(naming, "_ASK_AGAIN_S", 0.0)
    monkeypatch.setattr(naming, "_ASK_EACH_S", 0.0)


def name(answer: VmmAnswer) -> str | None:
    return answer.process.name if answer.process else None


def argv(answer: VmmAnswer) -> tuple[str, ...]:
    return answer.process.argv if answer.process else ()


def test_a_process_is_remembered_until_it_ends(spawn: Spawn, eventually: Eventually) -> None:
    children = [spawn(["sleep", "1000"]) for _ in range(3)]
    pids = [child.pid for child in children]
    who = Naming()
    eventually(lambda: all(argv(found) == ("sleep", "1000") for found in who.of(pids).values()))
    first = who.of(pids)
    assert list(first) == pids
    second = who.of(pids)
    assert all(second[pid].process is first[pid].process for pid in pids)
    children[1].kill()
    children[1].wait()
    eventually(lambda: who.of(pids)[pids[1]].process is None)
    assert [who.of(pids)[pid].process is not None for pid in pids] == [True, False, True]
    assert who.of([]) == {}


def test_a_program_that_becomes_another_is_looked_at_again(spawn: Spawn, eventually: Eventually) -> None:
    child = spawn(["firecracker", *WAITING_SHELL, "--id", "before"], executable="/bin/sh", stdin=subprocess.PIPE)
    who = Naming()
    eventually(lambda: name(who.of([child.pid])[child.pid]) == "before")
    before = who.of([child.pid])[child.pid].process
    assert before is not None
    assert before.vmm == "firecracker"
    assert child.stdin is not None
    child.stdin.write(b"go\n")
    child.stdin.flush()
    eventually(lambda: argv(who.of([child.pid])[child.pid]) == ("sleep", "1000"))
    after = who.of([child.pid])[child.pid].process
    assert after is not None
    assert (after.vmm, after.command) == (OTHER, "sleep")
    assert after.start_ticks == before.start_ticks


def test_a_program_that_becomes_another_of_the_same_name_is_looked_at_again(
    spawn: Spawn, eventually: Eventually
) -> None:
    script = "read line; exec sh -c 'read line; exit' --name second"
    child = spawn(["sh", "-c", script, "--name", "first"], stdin=subprocess.PIPE)
    who = Naming()
    eventually(lambda: argv(who.of([child.pid])[child.pid])[-1:] == ("first",))
    assert child.stdin is not None
    child.stdin.write(b"go\n")
    child.stdin.flush()
    eventually(lambda: argv(who.of([child.pid])[child.pid])[-1:] == ("second",))


def test_a_process_amid_its_exec_is_asked_again_at_once(
    build_process: BuildProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(naming, "_ASK_AGAIN_S", 1000.0)
    root = build_process(5, {"comm": "firecracker", "argv": []})
    who = Naming(proc_root=root)
    found = who.of([5])[5].process
    assert found is not None
    assert found.name is None
    Path(root, "5", "cmdline").write_bytes(b"firecracker\0--id\0now\0")
    assert name(who.of([5])[5]) == "now"


def test_a_pid_given_to_a_new_process_is_looked_at_again(
    build_process: BuildProcess, tmp_path: Path, eventually: Eventually
) -> None:
    root = build_process(5, {"argv": ["firecracker", "--id", "old"], "start_ticks": 1})
    who = Naming(proc_root=root)
    assert name(who.of([5])[5]) == "old"
    Path(root, "5").rename(tmp_path / "gone")
    build_process(5, {"argv": ["firecracker", "--id", "new"], "start_ticks": 2})
    eventually(lambda: name(who.of([5])[5]) == "new")


def test_the_thread_that_samples_opens_no_file_of_a_process(
    build_process: BuildProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by the interpreter's audit hook, which runs on the thread that opens."""
    import threading

    root = build_process(5, {"argv": ["firecracker", "--id", "web"]})
    opened: list[tuple[str, int]] = []
    recording = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if recording and event == "open":
            opened.append((str(arguments[0]), threading.get_ident()))

    who = Naming(proc_root=root)
    sys.addaudithook(hook)
    assert name(who.of([5])[5]) == "web"
    recording = False
    assert opened
    assert threading.get_ident() not in {thread for _, thread in opened}


# --- a VMM that does not answer ---------------------------------------------------------------------------------------


@pytest.fixture
def blocked(build_process: BuildProcess, tmp_path: Path) -> Iterator[tuple[str, list[int]]]:
    """A /proc in which the command lines of processes 6 and 7 block, and those of 5 and 8 do not."""
    for pid in (5, 6, 7, 8):
        root = build_process(pid, {"argv": ["firecracker", "--id", f"vm-{pid}"]})
    pipes = [Path(root, str(pid), "cmdline") for pid in (6, 7)]
    for pipe in pipes:
        pipe.unlink()
        os.mkfifo(pipe)
    yield root, [6, 5, 7, 8]
    for pipe in pipes:  # lets the threads go that wait for somebody to write
        os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))


def test_a_vmm_that_does_not_answer_is_left_out_and_the_others_are_named(blocked: tuple[str, list[int]]) -> None:
    root, pids = blocked
    who = Naming(proc_root=root)
    began = time.monotonic()
    found = who.of(pids)
    took_s = time.monotonic() - began
    assert [name(found[pid]) for pid in pids] == [None, "vm-5", None, "vm-8"]
    assert [found[pid].silent_s is not None for pid in pids] == [True, False, True, False]
    assert took_s < 5, "the deadline of the wait is a quarter of a second"


def test_a_vmm_that_does_not_answer_is_waited_for_once(blocked: tuple[str, list[int]]) -> None:
    root, pids = blocked
    who = Naming(proc_root=root, clock=(clock := Clock()))
    who.of(pids)
    clock.now += 4.0
    before = clock.asked
    found = who.of(pids)
    assert clock.asked - before < 20, "nothing is waited for"
    silent_s = found[6].silent_s
    assert silent_s is not None
    assert silent_s >= 4.0


class Clock:
    """Goes on by a millisecond at each look."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked = 0

    def __call__(self) -> float:
        self.now += 0.001
        self.asked += 1
        return self.now


def test_a_vmm_that_stops_answering_keeps_its_name(
    build_process: BuildProcess, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = build_process(5, {"argv": ["firecracker", "--id", "web"]})
    who = Naming(proc_root=root, clock=(clock := Clock()))
    assert name(who.of([5])[5]) == "web"
    file = Path(root, "5", "cmdline")
    words = file.read_bytes()
    file.unlink()
    os.mkfifo(file)
    clock.now += 3.0
    who.of([5])
    eventually(lambda: who._entries[5].running_since is not None)
    clock.now += 3.0
    found = who.of([5])[5]
    assert name(found) == "web"
    assert found.silent_s is not None
    assert found.silent_s >= 2.9
    writer = os.open(file, os.O_RDWR)
    file.unlink()
    file.write_bytes(words)
    os.close(writer)
    eventually(lambda: who.of([5])[5].silent_s is None and name(who.of([5])[5]) == "web")


def test_a_vmm_that_hangs_is_late_two_looks_on(
    build_process: BuildProcess, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a look a second: whenever it hangs, the second look from then on has it."""
    monkeypatch.setattr(naming, "_ASK_AGAIN_S", ASK_AGAIN_S)
    root = build_process(5, {"argv": ["firecracker", "--id", "web"]})
    who = Naming(proc_root=root, clock=(clock := Clock()))
    assert name(who.of([5])[5]) == "web"
    for _ in range(3):
        clock.now += 1.0
        who.of([5])
        eventually(lambda: not who._entries[5].is_pending)
    file = Path(root, "5", "cmdline")
    file.unlink()
    os.mkfifo(file)
    clock.now += 1.0
    assert who.of([5])[5].silent_s is None
    eventually(lambda: who._entries[5].running_since is not None)
    clock.now += 1.0
    assert who.of([5])[5].silent_s is not None
    os.close(os.open(file, os.O_RDWR))


def test_a_vmm_that_answers_at_last_gets_its_name(blocked: tuple[str, list[int]], eventually: Eventually) -> None:
    root, pids = blocked
    who = Naming(proc_root=root)
    assert name(who.of(pids)[6]) is None
    file = Path(root, "6", "cmdline")
    # The identity is read once more after what it is recognised by, so the second reading must not find the pipe.
    with file.open("wb") as pipe:
        pipe.write(b"firecracker\0--id\0awake\0")
        file.unlink()
        file.write_bytes(b"firecracker\0--id\0awake\0")
    eventually(lambda: name(who.of(pids)[6]) == "awake")
    assert who.of(pids)[6].silent_s is None
    assert name(who.of(pids)[7]) is None


def test_as_many_vmms_as_there_are_threads_may_hang(build_process: BuildProcess, tmp_path: Path) -> None:
    count = naming._MOST_THREADS
    for pid in range(1, count + 1):
        root = build_process(pid, {"argv": ["x"]})
        Path(root, str(pid), "cmdline").unlink()
        os.mkfifo(Path(root, str(pid), "cmdline"))
    root = build_process(1000, {"argv": ["firecracker", "--id", "last"]})
    who = Naming(proc_root=root)
    try:
        found = who.of([*range(1, count), 1000], patience_s=5.0)
        assert name(found[1000]) == "last"
    finally:
        for pid in range(1, count + 1):
            os.close(os.open(Path(root, str(pid), "cmdline"), os.O_RDWR | os.O_NONBLOCK))
