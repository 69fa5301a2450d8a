"""Process trees as /proc shows them, built from a few facts, and real processes that end with their test."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

BuildProcess = Callable[[int, dict[str, Any]], str]
Spawn = Callable[..., "subprocess.Popen[bytes]"]

DEADLINE_S = 20.0


def open_files() -> dict[str, str]:
    """The files that this process has open: numbers, and what they lead to."""
    found = {}
    for fd in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(FileNotFoundError):  # that of the listing
            found[fd.name] = str(fd.readlink())
    return found


def run_queue_s(pid: int) -> float:
    """How long the main thread has waited for a CPU that others had; 0 if this kernel does not say."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


@pytest.fixture(scope="module")
def own_proc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A /proc with this process alone, where nothing that others publish is seen."""
    root = tmp_path_factory.mktemp("proc")
    (root / "self").symlink_to(str(os.getpid()))
    (root / str(os.getpid())).symlink_to(f"/proc/{os.getpid()}")
    return root


@pytest.fixture
def build_process(tmp_path: Path) -> BuildProcess:
    """Writes one process below a fresh /proc and returns that root; see tests/data/host/README.md for the facts."""
    root = tmp_path / "proc"

    def build(pid: int, facts: dict[str, Any]) -> str:
        home = root / str(pid)
        home.mkdir(parents=True)
        argv: list[str] = facts.get("argv", [])
        comm: str = facts.get("comm", "process")
        start: int = facts.get("start_ticks", 4242)
        (home / "cmdline").write_bytes(b"".join(os.fsencode(word) + b"\0" for word in argv))
        (home / "stat").write_text(f"{pid} ({comm}) S 1 {pid} {pid} 0 -1" + " 0" * 13 + f" {start}" + " 0" * 30 + "\n")
        (home / "cgroup").write_text("".join(f"{line}\n" for line in facts.get("cgroup", ["0::/"])))
        ns_pids = "\t".join(str(n) for n in facts.get("ns_pids", [pid]))
        (home / "status").write_text(f"Name:\t{comm}\nTgid:\t{pid}\nUid:\t0\t107\t107\t107\nNSpid:\t{ns_pids}\n")
        maps = facts.get("maps", [])
        (home / "maps").write_text("".join(f"7f00-7f01 r-xp 00000000 fe:00 99   {path}\n" for path in maps))
        for tid, name in (facts.get("threads") or {pid: comm}).items():
            task = home / "task" / str(tid)
            task.mkdir(parents=True)
            (task / "comm").write_text(f"{name}\n")
        if "executable" in facts:
            (home / "exe").symlink_to(facts["executable"])
        (home / "fd").mkdir()
        for fd, target in facts.get("fds", {}).items():
            (home / "fd" / str(fd)).symlink_to(target)
        return str(root)

    return build


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts processes like subprocess.Popen does, and ends each by its pid after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = subprocess.Popen(*args, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Waits until a condition holds; fails the test if it never does."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, "the condition never held"
            time.sleep(0.005)

    return wait
