"""Limits of this process on files, memory and threads: if one is too low, an error names it and the remedy.

It raises the limit of open files to the allowed maximum.
"""

from __future__ import annotations

import errno
import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import KvmscopeError, SourceError, Unavailable, UsageError

_AT_LEAST = 64
_MORE_FILES = "a higher limit of open files, such as `ulimit -n 4096`"
_MORE_MEMORY = "more memory: a higher limit of the process or its cgroup (`ulimit -v`, MemoryMax=), or fewer programs"
_MORE_THREADS = "a higher limit of processes of the user or its cgroup (`ulimit -u`, TasksMax=)"

_NOT_MAPPED = ("failed to map segment", "cannot allocate memory", "cannot map", "cannot apply additional memory")
"""Messages of the dynamic linker (elf/dl-load.c, elf/dl-map-segments.h) if there is no memory for a library."""

_NO_THREAD = "can't start new thread"
"""The message of Python's RuntimeError (Modules/_threadmodule.c) if the kernel refuses another thread."""


def require_open_files() -> None:
    """Raise the limit of open files as far as allowed: reading by stats fds needs one fd for each vCPU.

    Raises Unavailable if the limit is so low that a source would seem not to work.
    """
    limit, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != highest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))
    if highest != resource.RLIM_INFINITY and highest < _AT_LEAST:
        raise Unavailable(
            f"this process may have {highest} files open, and kvmscope needs up to {_AT_LEAST}",
            remedy=_MORE_FILES,
            errno=errno.EMFILE,
        )


@contextmanager
def limited_memory(more_bytes: int) -> Iterator[None]:
    """In the block, the kernel grants this process at most ``more_bytes`` more memory than it has. For C code that
    allocates on its own. Source: setrlimit(2), RLIMIT_DATA: private writable mappings."""
    limit, highest = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = _data_bytes() + more_bytes
    bounds = [each for each in (limit, highest) if each != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([wanted, *bounds]), highest))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, highest))


def _data_bytes() -> int:
    """The memory of this process that RLIMIT_DATA counts. Source: proc_pid_status(5), VmData."""
    found = re.search(rb"VmData:\s*(\d+) kB", Path("/proc/self/status").read_bytes())
    return int(found[1]) << 10 if found else 0


def unusable(error: BaseException) -> KvmscopeError | None:
    """The error to show for an exception caused by a lack of files, memory or threads, a removed current directory, or
    a broken third-party package; None for any other exception."""
    if isinstance(error, ImportError):
        return _not_loaded(error)
    if isinstance(error, MemoryError):
        return _no_memory()
    if isinstance(error, RuntimeError) and _NO_THREAD in str(error):
        return Unavailable("no more threads can be started", remedy=_MORE_THREADS, errno=errno.EAGAIN)
    if isinstance(error, FileNotFoundError) and _is_directory_gone():
        return UsageError("the current directory was removed; change to another one")
    return _exhausted_by_kernel(error) if isinstance(error, OSError) else None


def _is_directory_gone() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 - Path.cwd() does the same
    except FileNotFoundError:
        return True
    return False


def _not_loaded(error: ImportError) -> SourceError | None:
    """The error for a failed import, by its first cause: packages wrap the dynamic linker's message in other errors."""
    causes = list(_causes(error))
    if any(isinstance(cause, MemoryError) or _is_unmapped(cause) for cause in causes):
        return _no_memory()
    first = causes[-1]
    name = str(getattr(first, "name", None) or error.name or "a package")
    if name.startswith("kvmscope"):
        return None  # a bug of kvmscope
    reason = str(first).strip().partition("\n")[0]
    return Unavailable(f"{name} cannot be loaded: {reason}", remedy="install kvmscope and its extras again")


def _no_memory(path: str | None = None) -> SourceError:
    return Unavailable("there is not enough memory", remedy=_MORE_MEMORY, path=path, errno=errno.ENOMEM)


def _exhausted_by_kernel(error: OSError) -> SourceError | None:
    path = None if error.filename is None else os.fsdecode(error.filename)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        reason = f"no more files can be opened: {error.strerror}"
        return Unavailable(reason, remedy=_MORE_FILES, path=path, errno=error.errno)
    if error.errno == errno.ENOMEM:
        return _no_memory(path)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _is_unmapped(error: BaseException) -> bool:
    text = str(error).lower()
    return any(said in text for said in _NOT_MAPPED)
