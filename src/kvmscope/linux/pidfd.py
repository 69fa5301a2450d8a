"""Access to other processes by pidfd: duplicate one of their files, compare two files, wait for their end.

Not here: the choice of files (``kvmfiles``) and the reads from them (source ``statsfd``).
Rule: a pid can be reused for another process at any time, a pidfd cannot; so a reader of /proc by pid opens the pidfd
first and checks it last (``has_exited``). Nothing here writes to, stops or signals a process.
Source: pidfd_open(2) (Linux 5.3), pidfd_getfd(2) (5.6), kcmp(2) (3.5, needs CONFIG_KCMP); numbers from the kernel's
syscall tables, arch/*/entry/syscalls and include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import errno
import os
import platform
import select
from typing import Final

from ..errors import Unavailable
from . import libc

_PIDFD_GETFD: Final = 438
"""The same number on every architecture but alpha."""

_KCMP: Final = {
    "x86_64": 312,
    "i686": 349,
    "aarch64": 272,
    "riscv64": 272,
    "loongarch64": 272,
    "ppc64le": 354,
    "s390x": 343,
}
_KCMP_FILE: Final = 0


def open_pidfd(pid: int) -> int:
    """A pidfd, which the caller closes. ProcessLookupError if the process is gone, Unavailable before Linux 5.3."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        raise Unavailable("this kernel has no pidfd_open", remedy="Linux 5.3 or newer", errno=error.errno) from error


def duplicate_fd(pidfd: int, fd: int) -> int:
    """A close-on-exec duplicate of file ``fd`` of the process; it shares the offset, so read it only by pread.

    PermissionError without PTRACE_MODE_ATTACH rights, ProcessLookupError if the process is gone, OSError EBADF if it
    has no such file (any more), EMFILE at this process's limit of fds. Unavailable before Linux 5.6.
    """
    try:
        return libc.syscall(_PIDFD_GETFD, pidfd, fd, 0)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise OSError(error.errno, error.strerror, f"fd {fd}") from None
        raise Unavailable("this kernel has no pidfd_getfd", remedy="Linux 5.6 or newer", errno=error.errno) from error


def compare_files(pid_a: int, fd_a: int, pid_b: int, fd_b: int) -> int | None:
    """0 if both fds are the same open file, otherwise -1 or 1 in a stable order of files; None if it is unknown.

    It is unknown if a file is closed, a process is gone or may not be inspected, or the kernel lacks kcmp.
    """
    number = _KCMP.get(platform.machine())
    if number is None:
        return None
    try:
        return {0: 0, 1: -1, 2: 1}.get(libc.syscall(number, pid_a, pid_b, _KCMP_FILE, fd_a, fd_b))
    except OSError:
        return None


class ExitWatch:
    """Watches for the end of processes by their pidfds; never blocks. Does not own the pidfds."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._count = 0

    def fileno(self) -> int:
        """An fd that is readable once one of the processes has ended, for an event loop."""
        return self._epoll.fileno()

    def add(self, pidfd: int) -> None:
        self._epoll.register(pidfd, select.EPOLLIN)
        self._count += 1

    def remove(self, pidfd: int) -> None:
        """Stop watching; to be called before the pidfd is closed."""
        self._epoll.unregister(pidfd)
        self._count -= 1

    def exited(self) -> list[int]:
        """The pidfds whose processes have ended, at each call until they are removed."""
        return [fd for fd, _ in self._epoll.poll(0, max(1, self._count))]

    def close(self) -> None:
        self._epoll.close()


def has_exited(pidfd: int) -> bool:
    """True once the process has ended, even as a zombie; its files are closed by then."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
