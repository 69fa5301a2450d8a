"""Temporary directories; those left behind are removed when a later process needs one.

A killed process removes nothing, and one that must end soon after a signal may not have the time. So each directory is
locked as long as its process lives, and a process that creates one removes directories without a lock holder.
Rule: only a directory of this user with such a name is removed, if it has the marker file or is empty; links are not
followed. A directory to which a user gave a similar name stays.
Source: flock(2): a lock belongs to the open file, and is released when the last process closes it.
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
"""Used instead of the fd of a lock if there are no locks."""
_TRIES: Final = 10
"""Attempts to create a directory, as another process may remove it as abandoned before it is locked."""


class OwnedDirectory(Closable):
    """A temporary directory of this process, at ``path``. A context manager; ``close`` removes it and its contents."""

    def __init__(self, purpose: str) -> None:
        """``purpose``: a word in its name. Raises OSError if it cannot be created."""
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
        """Remove it. Files that cannot be removed stay."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock != _WITHOUT:
            os.close(self._lock)
            self._lock = _WITHOUT


def remove_abandoned() -> None:
    """Remove the directories that processes of this user have left behind."""
    with suppress(OSError):  # there is no directory for them, or it has no locks
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
        with suppress(OSError):  # it is not empty
            path.rmdir()


def _own_lock(path: Path) -> int | None:
    """The lock of a new directory; ``_WITHOUT`` on a file system without locks."""
    try:
        return _lock_of(path)
    except OSError:
        return _WITHOUT


def _lock_of(path: Path) -> int | None:
    """An fd with the lock of a directory of this user; None if another process holds it or has removed the directory.
    Raises OSError if the file system has no locks."""
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
