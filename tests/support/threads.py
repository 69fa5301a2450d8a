"""Threads and CPUs for tests: on one CPU, busy, or under a quota."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvmscope.lab.process import Running

QUOTA_US, PERIOD_US = 20_000, 100_000


@contextmanager
def quota_group() -> Iterator[Path]:
    """A cgroup that gets a fifth of a CPU; of version 1, where that has the controller here, else of version 2."""
    of_version_1 = Path("/sys/fs/cgroup/cpu/cpu.stat").exists()
    group = Path("/sys/fs/cgroup/cpu" if of_version_1 else "/sys/fs/cgroup") / f"kvmscope-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error.strerror}")
    try:
        if of_version_1:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US), encoding="ascii")
            (group / "cpu.cfs_quota_us").write_text(str(QUOTA_US), encoding="ascii")
        elif not (group / "cpu.max").exists():
            pytest.skip("the cgroups of this host have no CPU controller")
        else:
            (group / "cgroup.type").write_text("threaded", encoding="ascii")
            (group / "cpu.max").write_text(f"{QUOTA_US} {PERIOD_US}", encoding="ascii")
        yield group
    finally:
        group.rmdir()


QUOTA_CPUS = QUOTA_US / PERIOD_US


def enter(group: Path, pid: int) -> None:
    """Put every thread of a process into a cgroup."""
    tasks = group / ("tasks" if (group / "tasks").exists() else "cgroup.threads")
    for thread in Path(f"/proc/{pid}/task").iterdir():
        tasks.write_text(thread.name, encoding="ascii")


def pin_to_one_cpu(*guests: Running) -> None:
    """Every thread of these VMMs."""
    cpu = max(os.sched_getaffinity(0))
    for guest in guests:
        for thread in Path(f"/proc/{guest.pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {cpu})


@contextmanager
def burning_thread() -> Iterator[None]:
    """A thread of this process that computes without a pause, most of it without Python's lock."""
    may_end = threading.Event()

    def burn() -> None:
        data = bytes(1 << 22)
        while not may_end.is_set():
            zlib.compress(data, 9)

    thread = threading.Thread(target=burn)
    thread.start()
    try:
        yield
    finally:
        may_end.set()
        thread.join()
