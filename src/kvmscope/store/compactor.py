"""Makes segments of journals that are complete, and deletes the oldest parts of a ring.

Rule: a journal is deleted only after its segment is on the disk. Journals become segments in their order; one that the
disk does not take is tried again later, and is read as it is until then.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow.parquet as pq

from ..errors import RecordingError
from . import layout
from .columns import tables_of
from .epochs import EpochTracker
from .journal import read_journal
from .layout import RecordingTable, SegmentPlace
from .segment import write_segment
from .storage import Storage


@dataclass(frozen=True, slots=True)
class RingLimits:
    """How much is kept: seconds before the newest scene, bytes of all files. None: all."""

    keep_s: float | None = None
    size_bytes: int | None = None


class Compactor:
    """For one thread at a time. ``trouble``: why the last journal could not become a segment; empty if it could."""

    def __init__(self, storage: Storage, limits: RingLimits | None = None) -> None:
        """Takes up the journals that an earlier writer left. Raises RecordingError, OSError."""
        self._storage = storage
        self._limits = limits or RingLimits()
        self._epochs = EpochTracker()
        self._pending: list[int] = []
        self._last_ns: dict[str, int] = {}
        self.trouble = ""
        self._take_up()

    def add(self, number: int) -> None:
        """The journal of this number is complete."""
        self._pending.append(number)

    def run(self) -> None:
        """Compact what is pending and trim the ring, as far as the disk allows; ``trouble`` says what it did not."""
        self.trouble = ""
        try:
            while self._pending:
                self._compact(self._pending[0])
                self._pending.pop(0)
            self._trim()
        except OSError as error:
            self.trouble = error.strerror or str(error)

    def _take_up(self) -> None:
        """Note the journals without a segment; delete the others, and what is left of segments half written."""
        files = self._storage.files()
        done = {place.number for path in files if (place := layout.segment_of(path))}
        for path in sorted(files):
            number, of_segment = layout.journal_number(path), layout.number_of_file(path)
            if number is not None and number not in done:
                self._pending.append(number)
            elif number is not None or (of_segment is not None and of_segment not in done):
                self._storage.delete(path)

    def _compact(self, number: int) -> None:
        path = layout.journal_path(number)
        try:
            scenes = read_journal(self._storage.local(path)).scenes
        except FileNotFoundError:
            return  # somebody has deleted it
        except RecordingError:
            return  # it is not a journal: left as it is, for who looks into it
        if scenes:
            first = scenes[0].sample
            host = first.origin.host if first.origin else "unknown"
            place = SegmentPlace.of(number, host, first.taken_ns)
            write_segment(self._storage, place, tables_of(scenes, self._epochs))
            self._last_ns[place.path(RecordingTable.SCENES)] = max(scene.sample.taken_ns for scene in scenes)
        self._storage.delete(path)

    def _trim(self) -> None:
        """Delete the oldest segments that are beyond the limits; the newest one stays."""
        if self._limits == RingLimits():
            return
        files = self._storage.files()
        places = sorted(place for path in files if (place := layout.segment_of(path)))
        total = sum(files.values())
        newest_ns = max((self._end_ns(place) for place in places[-1:]), default=0)
        for place in places[:-1]:
            if not self._is_beyond(place, total, newest_ns):
                return
            for table in reversed(RecordingTable):  # SCENES first: a segment without it is not one
                total -= files.get(place.path(table), 0)
                self._storage.delete(place.path(table))

    def _is_beyond(self, place: SegmentPlace, total: int, newest_ns: int) -> bool:
        keep_s, size_bytes = self._limits.keep_s, self._limits.size_bytes
        is_old = keep_s is not None and self._end_ns(place) < newest_ns - round(keep_s * 1e9)
        return is_old or (size_bytes is not None and total > size_bytes)

    def _end_ns(self, place: SegmentPlace) -> int:
        """Time of the last scene of a segment; 0 if it is damaged, which makes it the first to go."""
        path = place.path(RecordingTable.SCENES)
        if path not in self._last_ns:
            try:
                times = pq.ParquetFile(self._storage.open(path)).read(columns=["time"])["time"]
                self._last_ns[path] = max((int(time.value) for time in times), default=0)
            except (OSError, ValueError):
                self._last_ns[path] = 0
        return self._last_ns[path]
