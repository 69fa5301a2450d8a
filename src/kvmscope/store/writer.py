"""Writes a recording: scenes go to a journal at once, and from there to segments.

Rule: whenever it is stopped, by a signal, a full disk or a power cut, what was flushed is there once and is read back.
A scene that cannot be written is lost with its reason, and the next one is tried: the recorder never ends by its disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from ..errors import RecordingError, UsageError
from ..scene import Scene
from . import layout
from .compactor import Compactor, RingLimits
from .journal import JournalWriter
from .storage import Storage, sync_directory

SEGMENT_BYTES = 64 << 20
"""Raw bytes of scenes that make a segment."""
SEGMENT_S = 600.0
"""Seconds of scenes that make one at the latest."""
FLUSH_S = 5.0
_SEGMENTS_IN_A_RING = 8
"""At least so many segments make a ring, or deleting the oldest one would delete most of it."""


class RecordingWriter:
    """Appends scenes to the recording in a directory, which is made if it is not there. Close when done.

    ``on_cut`` is called when a journal is complete, by default to make a segment of it at once; who compacts in another
    thread passes what wakes it, and calls ``compactor.run`` there.
    """

    def __init__(
        self,
        directory: Path,
        *,
        limits: RingLimits | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        segment_s: float = SEGMENT_S,
        flush_s: float = FLUSH_S,
        on_cut: Callable[[], None] | None = None,
    ) -> None:
        """Raises RecordingError if the directory holds something else, UsageError if it is being written, OSError."""
        self.directory = directory
        limits = limits or RingLimits()
        if limits.size_bytes is not None:
            segment_bytes = min(segment_bytes, limits.size_bytes // _SEGMENTS_IN_A_RING)
        if limits.keep_s is not None:
            segment_s = min(segment_s, limits.keep_s / _SEGMENTS_IN_A_RING)
        self._segment_bytes, self._segment_ns, self._flush_ns = segment_bytes, segment_s * 1e9, flush_s * 1e9
        self._journal: JournalWriter | None = None
        self._began_ns = self._flushed_ns = 0
        self._number = _prepare(directory)
        self._lock = _lock(directory)
        try:
            self.compactor = Compactor(Storage(str(directory)), limits)
            self._on_cut = on_cut or self.compactor.run
            self._on_cut()
        except BaseException:
            self._unlock()
            raise

    def append(self, scene: Scene) -> None:
        """Write one scene. Raises OSError if the disk does not take it: the next one goes to a new journal."""
        now_ns = scene.sample.monotonic_ns
        try:
            if self._journal is not None and self._is_full(now_ns):
                self._cut()
            if self._journal is None:
                self._number += 1
                self._journal = JournalWriter(self.directory / layout.journal_path(self._number))
                sync_directory(self.directory / layout.JOURNAL)
                self._began_ns = self._flushed_ns = now_ns
            self._journal.append(scene)
            if now_ns - self._flushed_ns >= self._flush_ns:
                self.flush()
                self._flushed_ns = now_ns
        except OSError:
            self._abandon()
            raise

    def flush(self) -> None:
        """Bring what was appended to the disk. Raises OSError."""
        if self._journal is not None:
            self._journal.flush()

    def close(self) -> None:
        """Make a segment of what is left. Raises OSError if its last bytes cannot be written."""
        try:
            if self._journal is not None:
                self._cut()
        finally:
            self._unlock()

    def _unlock(self) -> None:
        fd, self._lock = self._lock, -1
        if fd >= 0:
            os.close(fd)

    def _is_full(self, now_ns: int) -> bool:
        assert self._journal is not None
        return self._journal.raw_bytes >= self._segment_bytes or now_ns - self._began_ns >= self._segment_ns

    def _cut(self) -> None:
        journal, self._journal = self._journal, None
        assert journal is not None
        try:
            journal.close()
        finally:
            self.compactor.add(self._number)
            self._on_cut()

    def _abandon(self) -> None:
        """Leave a journal that could not be written to; what it has is read as far as it goes."""
        journal, self._journal = self._journal, None
        if journal is None:
            return
        with contextlib.suppress(OSError):
            journal.close()
        if journal.scenes:
            self.compactor.add(self._number)
        else:  # on a full disk each new scene would leave an empty file
            with contextlib.suppress(OSError):
                (self.directory / layout.journal_path(self._number)).unlink()


def _prepare(directory: Path) -> int:
    """Make the directory a recording; the largest number that one of its parts has."""
    about = directory / layout.ABOUT
    if directory.exists() and not directory.is_dir():
        raise RecordingError("it is not a directory", path=str(directory))
    if about.exists():
        layout.check_about(about.read_text(encoding="utf-8", errors="replace"), str(about))
    elif directory.exists() and any(directory.iterdir()):
        raise UsageError(f"{directory} is not empty and not a recording; name a new directory")
    else:
        directory.mkdir(parents=True, exist_ok=True)
        Storage(str(directory)).write(layout.ABOUT, lambda sink: sink.write(layout.about_text().encode()))
    (directory / layout.JOURNAL).mkdir(exist_ok=True)
    files = Storage(str(directory)).files()
    segments = [place.number for path in files if (place := layout.segment_of(path))]
    journals = [number for path in files if (number := layout.journal_number(path)) is not None]
    return max([*segments, *journals], default=0)


def _lock(directory: Path) -> int:
    """Keep other writers out for as long as the file is open."""
    fd = os.open(directory / layout.ABOUT, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise UsageError(f"another kvmscope is recording to {directory}") from None
    return fd
