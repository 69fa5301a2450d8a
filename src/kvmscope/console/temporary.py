"""Temporary directories that a process leaves behind at most until the next one needs some.

A process that is killed removes nothing, and one that ends within a deadline after a signal may not get to it. So each
directory is locked for as long as its process lives, and a process that makes one removes those that nobody holds.
Rule: what is removed is a directory of this user with such a name and the file that marks it, or an empty one; no link
is followed. A directory that a person has called similarly stays.
Source: flock(2): a lock is of the open file, and the kernel gives it up with the last process that has it open.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..closing import Closable

_PREFIX: Final = "kvmscope-tmp-"
_MARK: Final = ".removed-when-its-process-has-ended"
_WITHOUT: Final = -1
"""In place of the fd of a lock."""
_TRIES: Final = 10
"""How often one is made that a process which cleans up took for an abandoned one before it was locked."""


class OwnedDirectory(Closable):
    """A temporary directory of this process; ``path``. A context manager; closing it removes it and what is in it."""

    def __init__(self, purpose: str) -> None:
        """``purpose``: a word that its name has. Raises OSError if none can be made."""
        remove_abandoned()
        for _ in range(_TRIES):
            path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{purpose}-"))
            lock = _own_lock(path)
            if lock is not None:
                self.path, self._lock = path, lock
                (path / _MARK).touch()
                return
        raise FileExistsError(f"temporary directories in {tempfile.gettempdir()} are removed as soon as they are made")

    def close(self) -> None:
        """Remove it. What cannot be removed is left."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock != _WITHOUT:
            os.close(self._lock)
            self._lock = _WITHOUT


def remove_abandoned() -> None:
    """Remove the directories that processes of this user have left behind."""
    with suppress(OSError):  # there is no place for any, or it has no locks
        for path in _directories_of_kvmscope(Path(tempfile.gettempdir())):
            lock = _lock_of(path)
            if lock is not None:
                _remove(path)
                os.close(lock)


def _directories_of_kvmscope(place: Path) -> Iterator[Path]:
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.is_dir(follow_symlinks=False):
                yield Path(entry.path)


def _remove(path: Path) -> None:
    if (path / _MARK).exists():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # it has something in it
            path.rmdir()


def _own_lock(path: Path) -> int | None:
    """The lock of a directory that was just made; on a file system without locks it does without."""
    try:
        return _lock_of(path)
    except OSError:
        return _WITHOUT


def _lock_of(path: Path) -> int | None:
    """An fd with the lock of a directory of this user; None if somebody else has it, or has removed the directory.
    Raises OSError where there are no locks."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_uid == os.geteuid() and os.path.samestat(os.fstat(fd), os.lstat(path)):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(fd)
        raise
    os.close(fd)
    return None
