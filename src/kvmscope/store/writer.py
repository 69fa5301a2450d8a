"""Writes a recording: scenes go to a journal at once, and from there to segments.

Rule: whenever it is stopped, by a signal, a full disk or a power cut, each flushed scene exists once and can be read
back. A scene that cannot be written is lost with a reported reason, and the next one is tried: no disk error ends the
recorder.
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
from .compactor import Compactor
from .journal import JournalWriter, load_conversions
from .ring import RingLimits
from .storage import Storage, sync_directory

SEGMENT_BYTES = 64 << 20
"""Raw bytes of scenes that make a segment."""
SEGMENT_S = 600.0
"""Longest time in seconds that a segment covers."""
FLUSH_S = 5.0
_SEGMENTS_IN_A_RING = 8
"""Minimum number of segments in a ring; with fewer, deleting the oldest one would delete most of the ring."""


class RecordingWriter:
    """Appends scenes to the recording in a directory, which is created if missing. Close when done.

    ``upload_to``: an object store for the segments. Then the directory is a spool of data not yet uploaded, which can
    be read as a separate recording.

    ``on_cut`` is called when a journal is complete; by default it makes a segment at once. To compact in another
    thread, pass a function that wakes it, and call ``compactor.run`` there.
    """

    def __init__(
        self,
        directory: Path,
        *,
        limits: RingLimits | None = None,
        upload_to: Storage | None = None,
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
        segment_s = min([segment_s, *(bound_s / _SEGMENTS_IN_A_RING for bound_s in limits.bounds_s)])
        self._segment_bytes, self._segment_ns, self._flush_ns = segment_bytes, segment_s * 1e9, flush_s * 1e9
        self._journal: JournalWriter | None = None
        self._began_ns = self._flushed_ns = 0
        spool = Storage(str(directory))
        segments = spool if upload_to is None else upload_to
        places = [spool] if upload_to is None else [spool, upload_to]
        _check(*places)
        load_conversions()
        self._lock = _lock(directory)
        try:
            self._lock = _bring_up_to_date(self._lock, *places)
            _refuse_links(spool)
            (directory / layout.JOURNAL).mkdir(exist_ok=True)
            self._number = _largest_number(*places)
            self.compactor = Compactor(spool, segments, limits, segment_bytes=segment_bytes)
            self._on_cut = on_cut or self.compactor.run
            self._on_cut()
        except BaseException:
            self._unlock()
            raise

    def append(self, scene: Scene) -> None:
        """Write one scene. Raises OSError if writing fails, MemoryError; the next scene then goes to a new journal.

        Raises JournalGone, an OSError, if the journal was removed; the scenes in it are lost with this one.
        """
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
        except (OSError, MemoryError):
            self._abandon()
            raise

    def flush(self) -> None:
        """Sync appended scenes to the disk. Raises OSError."""
        if self._journal is not None:
            self._journal.flush()

    def close(self) -> None:
        """Make a segment of the rest. Raises OSError if its last bytes cannot be written, JournalGone."""
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
        """Abandon a journal after a failed write. Its complete scenes can still be read."""
        journal, self._journal = self._journal, None
        if journal is None:
            return
        with contextlib.suppress(OSError):
            journal.close()
        if journal.scenes:
            self.compactor.add(self._number)
        else:  # otherwise each new scene on a full disk would leave an empty file
            with contextlib.suppress(OSError):
                (self.directory / layout.journal_path(self._number)).unlink()


def _check(*places: Storage) -> None:
    """Check all places before creating recordings in them: if one is something else, all stay unchanged. Raises
    RecordingError, UsageError."""
    for place in [place for place in places if _is_new(place)]:
        _write_about(place)


def _refuse_links(spool: Storage) -> None:
    """Raises RecordingError if a part of the recording is behind a link: no reader would see it."""
    spool.files()
    for error in spool.unfollowed((*layout.PARTS, layout.EPISODES)):
        raise error


def _is_new(place: Storage) -> bool:
    if place.directory is not None and place.directory.exists() and not place.directory.is_dir():
        raise RecordingError("it is not a directory", path=place.place)
    if not place.has():
        return True
    if place.has(layout.ABOUT):
        _version(place)
        return False
    is_empty = not any(place.directory.iterdir()) if place.directory is not None else not place.files()
    if not is_empty:
        raise UsageError(f"{place.place} is not empty and not a recording; name a new directory")
    return True


def _version(place: Storage) -> int:
    about = place.read(layout.ABOUT).decode("utf-8", "replace")
    return layout.check_about(about, place.name(layout.ABOUT))


def _write_about(place: Storage) -> None:
    place.write(layout.ABOUT, lambda sink: sink.write(layout.about_text().encode()))


def _bring_up_to_date(lock: int, *places: Storage) -> int:
    """Update the version of places with an older layout. Returns the lock that is held afterwards."""
    old = [place for place in places if _version(place) < layout.VERSION]
    for place in old:
        _write_about(place)
    directory = places[0].directory
    assert directory is not None
    if places[0] not in old:
        return lock
    os.close(lock)  # it locks the replaced file
    return _lock(directory)


def _largest_number(*places: Storage) -> int:
    """The largest number of any part of a recording; 0 if there is none."""
    paths = [path for place in places for path in place.files()]
    segments = [place.last for path in paths if (place := layout.segment_of_file(path))]
    journals = [number for path in paths if (number := layout.journal_number(path)) is not None]
    return max([*segments, *journals], default=0)


def _lock(directory: Path) -> int:
    """Lock out other writers for as long as the file is open."""
    fd = os.open(directory / layout.ABOUT, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise UsageError(f"another kvmscope is recording to {directory}") from None
    return fd
