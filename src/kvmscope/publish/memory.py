"""A file in shared memory that only its creator can write and nobody can resize.

Not here: what is in the file. Source: memfd_create(2), fcntl(2) F_ADD_SEALS.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os

from ..linux import procfs

# Python 3.11 lacks these two constants.
_MFD_NOEXEC_SEAL = 0x8  # Linux 6.3; without it the kernel warns once per boot, or refuses (vm.memfd_noexec=2)
_F_SEAL_FUTURE_WRITE = 0x10  # Linux 5.1: this mapping stays writable, no other can become so

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class SharedFile:
    """A sealed memfd, mapped for writing. The mapping keeps the only fd to it, which /proc/PID/fd shows."""

    def __init__(self, name: str, content: bytes) -> None:
        """OSError if the kernel refuses (too many open files, no memory, no memfd)."""
        fd = _memfd(name)
        try:
            os.write(fd, content)
            self.mapping = mmap.mmap(fd, len(content))
            _seal(fd)
            self._identity = _identity(fd)
        finally:
            os.close(fd)

    def open_fd(self) -> int:
        """A new read-only fd of the file. Raises OSError if it cannot be opened."""
        # The mapping does not expose the number of its fd, and a second fd for each file would be too many.
        for fd in procfs.own_fds():
            with contextlib.suppress(OSError):
                if _identity(fd) == self._identity:
                    return os.open(procfs.fd_path(fd), os.O_RDONLY | os.O_CLOEXEC)
        raise OSError(errno.EBADF, "somebody closed the fd of the shared memory")

    def close(self) -> None:
        # If views of the memory remain, it is unmapped with the last of them.
        with contextlib.suppress(BufferError):
            self.mapping.close()


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _memfd(name: str) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | _MFD_NOEXEC_SEAL)
    except OSError:
        return os.memfd_create(name, flags)


def _seal(fd: int) -> None:
    try:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS | _F_SEAL_FUTURE_WRITE)
    except OSError:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
