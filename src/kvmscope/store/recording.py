"""Reads a recording: its scenes in the order in which they were taken, all or those of a time range.

Rule: reading changes nothing on the disk; scenes that a writer appends during a call are seen by the next call. Damage
ends the part that it is in, is reported, and hides no other part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import FormatError, RecordingError
from ..scene import Scene
from ..scene.encoding import MAGIC, decode
from . import layout
from .columns import SegmentScenes
from .copies import PartSpan, find_copies
from .journal import JournalReader, unreadable
from .replay import SceneMoment, SceneSeries
from .segment import check_segment, read_heads, read_segment
from .snapshot import SnapshotFile, is_snapshot
from .storage import Storage, local_directory


@dataclass(frozen=True, slots=True, order=True)
class _Part:
    """A segment or a journal. ``number``: of the first journal in it."""

    number: int
    path: str
    segment: layout.SegmentPlace | None

    def holds(self, number: int) -> bool:
        return self.number == number if self.segment is None else self.segment.holds(number)


class Recording:
    """A recording, opened for reading. ``damage``: what could not be read so far."""

    def __init__(self, place: str) -> None:
        """Raises RecordingError if there is no readable recording, UsageError."""
        self._storage = Storage(place)
        if not self._storage.has():
            raise RecordingError("there is no such directory", path=place)
        if not self._storage.has(layout.ABOUT):
            raise RecordingError(f"it is not a recording of kvmscope: it has no {layout.ABOUT}", path=place)
        about = self._storage.read(layout.ABOUT).decode("utf-8", "replace")
        layout.check_about(about, self._storage.name(layout.ABOUT))
        self.damage: list[RecordingError] = []
        self._last_part: tuple[str, Sequence[Scene] | SegmentScenes] | None = None
        self._moments: dict[str, list[SceneMoment]] = {}
        self._journal: tuple[str, JournalReader] | None = None

    @property
    def place(self) -> str:
        """Its path or URI, as given."""
        return self._storage.place

    def scenes(self, *, from_ns: int | None = None, until_ns: int | None = None) -> Iterator[Scene]:
        """The scenes of a time range in CLOCK_REALTIME nanoseconds, both ends included; by default all."""
        for part, moments in self._distinct_parts():
            if not moments and self._storage.has(part.path):
                continue  # damaged
            for scene in self._scenes_of(part):
                taken_ns = scene.sample.taken_ns
                if (from_ns is None or taken_ns >= from_ns) and (until_ns is None or taken_ns <= until_ns):
                    yield scene

    @property
    def can_grow(self) -> bool:
        """Whether it is cheap to check for appended scenes: not for an object store, which is behind a network."""
        return self._storage.directory is not None

    def moments(self) -> Sequence[SceneMoment]:
        """The moment of each scene, in order. Reads each segment once, without statistics, and of the last journal only
        what was appended since the last call.
        """
        return [moment for _, moments in self._distinct_parts() for moment in moments]

    def _distinct_parts(self) -> list[tuple[_Part, list[SceneMoment]]]:
        """The parts without common scenes, with the moments of their scenes."""
        parts = self._parts()
        known, self._moments = self._moments, {}
        found: list[tuple[_Part, list[SceneMoment]]] = []
        for part in parts:
            moments = known.get(part.path) or self._moments_of(part)
            # The bytes of a segment never change (a thinned segment has another name), nor those of a journal after its
            # recorder has begun another one.
            if part.segment is not None or part is not parts[-1]:
                self._moments[part.path] = moments
            found.append((part, moments))
        copies = find_copies([self._span(part, moments) for part, moments in found])
        for error in copies.values():
            self._note(error)
        return [each for place, each in enumerate(found) if place not in copies]

    def _span(self, part: _Part, moments: Sequence[SceneMoment]) -> PartSpan:
        times = [moment.taken_ns for moment in moments]
        return PartSpan(
            self._storage.name(part.path),
            moments[0].host if moments else None,
            min(times, default=0),
            max(times, default=0),
            lambda: [(moment.host, moment.boot, moment.boottime_ns, moment.taken_ns) for moment in moments],
        )

    def scene(self, moment: SceneMoment) -> Scene:
        """The scene of a moment. Raises RecordingError if it is damaged, or has been deleted or thinned since."""
        is_kept = self._last_part is not None and self._last_part[0] == moment.part
        scenes = self._part(moment.part)
        place = _place_of(moment, scenes)
        if place is None and is_kept:  # the journal has grown since it was read
            self._last_part = None
            scenes = self._part(moment.part)
            place = _place_of(moment, scenes)
        if place is None:
            raise RecordingError("the ring has thinned these scenes", path=self._storage.place)
        return scenes[place] if isinstance(scenes, Sequence) else scenes.scene(place)

    def _part(self, path: str) -> Sequence[Scene] | SegmentScenes:
        """The scenes of a part; the last part is cached."""
        if self._last_part is None or self._last_part[0] != path:
            self._last_part = (path, self._open_part_of(path))
        return self._last_part[1]

    def _open_part_of(self, path: str) -> Sequence[Scene] | SegmentScenes:
        before: _Part | None = None
        for _ in range(_TRIES):
            part = self._part_of(path)
            if part == before:
                raise self._lacks_table(part)
            with suppress(FileNotFoundError):  # a writer replaced it after it was listed
                return self._open(part)
            before = part
        raise RecordingError("its files keep changing", path=self._storage.place)

    def _lacks_table(self, part: _Part) -> RecordingError:
        return RecordingError("a table of this segment is missing", path=self._storage.name(part.path))

    def _part_of(self, path: str) -> _Part:
        """The part at this path, or the part that it has become."""
        place = layout.segment_of(path)
        number = layout.journal_number(path) if place is None else place.number
        parts = self._parts()
        for part in parts:
            if part.path == path:
                return part
        for part in parts:
            is_its_host = place is None or part.segment is None or part.segment.host == place.host
            if number is not None and part.holds(number) and is_its_host:
                return part
        raise RecordingError("the ring has deleted these scenes", path=self._storage.place)

    def _parts(self) -> list[_Part]:
        files = self._storage.files()
        for link in self._storage.unfollowed():
            self._note(link)
        places = layout.current_segments(files)
        found = [_Part(place.number, place.path(layout.RecordingTable.SCENES), place) for place in places]
        for path in files:
            number = layout.journal_number(path)
            if number is not None and not any(place.holds(number) for place in places):
                found.append(_Part(number, path, None))
        if len({place.host for place in places}) < 2:
            return sorted(found, key=lambda part: (part.number, part.path))
        # Each host has separate numbers. A journal does not name its host.
        return sorted(found, key=lambda part: (part.segment is None, part.segment and part.segment.host, part.number))

    def _open(self, part: _Part) -> Sequence[Scene] | SegmentScenes:
        if part.segment is not None:
            return read_segment(self._storage, part.segment)
        if self._journal is None or self._journal[0] != part.path:
            self._journal = (part.path, JournalReader(self._storage.local(part.path)))
        try:
            content = self._journal[1].read()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise unreadable(self._storage.local(part.path), error) from None
        if content.end is not None:
            self._note(content.end)
        return content.scenes

    def _moments_of(self, part: _Part) -> list[SceneMoment]:
        try:
            if part.segment is None:
                return [SceneMoment.of(s, part.path, n) for n, s in enumerate(self._scenes_of(part))]
            if self._storage.directory is not None:
                check_segment(self._storage, part.segment, is_whole=False)
            return [
                SceneMoment(
                    row["time"],
                    row["boottime_ns"],
                    row["boot"],
                    row["source"],
                    row["simulated"],
                    part.path,
                    place,
                    row["origin_host"],
                )
                for place, row in enumerate(read_heads(self._storage, part.segment))
            ]
        except RecordingError as error:
            self._note(error)
        except FileNotFoundError:  # the ring has deleted it, the table of scenes first
            if part.segment is not None and self._storage.has(part.path):
                self._note(self._lacks_table(part))
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
        """The scenes of a part that a writer has changed after it was listed: a journal became a segment, or it is
        gone."""
        try:
            now = self._part_of(part.path)
        except RecordingError:
            return
        if now != part:
            yield from self._scenes_of(now)
        else:
            self._note(self._lacks_table(part))

    def _note(self, error: RecordingError) -> None:
        if str(error) not in map(str, self.damage):
            self.damage.append(error)


_TRIES = 5
"""How often to look for a part that a writer replaces, which happens a few times in the life of a scene."""


def _place_of(moment: SceneMoment, scenes: Sequence[Scene] | SegmentScenes) -> int | None:
    """The index of a scene in its part, which may have been thinned; None if the scene is gone."""
    if isinstance(scenes, SegmentScenes):
        times = scenes.times
    else:
        times = [(scene.sample.taken_ns, scene.sample.monotonic_ns) for scene in scenes]
    its = (moment.taken_ns, moment.boottime_ns)
    if moment.place < len(times) and times[moment.place] == its:
        return moment.place
    return times.index(its) if its in times else None


class SceneFile:
    """One scene in a file, as ``scene.encode`` writes it."""

    can_grow = False

    def __init__(self, path: Path) -> None:
        """Raises RecordingError for any other file."""
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
    """A recording, a snapshot, or a file with a scene. Raises RecordingError, UsageError."""
    try:
        directory = local_directory(place)
        is_file = directory is not None and directory.is_file()
    except (OSError, ValueError) as error:  # too long, or contains a zero byte
        raise RecordingError("it is not the name of a file", path=place[:80]) from error
    if directory is None or not is_file:
        return Recording(place)
    return SnapshotFile(directory) if is_snapshot(str(directory)) else SceneFile(directory)
