"""Reads /proc: the identity of a process, its open files, the names of its threads.

Nothing is interpreted here: ``host.vmm`` identifies VMMs, and ``kvmfiles`` knows KVM's files.

Rule: a process that is gone, or that this user may not inspect, is ``None`` (or a missing key), never an exception and
never an empty answer. A ``Process`` holds the directory of its process open, so all its reads are of one process, even
if its pid is reused during the read. Text is decoded as UTF-8 with ``\\xff`` for invalid bytes, so every string here
can be encoded again (JSON included).

Source: Documentation/filesystems/proc.rst; fs/proc/array.c (stat), fs/proc/base.c, fs/proc/fd.c (fdinfo).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..closing import Closable
from .files import PROC
from .libc import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

_MAX_FILE_BYTES = 16 << 20
"""More than the largest argv of the kernel (6 MiB); limits the memory that a hostile process can make a reader use."""

_OUR_OWN_FAULT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors that are not due to the inspected process, so they must not be taken for "gone"."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """``/proc/PID/stat``.

    ``start_ticks``: clock ticks since boot; with the pid it identifies a process permanently. ``argv_address``: the
    address of its command line, which changes at each exec; 0 without the right to ptrace it.
    """

    comm: str
    state: str
    parent_pid: int
    start_ticks: int
    argv_address: int


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """``/proc/PID/status``. ``ns_pids``: the pid in each pid namespace, outermost first; None before Linux 4.1."""

    tgid: int
    real_uid: int
    effective_uid: int
    ns_pids: tuple[int, ...] | None


class Process(Closable):
    """One process, by its open directory. A context manager; every read returns None once the process is gone."""

    __slots__ = ("_directory", "pid")

    def __init__(self, pid: int, directory: int) -> None:
        self.pid = pid
        self._directory = directory

    def close(self) -> None:
        """Close the directory of the process. Idempotent."""
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1

    def stat(self) -> ProcessStat | None:
        """Name, state, parent and start; readable by everybody."""
        return _parsed(_parse_stat, self._read("stat"))

    def status(self) -> ProcessStatus | None:
        """Thread group, user ids, pids in nested namespaces; readable by everybody."""
        return _parsed(_parse_status, self._read("status"))

    def argv(self) -> tuple[str, ...] | None:
        """Its command line as it is in its memory now; empty for a kernel thread, a zombie, or during an exec."""
        data = self._read("cmdline")
        return None if data is None else _split_argv(data)

    def cgroups(self) -> tuple[str, ...] | None:
        """Its cgroup paths, one per hierarchy, the unified one (if any) last."""
        data = self._read("cgroup")
        if data is None:
            return None
        return tuple(line.split(":", 2)[2] for line in _text(data).splitlines() if line.count(":") >= 2)

    def unified_groups(self) -> dict[int, str] | None:
        """The cgroup of each of its threads in the unified hierarchy, by thread id; readable by everybody."""
        return self._each("task", _read_unified_group)

    def executable(self) -> str | None:
        """Path of its program in its own root; needs the right to ptrace it."""
        return _attempt(lambda: _text(os.readlink(b"exe", dir_fd=self._directory)))

    def working_directory(self) -> str | None:
        """Path of its working directory in its own root; needs the right to ptrace it."""
        return _attempt(lambda: _text(os.readlink(b"cwd", dir_fd=self._directory)))

    def fd_links(self) -> dict[int, str] | None:
        """The link text of each of its file descriptors, by fd; needs the right to ptrace it."""
        return self._each("fd", lambda number, directory: _read_link(str(number), directory))

    def threads(self) -> dict[int, str] | None:
        """Thread id to thread name (at most 15 bytes), by thread id; readable by everybody."""
        return self._each("task", _read_comm)

    def mapped_files(self) -> frozenset[str] | None:
        """Paths of the files that it has mapped; needs the right to ptrace it."""
        data = self._read("maps")
        if data is None:
            return None
        columns = (line.split(None, 5) for line in _text(data).splitlines())
        return frozenset(column[5] for column in columns if len(column) == 6 and column[5].startswith("/"))

    def _read(self, name: str) -> bytes | None:
        return _read_at(name, self._directory)

    def _each(self, name: str, read: Callable[[int, int], str | None]) -> dict[int, str] | None:
        """``read(number, directory fd)`` for each numbered entry of a subdirectory, without those that vanished."""
        directory = _attempt(lambda: os.open(name, _DIRECTORY, dir_fd=self._directory))
        if directory is None:
            return None
        try:
            numbers = _attempt(lambda: _numbers(directory))
            if numbers is None:
                return None
            found = ((number, read(number, directory)) for number in numbers)
            return {number: text for number, text in found if text is not None}
        finally:
            os.close(directory)


_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_CLOEXEC


def open_process(pid: int, *, proc_root: str = PROC) -> Process | None:
    """The process ``pid``, to be closed by the caller; None if there is none."""
    directory = _attempt(lambda: os.open(f"{proc_root}/{pid}", _DIRECTORY))
    return None if directory is None else Process(pid, directory)


def read_stat(pid: int, *, proc_root: str = PROC) -> ProcessStat | None:
    """``Process.stat`` for a caller that needs nothing else; None if the process is gone."""
    return _parsed(_parse_stat, read_file(f"{proc_root}/{pid}/stat"))


def iter_pids(*, proc_root: str = PROC) -> Iterator[int]:
    """The pids of all processes (not threads) that this user can see, in no order."""
    with os.scandir(proc_root) as entries:
        for entry in entries:
            if entry.name.isdecimal():
                yield int(entry.name)


def start_ticks(pid: int, *, proc_root: str = PROC) -> int:
    """``ProcessStat.start_ticks``. Raises ProcessLookupError if the process is gone."""
    stat = read_stat(pid, proc_root=proc_root)
    if stat is None:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), f"{proc_root}/{pid}")
    return stat.start_ticks


def read_status(pid: int, *, proc_root: str = PROC) -> ProcessStatus | None:
    """``Process.status`` for a caller that needs nothing else; None if the process is gone."""
    return _parsed(_parse_status, read_file(f"{proc_root}/{pid}/status"))


def thread_ids(pid: int, *, proc_root: str = PROC) -> list[int]:
    """The ids of its threads, sorted; empty if it has ended or may not be inspected."""
    try:
        return sorted(map(int, os.listdir(f"{proc_root}/{pid}/task")))  # noqa: PTH208
    except OSError:
        return []


def has_thread(pid: int, tid: int, *, proc_root: str = PROC) -> bool:
    """Whether ``tid`` is a thread of a process."""
    return Path(f"{proc_root}/{pid}/task/{tid}").exists()


def fd_path(fd: int, *, proc_root: str = PROC) -> str:
    """The /proc path of an ``fd`` of this process; its link text describes the file."""
    return f"{proc_root}/self/fd/{fd}"


def own_fds(*, proc_root: str = PROC) -> list[int]:
    """The file descriptors of this process."""
    return [int(path.name) for path in Path(f"{proc_root}/self/fd").iterdir()]


def read_fdinfo(fd: int, pid: int | None = None, *, proc_root: str = PROC) -> dict[str, str]:
    """The kernel's fdinfo of an open file of a process (None: of this one); does not access the file itself.

    Raises OSError if there is no such file or process, or it may not be inspected.
    """
    place = os.open(f"{proc_root}/{'self' if pid is None else pid}/fdinfo/{fd}", _FILE)
    lines = _text(_read_whole(place, _MAX_FILE_BYTES) or b"").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def read_file(path: str, *, max_bytes: int = _MAX_FILE_BYTES) -> bytes | None:
    """The contents of a small file; None if it does not exist, may not be read, or is larger than ``max_bytes``.

    The path may be in a place that a guest's owner controls: a link at its end is refused, a pipe does not block.
    """
    return _attempt(lambda: _read_whole(os.open(path, _FILE | os.O_NOFOLLOW | os.O_NONBLOCK), max_bytes))


def read_file_below(root: str, path: str, *, max_bytes: int = _MAX_FILE_BYTES) -> bytes | None:
    """As ``read_file``, in an untrusted tree: every link is resolved relative to ``root``, so none leads out of it.

    None also before Linux 5.6, which lacks openat2(2).
    """
    return _attempt(lambda: _read_whole(_open_below(root, path, _FILE | os.O_NOFOLLOW | os.O_NONBLOCK), max_bytes))


def _open_below(root: str, path: str, flags: int) -> int:
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return openat2(directory, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    finally:
        os.close(directory)


def _read_at(name: str, directory: int) -> bytes | None:
    return _attempt(lambda: _read_whole(os.open(name, _FILE, dir_fd=directory), _MAX_FILE_BYTES))


def _read_whole(fd: int, max_bytes: int) -> bytes | None:
    try:
        chunks: list[bytes] = []
        size = 0
        while chunk := os.read(fd, 1 << 16):
            chunks.append(chunk)
            size += len(chunk)
            if size > max_bytes:
                return None
        return b"".join(chunks)
    finally:
        os.close(fd)


def _numbers(directory: int) -> list[int]:
    with os.scandir(directory) as entries:
        return sorted(int(entry.name) for entry in entries if entry.name.isdecimal())


def _read_comm(tid: int, directory: int) -> str | None:
    comm = _read_at(f"{tid}/comm", directory)
    return None if comm is None else _text(comm).removesuffix("\n")


def _read_unified_group(tid: int, directory: int) -> str | None:
    text = _text(_read_at(f"{tid}/cgroup", directory) or b"")
    groups = (line.removeprefix("0::") for line in text.splitlines() if line.startswith("0::/"))
    return next(groups, None)


def _read_link(name: str, directory: int) -> str | None:
    return _attempt(lambda: _text(os.readlink(name.encode(), dir_fd=directory)))


def _attempt(read: Callable[[], _T]) -> _T | None:
    """The result of ``read``, or None if the process is gone or may not be inspected."""
    try:
        return read()
    except OSError as error:
        if error.errno in _OUR_OWN_FAULT:
            raise
        return None


def _parsed(parse: Callable[[str], _T], data: bytes | None) -> _T | None:
    """The parsed data; None if it is not in the kernel's format, as in a damaged captured tree."""
    if data is None:
        return None
    try:
        return parse(_text(data))
    except (ValueError, IndexError, KeyError):
        return None


def _parse_stat(text: str) -> ProcessStat:
    # The name may itself contain parentheses, spaces and newlines, so the last parenthesis ends it.
    opening, closing = text.index("("), text.rindex(")")
    fields = text[closing + 1 :].split()
    return ProcessStat(
        comm=text[opening + 1 : closing],
        state=fields[0],
        parent_pid=int(fields[1]),
        start_ticks=int(fields[19]),
        argv_address=int(fields[45]),
    )


def _parse_status(text: str) -> ProcessStatus:
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    real, effective = fields["Uid"].split()[:2]
    nested = fields.get("NSpid")
    pids = None if nested is None else tuple(int(pid) for pid in nested.split())
    return ProcessStatus(int(fields["Tgid"]), int(real), int(effective), pids)


def _split_argv(data: bytes) -> tuple[str, ...]:
    if not data:
        return ()
    return tuple(_text(part) for part in data.removesuffix(b"\0").split(b"\0"))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
