"""A sealed memfd of another process, opened and mapped without trusting that process.

Not here: its contents. Rule: nothing that its owner does may crash or hang this process.
- The text of a /proc/PID/fd link can be forged by a file system of the owner's, whose open or stat may never return.
  So the file is first opened with O_PATH, which does not call the file system, and its mount is compared with that of
  a memfd of our own: the kernel keeps all memfds on one internal mount.
- Reading a mapping of a file that has shrunk kills the reader. So the file must be sealed against shrinking.
- Reading a hole allocates memory. So the size is limited.
Source: memfd_create(2), proc_pid_fdinfo(5), open(2); mm/shmem.c.
"""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import suppress

from ..errors import Unavailable
from . import libc, procfs
from .files import PROC


class NotShared(Exception):
    """The file is rejected; the text is the reason."""


class Mapping:
    """A read-only mapping that holds no fd, unlike those of ``mmap.mmap``: a host has thousands of such files."""

    __slots__ = ("_address", "size", "uid")

    def __init__(self, fd: int, size: int, *, uid: int) -> None:
        """``uid``: the user who made the file; only root can change it afterwards."""
        self._address: int | None = None  # for __del__, if the next line fails
        self.size = size
        self.uid = uid
        self._address = libc.map_for_reading(fd, size)

    def read(self, offset: int, size: int) -> bytes:
        """A copy of ``size`` bytes from ``offset``. ValueError outside the mapping or after ``close``."""
        if self._address is None or offset < 0 or size < 0 or offset + size > self.size:
            raise ValueError(f"{size} bytes at {offset} of a mapping of {self.size}")
        return libc.copy_from(self._address + offset, size)

    def close(self) -> None:
        """Idempotent."""
        if self._address is not None:
            libc.unmap(self._address, self.size)
            self._address = None

    def __del__(self) -> None:
        self.close()


def own_mount(*, proc_root: str = PROC) -> str:
    """The id of the mount on which the kernel keeps memfds. Raises Unavailable if the kernel does not report it."""
    fd = os.memfd_create("kvmscope-mount", os.MFD_CLOEXEC)
    try:
        mount, _ = _identity(fd, proc_root=proc_root)
    finally:
        os.close(fd)
    return mount


def find(pid: int, prefixes: tuple[str, ...], *, mount: str, proc_root: str = PROC) -> dict[int, int]:
    """The memfds of a process whose names have one of these prefixes: fd number by inode.

    The inode identifies a memfd within a boot. OSError if the process is gone or may not be inspected.
    """
    links = tuple(f"/memfd:{prefix}" for prefix in prefixes)
    found = {}
    # Paths are resolved from the directory, not from the root: a host has tens of thousands of these links.
    directory = os.open(f"{proc_root}/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            with suppress(FileNotFoundError):
                if os.readlink(name, dir_fd=directory).startswith(links):
                    its_mount, inode = _identity(int(name), pid, proc_root=proc_root)
                    if its_mount == mount:
                        found[inode] = int(name)
    finally:
        os.close(directory)
    return found


def open_shared(pid: int, number: int, *, mount: str, limit: int, proc_root: str = PROC) -> Mapping:
    """A mapping of the memfd that is file ``number`` of process ``pid``.

    ``mount``: from ``own_mount``; a file of more than ``limit`` bytes is rejected. Raises NotShared with the reason,
    or OSError if the process or file is gone, or may not be opened.
    """
    place = os.open(f"{proc_root}/{pid}/fd/{number}", os.O_PATH | os.O_CLOEXEC)
    try:
        # Checked again: the owner may have put another file in its place since ``find``.
        its_mount, _ = _identity(place, proc_root=proc_root)
        if its_mount != mount:
            raise NotShared("not shared memory, whatever its name says")
        fd = os.open(procfs.fd_path(place, proc_root=proc_root), os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(place)
    try:
        return _map(fd, limit)
    finally:
        os.close(fd)


def map_shared(fd: int, *, mount: str, limit: int, proc_root: str = PROC) -> tuple[int, Mapping]:
    """The inode and a mapping of a memfd that another process passed to this one.

    ``mount``, ``limit`` and errors as for ``open_shared``. The caller keeps ownership of the fd.
    """
    its_mount, inode = _identity(fd, proc_root=proc_root)
    if its_mount != mount:
        raise NotShared("not shared memory")
    return inode, _map(fd, limit)


def let_go(fd: int, *, mount: str, proc_root: str = PROC) -> None:
    """Close an fd that another process passed to this one.

    Closing a file of another file system calls into it and may never return (FUSE), and the last close of a socket may
    linger: the caller does not wait for that.
    """
    its_mount, _ = _identity(fd, proc_root=proc_root)
    if its_mount == mount:
        os.close(fd)
    else:
        threading.Thread(target=os.close, args=(fd,), daemon=True).start()


def _map(fd: int, limit: int) -> Mapping:
    if not fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
        raise NotShared("not sealed against shrinking")
    about = os.fstat(fd)
    size = about.st_size
    if not 0 < size <= limit:
        raise NotShared(f"{size} bytes, where 1 to {limit} are accepted")
    return Mapping(fd, size, uid=about.st_uid)


def _identity(fd: int, pid: int | None = None, *, proc_root: str = PROC) -> tuple[str, int]:
    """Mount and inode of an open file; reads only /proc, and does not call the file's own file system."""
    said = procfs.read_fdinfo(fd, pid, proc_root=proc_root)
    if "mnt_id" not in said or "ino" not in said:
        raise Unavailable("this kernel does not say which file an fd is", remedy="Linux 5.14 or newer")
    return said["mnt_id"], int(said["ino"])
