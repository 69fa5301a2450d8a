"""A file in shared memory that its maker alone can write and nobody can resize.

Not here: what is in the file. Source: memfd_create(2), fcntl(2) F_ADD_SEALS.
"""

from __future__ import annotations

import fcntl
import mmap
import os

# Python 3.11 has no names for these two.
_MFD_NOEXEC_SEAL = 0x8  # Linux 6.3; without it the kernel logs a warning once a boot, or refuses (vm.memfd_noexec=2)
_F_SEAL_FUTURE_WRITE = 0x10  # Linux 5.1: this mapping stays writable, no other can become so

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def create(name: str, content: bytes) -> mmap.mmap:
    """A sealed memfd called ``name`` that holds ``content``, mapped for writing.

    The mapping keeps the only fd to it, which /proc/PID/fd shows until the mapping is closed. OSError if the kernel
    refuses (too many open files, no memory, no memfd).
    """
    fd = _memfd(name)
    try:
        os.write(fd, content)
        mapping = mmap.mmap(fd, len(content))
        _seal(fd)
    finally:
        os.close(fd)
    return mapping


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
