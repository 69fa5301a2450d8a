"""Reads a recording: its scenes in the order in which they were taken, all of them or those of a time.

Rule: reading changes nothing on the disk, and what a writer appends meanwhile is seen by the next call. Damage ends
the part that it is in, is told, and hides no other part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import FormatError, RecordingError
from ..scene import Scene
from ..scene.encoding import MAGIC, decode
from . import layout
from .columns import SegmentScenes
from .journal import read_journal
from .replay import SceneMoment, SceneSeries
from .segment import read_heads, read_segment
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
        if not self._storage.has():
            raise RecordingError("there is no such directory", path=place)
        if not self._storage.has(layout.ABOUT):
            raise RecordingError(f"it is not a recording of kvmscope: it has no {layout.ABOUT}", path=place)
        about = self._storage.read(layout.ABOUT).decode("utf-8", "replace")
        layout.check_about(about, self._storage.name(layout.ABOUT))
        self.damage: list[RecordingError] = []
        self._last_part: tuple[int, Sequence[Scene] | SegmentScenes] | None = None

    def scenes(self, *, from_ns: int | None = None, until_ns: int | None = None) -> Iterator[Scene]:
        """The scenes of a time, CLOCK_REALTIME nanoseconds, both ends included; without them all."""
        for part in self._parts():
            for scene in self._scenes_of(part):
                taken_ns = scene.sample.taken_ns
                if (from_ns is None or taken_ns >= from_ns) and (until_ns is None or taken_ns <= until_ns):
                    yield scene

    def moments(self) -> Sequence[SceneMoment]:
        """When each scene was taken, in their order. Reads no statistics of segments."""
        found: list[SceneMoment] = []
        for part in self._parts():
            found += self._moments_of(part)
        return found

    def scene(self, moment: SceneMoment) -> Scene:
        """The scene of a moment. Raises RecordingError if it is damaged, or has been deleted since."""
        if self._last_part is None or self._last_part[0] != moment.part:
            part = next((there for there in self._parts() if there.number == moment.part), None)
            if part is None:
                raise RecordingError("the ring has deleted these scenes", path=self._storage.place)
            self._last_part = (moment.part, self._open(part))
        scenes = self._last_part[1]
        return scenes[moment.place] if isinstance(scenes, Sequence) else scenes.scene(moment.place)

    def _parts(self) -> list[_Part]:
        files = self._storage.files()
        segments = [_Part(place.number, path, place) for path in files if (place := layout.segment_of(path))]
        done = {part.number for part in segments}
        journals = [(layout.journal_number(path), path) for path in files]
        open_ones = [
            _Part(number, path, None) for number, path in journals if number is not None and number not in done
        ]
        return sorted(segments + open_ones, key=lambda part: part.number)

    def _open(self, part: _Part) -> Sequence[Scene] | SegmentScenes:
        if part.segment is not None:
            return read_segment(self._storage, part.segment)
        content = read_journal(self._storage.local(part.path))
        if content.end is not None:
            self._note(content.end)
        return content.scenes

    def _moments_of(self, part: _Part) -> list[SceneMoment]:
        try:
            if part.segment is None:
                return [SceneMoment.of(s, part.number, n) for n, s in enumerate(self._scenes_of(part))]
            return [
                SceneMoment(
                    row["time"], row["boottime_ns"], row["boot"], row["source"], row["simulated"], part.number, place
                )
                for place, row in enumerate(read_heads(self._storage, part.segment))
            ]
        except RecordingError as error:
            self._note(error)
        except FileNotFoundError:
            pass  # the ring has deleted it since
        return []

    def _scenes_of(self, part: _Part) -> Iterator[Scene]:
        try:
            scenes = self._open(part)
            if isinstance(scenes, Sequence):
                yield from scenes
            else:
                yield from map(scenes.scene, range(len(scenes)))
        except RecordingError as error:
            self._note(error)
        except FileNotFoundError:
            yield from self._moved(part)

    def _moved(self, part: _Part) -> Iterator[Scene]:
        """The scenes of a part that a writer has changed since it was listed: a journal is a segment, or it is gone."""
        now = next((there for there in self._parts() if there.number == part.number), None)
        if now is not None and now != part:
            yield from self._scenes_of(now)
        elif now is not None:
            self._note(RecordingError("a table of this segment is missing", path=self._storage.name(part.path)))

    def _note(self, error: RecordingError) -> None:
        if str(error) not in map(str, self.damage):
            self.damage.append(error)


class SceneFile:
    """One scene in a file, as ``scene.encode`` writes it."""

    def __init__(self, path: Path) -> None:
        """Raises RecordingError if it is not one."""
        self.damage: list[RecordingError] = []
        try:
            data = path.read_bytes()
        except OSError as error:
            raise RecordingError(f"it cannot be read: {error.strerror}", path=str(path)) from None
        try:
            self._scene = decode(data)
        except FormatError as error:
            reason = "it is neither a recording nor a scene" if data[: len(MAGIC)] != MAGIC else str(error)
            raise RecordingError(reason, path=str(path), offset=error.offset) from None

    def moments(self) -> Sequence[SceneMoment]:
        return [SceneMoment.of(self._scene)]

    def scene(self, moment: SceneMoment) -> Scene:
        del moment
        return self._scene


def open_series(place: str) -> SceneSeries:
    """A recording, or a file with a scene. Raises RecordingError, UsageError."""
    try:
        is_file = "://" not in place and Path(place).is_file()
    except (OSError, ValueError) as error:  # too long, or with a zero byte
        raise RecordingError("it is not the name of a file", path=place[:80]) from error
    return SceneFile(Path(place)) if is_file else Recording(place)
