"""Files and ends of other processes, on processes of this test."""

from __future__ import annotations

import errno
import os
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmscope.linux.pidfd import (
    ExitWatch,
    compare_files,
    duplicate_fd,
    has_exited,
    open_pidfd,
)


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose fd 0 is a pipe and whose fd 1 is the file ``seen``; it ends when the pipe is closed."""
    with (tmp_path / "seen").open("wb") as out, subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=out) as process:
        yield process
        process.kill()


@pytest.fixture
def pidfd(sleeper: subprocess.Popen[bytes]) -> Iterator[int]:
    fd = open_pidfd(sleeper.pid)
    yield fd
    os.close(fd)


def test_duplicate_is_the_same_open_file(sleeper: subprocess.Popen[bytes], pidfd: int, tmp_path: Path) -> None:
    duplicate = duplicate_fd(pidfd, 1)
    try:
        assert Path(f"/proc/self/fd/{duplicate}").readlink() == tmp_path / "seen"
        assert not os.get_inheritable(duplicate)
        assert compare_files(sleeper.pid, 1, os.getpid(), duplicate) == 0
    finally:
        os.close(duplicate)


def test_two_opens_of_one_path_are_not_one_file(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    with (tmp_path / "seen").open("rb") as file:
        order = compare_files(sleeper.pid, 1, os.getpid(), file.fileno())
        assert order in (-1, 1)
        assert compare_files(os.getpid(), file.fileno(), sleeper.pid, 1) == -order


def test_comparing_a_closed_file_says_nothing(sleeper: subprocess.Popen[bytes]) -> None:
    assert compare_files(sleeper.pid, 999, os.getpid(), 0) is None


def test_duplicating_a_closed_file_is_ebadf(pidfd: int) -> None:
    with pytest.raises(OSError, match="999") as caught:
        duplicate_fd(pidfd, 999)
    assert caught.value.errno == errno.EBADF


def test_no_process_no_pidfd() -> None:
    with pytest.raises(ProcessLookupError):
        open_pidfd(2**22 + 1)


def test_watch_hears_of_an_end_once_and_only_of_it(sleeper: subprocess.Popen[bytes], pidfd: int) -> None:
    own = open_pidfd(os.getpid())
    watch = ExitWatch()
    try:
        watch.add(pidfd)
        watch.add(own)
        assert watch.exited() == []
        assert not has_exited(pidfd)
        assert not select.select([watch], [], [], 0)[0]
        sleeper.kill()
        assert select.select([watch], [], [], 10)[0] == [watch]
        # Not waited for yet: its pid cannot have been given to another.
        assert watch.exited() == [pidfd]
        assert has_exited(pidfd)
        watch.remove(pidfd)
        assert watch.exited() == []
    finally:
        watch.close()
        os.close(own)
