"""Writes a recording: scenes go to a journal at once, and from there to segments.

Rule: whenever it is stopped, by a signal, a full disk or a power cut, what was flushed is there once and is read back.
A scene that cannot be written is lost with its reason, and the next one is tried: the recorder never ends by its disk.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import RecordingError, UsageError
from ..scene import Scene
from . import layout
from .columns import tables_of
from .epochs import EpochTracker
from .journal import JournalWriter, read_journal
from .layout import SegmentPlace
from .segment import write_segment
from .storage import Storage, sync_directory

SEGMENT_BYTES = 128 << 20
"""Raw bytes of scenes that make a segment."""
SEGMENT_S = 600.0
"""Seconds of scenes that make one at the latest."""
FLUSH_S = 5.0


class RecordingWriter:
    """Appends scenes to the recording in a directory, which is made if it is not there. Close when done."""

    def __init__(
        self,
        directory: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        segment_s: float = SEGMENT_S,
        flush_s: float = FLUSH_S,
    ) -> None:
        """Raises RecordingError if the directory holds something else, OSError."""
        self.directory = directory
        self._segment_bytes, self._segment_ns, self._flush_ns = segment_bytes, segment_s * 1e9, flush_s * 1e9
        self._storage = Storage(str(directory))
        self._epochs = EpochTracker()
        self._journal: JournalWriter | None = None
        self._began_ns = self._flushed_ns = 0
        self._number = _prepare(directory)
        self._finish_old_journals()

    def append(self, scene: Scene) -> None:
        """Write one scene. Raises OSError if the disk does not take it: the next one goes to a new journal."""
        now_ns = scene.sample.monotonic_ns
        if self._journal is not None and self._is_full(now_ns):
            self._cut()
        try:
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
        """Make a segment of what is left. Raises OSError."""
        if self._journal is not None:
            self._cut()

    def _is_full(self, now_ns: int) -> bool:
        assert self._journal is not None
        return self._journal.raw_bytes >= self._segment_bytes or now_ns - self._began_ns >= self._segment_ns

    def _cut(self) -> None:
        journal, self._journal = self._journal, None
        assert journal is not None
        journal.close()
        self._compact(self._number)

    def _abandon(self) -> None:
        """Leave a journal that could not be written to; what it has is read as far as it goes."""
        journal, self._journal = self._journal, None
        if journal is not None:
            try:
                journal.close()
            except OSError:
                return

    def _finish_old_journals(self) -> None:
        """Make segments of the journals that an earlier writer left, and drop those that have become segments."""
        done = {place.number for path in self._storage.files() if (place := layout.segment_of(path))}
        for path in sorted(self._storage.files()):
            number = layout.journal_number(path)
            if number is not None and number in done:
                self._storage.delete(path)
            elif number is not None:
                self._compact(number)

    def _compact(self, number: int) -> None:
        path = layout.journal_path(number)
        scenes = read_journal(self.directory / path).scenes
        if scenes:
            first = scenes[0].sample
            host = first.origin.host if first.origin else "unknown"
            write_segment(self._storage, SegmentPlace.of(number, host, first.taken_ns), tables_of(scenes, self._epochs))
        self._storage.delete(path)


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
