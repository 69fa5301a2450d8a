"""The source that reads published files whose fds were handed to this process over a Unix socket (SCM_RIGHTS).

For readers without access to the publisher's /proc/PID/fd: the publisher chooses who reads. It hands over a file by
``Publication.send``; ``PassedSource.receive`` takes it, with the sender's pid as reported by the kernel.
Not here: which files are accepted (``publishers``), files that are found (``published``).
Rule: as in ``published``. A file belongs to the process that sent it, which must be its publisher: when that process
ends, the file is no longer read, however long the memory lives. No fd stays open: a mapping holds the file.
Source: unix(7), SCM_RIGHTS and SCM_CREDENTIALS.
"""

from __future__ import annotations

import array
import socket
import struct
import time
from pathlib import Path
from typing import Final, NamedTuple

from ..closing import Closable
from ..codec.publication import FILE_LIMIT
from ..errors import FormatError
from ..linux.files import PROC
from ..linux.memfd import NotShared, let_go, map_shared
from ..sample import Gap, Sample
from ..schema import Schema
from .publishers import BAD_LIMIT, Publishers

_CREDENTIALS: Final = struct.Struct("=iII")  # pid, uid, gid
_MOST_FDS: Final = 253  # SCM_MAX_FD
_MESSAGE_SIZE: Final = 4096
_ANCILLARY_SIZE: Final = socket.CMSG_SPACE(4 * _MOST_FDS) + socket.CMSG_SPACE(_CREDENTIALS.size)


class PassedSource(Closable):
    """Reads the files that were handed over, until the publisher ends the publication or exits.

    ``proc``: where the proc file system is mounted. Raises Unavailable if there is none, or no way to distinguish
    memfds (before Linux 5.14).
    """

    def __init__(self, *, proc: Path = Path(PROC)) -> None:
        self._proc = proc
        self._publishers = Publishers(proc)
        self._strangers: list[Gap] = []

    @property
    def name(self) -> str:
        return "passed"

    @property
    def schemas(self) -> tuple[Schema, ...]:
        """The schemas of the files that were handed over and have not ended."""
        self._publishers.refresh()
        return self._publishers.schemas

    def receive(self, connection: socket.socket) -> bool:
        """Take the files of one message; waits for it, unless the socket is non-blocking.

        False if the other end has hung up, or has sent so many bad files that no more are accepted from it.
        A file that is rejected is a gap for as long as its sender lives. Raises OSError as recvmsg(2) does.
        """
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        message = _receive(connection)
        for fd in message.fds:
            self.take(fd, message.pid)
        if message.lost:
            self._reject(message.pid, "a message with more files than this process may have open")
        sender = self._publishers.by_pid.get(message.pid)
        return message.said and (sender is None or len(sender.bad) < BAD_LIMIT)

    def take(self, fd: int, pid: int) -> None:
        """Add the file ``fd``, which process ``pid`` publishes. Closes ``fd`` in any case."""
        try:
            self._take(fd, pid)
        finally:
            let_go(fd, mount=self._publishers.mount, proc_root=str(self._proc))

    def read(self) -> Sample:
        """One sample of all files that were handed over and have not ended. Raises ValueError after ``close``."""
        self._publishers.refresh()
        taken_ns, monotonic_ns = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return self._publishers.sample(
            source=self.name, taken_ns=taken_ns, monotonic_ns=monotonic_ns, gaps=self._strangers
        )

    def close(self) -> None:
        self._publishers.close()

    def _take(self, fd: int, pid: int) -> None:
        self._publishers.refresh()
        self._publishers.forget_schemas()
        process = self._publishers.by_pid.get(pid) or (self._publishers.meet(pid) if pid > 0 else None)
        if process is None:
            self._reject(pid, "a file of a process that has ended or is not visible here")
            return
        process.descriptions = len({id(file.schema) for file in process.files.values()})
        try:
            inode, mapping = map_shared(fd, mount=self._publishers.mount, limit=FILE_LIMIT, proc_root=str(self._proc))
            if inode in process.files:
                mapping.close()
                return
            file = self._publishers.understand(process, mapping)
            if file.about.owner_start not in (0, process.started):
                raise NotShared("another process publishes it")  # noqa: TRY301 - one place reports what is bad
        except (FormatError, NotShared, OSError) as error:
            self._reject(pid, str(error))
            return
        if file.about.live:
            process.keep(inode, file)
        else:
            mapping.close()

    def _reject(self, pid: int, reason: str) -> None:
        """Add a gap; if the process is known, it lasts as long as the process lives."""
        process = self._publishers.by_pid.get(pid)
        gap = Gap(f"process {pid}, a file that it sent: {reason}")
        if process is None:
            if len(self._strangers) < BAD_LIMIT and gap not in self._strangers:
                self._strangers.append(gap)
        elif len(process.bad) < BAD_LIMIT:
            process.bad[len(process.bad)] = gap


class _Message(NamedTuple):
    """``said``: False at the end of the connection. ``lost``: files were sent that could not be received."""

    said: bool
    fds: list[int]
    pid: int
    lost: bool


def _receive(connection: socket.socket) -> _Message:
    fds: array.array[int] = array.array("i")
    pid = 0
    text, ancillary, flags, _ = connection.recvmsg(_MESSAGE_SIZE, _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        elif level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid = _CREDENTIALS.unpack(data)[0]
    if not pid:  # sent before SO_PASSCRED was set: the peer that connected, then
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid = _CREDENTIALS.unpack(peer)[0]
    return _Message(bool(text or fds), fds.tolist(), pid, bool(flags & socket.MSG_CTRUNC))
