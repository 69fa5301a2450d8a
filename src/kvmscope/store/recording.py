"""Reads a recording: its scenes in the order in which they were taken, all of them or those of a time.

Rule: reading changes nothing on the disk, and what a writer appends meanwhile is seen by the next call. Damage ends
the part that it is in, is told, and hides no other part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import RecordingError
from ..scene import Scene
from . import layout
from .journal import read_journal
from .segment import read_segment
from .storage import Storage


@dataclass(frozen=True, slots=True, order=True)
class _Part:
    """A segment, or the journal of its number."""

    number: int
    path: str
    segment: layout.SegmentPlace | None


class Recording:
    """A recording, opened for reading. ``damage``: what could not be read so far."""

    def __init__(self, place: str) -> None:
        """Raises RecordingError if there is none that can be read, UsageError."""
        self._storage = Storage(place)
        files = self._storage.files()
        if layout.ABOUT not in files:
            raise RecordingError(f"it is not a recording of kvmscope: it has no {layout.ABOUT}", path=place)
        about = self._storage.read(layout.ABOUT).decode("utf-8", "replace")
        layout.check_about(about, self._storage.name(layout.ABOUT))
        self.damage: list[RecordingError] = []

    def scenes(self, *, from_ns: int | None = None, until_ns: int | None = None) -> Iterator[Scene]:
        """The scenes of a time, CLOCK_REALTIME nanoseconds, both ends included; without them all."""
        for part in self._parts():
            for scene in self._scenes_of(part):
                taken_ns = scene.sample.taken_ns
                if (from_ns is None or taken_ns >= from_ns) and (until_ns is None or taken_ns <= until_ns):
                    yield scene

    def _parts(self) -> list[_Part]:
        files = self._storage.files()
        segments = [_Part(place.number, path, place) for path in files if (place := layout.segment_of(path))]
        done = {part.number for part in segments}
        journals = [(layout.journal_number(path), path) for path in files]
        open_ones = [
            _Part(number, path, None) for number, path in journals if number is not None and number not in done
        ]
        return sorted(segments + open_ones, key=lambda part: part.number)

    def _scenes_of(self, part: _Part) -> Iterator[Scene]:
        try:
            if part.segment is not None:
                yield from read_segment(self._storage, part.segment)
            elif self._storage.directory is not None:
                content = read_journal(self._storage.directory / part.path)
                yield from content.scenes
                if content.end is not None:
                    self.damage.append(content.end)
        except RecordingError as error:
            self.damage.append(error)
        except FileNotFoundError:
            yield from self._moved(part)

    def _moved(self, part: _Part) -> Iterator[Scene]:
        """The scenes of a part that a writer has changed since it was listed: a journal is a segment, or it is gone."""
        now = next((there for there in self._parts() if there.number == part.number), None)
        if now is not None and now != part:
            yield from self._scenes_of(now)
        elif now is not None:
            self.damage.append(RecordingError("a table of this segment is missing", path=self._storage.name(part.path)))
