"""The content of a recording for an engine that reads its tables directly: files of segments, and tables of the rest.

Rule: each scene appears once, as ``recording`` would read it: incomplete segments, segments replaced by thinned ones,
and journals whose segment exists are left out. Damaged parts are left out too, and reported: an engine does not check
the seal of a file, and would read damage as numbers.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

from ..errors import RecordingError
from ..scene import Scene
from . import layout
from .columns import tables_of
from .copies import PartSpan, SceneKey, find_copies
from .episodes import Episode, list_episodes
from .epochs import EpochTracker
from .journal import read_journal, unreadable
from .layout import RecordingTable, SegmentPlace
from .recording import Recording, open_series
from .segment import check_segment, last_epochs, read_segment, read_span, scene_keys
from .storage import Storage, local_directory

_TRIES = 5
"""How often to list a recording while its writer replaces files."""
_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class LooseScenes:
    """Scenes that are in no segment yet, as the tables of one. ``host``: name of its partition. ``span``: of the
    scenes."""

    host: str
    tables: Mapping[RecordingTable, Any]
    span: PartSpan


@dataclass(frozen=True, slots=True)
class RecordingParts:
    """``storage``: of the files. ``segments``: the readable ones. ``damage``: what is left out, and why.

    ``spans``: of ``segments``. ``indexed``: segments whose rows a fleet index has too, even if they are left out.
    """

    storage: Storage
    segments: tuple[SegmentPlace, ...]
    loose: tuple[LooseScenes, ...]
    damage: tuple[RecordingError, ...]
    episodes: tuple[Episode, ...] = ()
    spans: tuple[PartSpan, ...] = ()
    indexed: frozenset[SegmentPlace] = frozenset()

    @property
    def segments_to_read(self) -> list[SegmentPlace]:
        """The segments that are not indexed."""
        return [place for place in self.segments if place not in self.indexed]

    @property
    def segments_indexed(self) -> list[SegmentPlace]:
        return [place for place in self.segments if place in self.indexed]

    @property
    def all_spans(self) -> tuple[PartSpan, ...]:
        """The spans of all segments, and of ``loose``."""
        return (*self.spans, *(loose.span for loose in self.loose))

    def without(self, copies: Mapping[int, RecordingError]) -> RecordingParts:
        """The same without the parts at these indexes of ``all_spans``, each left out for the given reason."""
        segments = [number for number in range(len(self.segments)) if number not in copies]
        loose = [each for number, each in enumerate(self.loose, len(self.segments)) if number not in copies]
        [first, *others] = copies.values()
        if others:
            reason = f"{first.reason}; the same holds for {len(others)} more of its parts"
            first = RecordingError(reason, path=first.path)
        return replace(
            self,
            segments=tuple(self.segments[number] for number in segments),
            spans=tuple(self.spans[number] for number in segments),
            loose=tuple(loose),
            damage=(*self.damage, first),
        )

    def files(self, table: RecordingTable) -> list[str]:
        """Paths below the storage of the files of one table, without those of segments that are indexed."""
        return [place.path(table) for place in self.segments_to_read]


KnownSegments = Callable[[Storage, Sequence[SegmentPlace]], Mapping[SegmentPlace, tuple[int, int]]]
"""Selects the segments of a recording that need no check since an index has their rows, each with the times of its
first and last scene."""


def _nothing_known(storage: Storage, places: Sequence[SegmentPlace]) -> Mapping[SegmentPlace, tuple[int, int]]:
    del storage, places
    return {}


def find_recordings(places: Sequence[str]) -> list[str]:
    """The recordings at these places: each place itself, or the recordings in a directory that is not one; each
    once."""
    found = [each for place in places for each in _inside(place)]
    return list({_identity(place): place for place in reversed(found)}.values())[::-1]


def _inside(place: str) -> list[str]:
    directory = local_directory(place)
    if directory is None or not directory.is_dir() or (directory / layout.ABOUT).exists():
        return [place]
    return sorted(str(each.parent) for each in directory.glob(f"*/{layout.ABOUT}")) or [place]


def _identity(place: str) -> str:
    directory = local_directory(place)
    return place.rstrip("/") if directory is None else str(directory.resolve())


def find_parts(place: str, known: KnownSegments = _nothing_known) -> RecordingParts:
    """The parts of a recording, of a snapshot or of a file with a scene. Raises RecordingError, UsageError."""
    series = open_series(place)
    if isinstance(series, Recording):
        parts, listing = _parts_of(Storage(place), known), list_episodes(place)
        return replace(parts, episodes=listing.episodes, damage=(*parts.damage, *listing.damage))
    scenes = [series.scene(moment) for moment in series.moments()]
    return RecordingParts(Storage("."), (), _loose(scenes, EpochTracker(), place), tuple(series.damage))


def find_all_parts(places: Sequence[str], known: KnownSegments = _nothing_known) -> list[RecordingParts]:
    """The parts of the recordings at these places or in these directories.

    A recording in one of the directories that cannot be opened is damage of the others. Raises as ``find_parts`` if
    none can be opened, and for a place that is itself one that cannot.
    """
    found, damage = list[RecordingParts](), list[RecordingError]()
    for place in find_recordings(places):
        try:
            found.append(find_parts(place, known))
        except RecordingError as error:
            if place in places:
                raise
            damage.append(error)
    if damage and not found:
        raise damage[0]
    if damage:
        found[0] = replace(found[0], damage=(*found[0].damage, *damage))
    copies = find_copies([span for parts in found for span in parts.all_spans]) if len(found) > 1 else {}
    first = 0
    for number, parts in enumerate(found):
        count = len(parts.all_spans)
        its = {place - first: error for place, error in copies.items() if first <= place < first + count}
        first += count
        if its:
            found[number] = parts.without(its)
    return found


def _parts_of(storage: Storage, known: KnownSegments) -> RecordingParts:
    for _ in range(_TRIES - 1):
        try:
            return _listed(storage, known)
        except FileNotFoundError:
            continue  # a writer has replaced it since it was listed
    return _listed(storage, known, is_last=True)


def _listed(storage: Storage, known: KnownSegments, *, is_last: bool = False) -> RecordingParts:
    """Raises FileNotFoundError if a listed file is gone, unless ``is_last``: then that is damage."""
    paths = storage.files()
    places = layout.current_segments(paths)
    indexed = {
        place: _span(storage, place, begin_ns, end_ns) for place, (begin_ns, end_ns) in known(storage, places).items()
    }
    with ThreadPoolExecutor(_THREADS) as pool:
        examine = partial(_examined, storage, is_last=is_last)
        found = list(pool.map(lambda place: indexed.get(place) or examine(place), places))
    damaged = [each for each in found if isinstance(each, RecordingError)]
    sound = [(place, each) for place, each in zip(places, found, strict=True) if isinstance(each, PartSpan)]
    journals, broken = _read_journals(storage, _journals(paths, places))
    copies = find_copies([*(span for _, span in sound), *itertools.starmap(_span_of_scenes, journals)])
    kept = [each for number, each in enumerate(sound) if number not in copies]
    segments = tuple(place for place, _ in kept)
    scenes = [s for number, (_, its) in enumerate(journals, len(sound)) if number not in copies for s in its]
    return RecordingParts(
        storage,
        segments,
        _loose_after(storage, segments, scenes),
        (*storage.unfollowed(), *damaged, *broken, *copies.values()),
        spans=tuple(span for _, span in kept),
        indexed=frozenset(indexed),
    )


def _examined(storage: Storage, place: SegmentPlace, *, is_last: bool) -> PartSpan | RecordingError:
    """The span of a segment, or why it cannot be read. Files of an object store are checked by their readers. Raises
    FileNotFoundError as ``_listed`` does."""
    path = place.path(RecordingTable.SCENES)
    try:
        if storage.directory is not None:
            check_segment(storage, place, is_whole=True)
        begin_ns, end_ns = read_span(storage, place)
    except FileNotFoundError as error:
        if not is_last:
            raise
        return RecordingError("a table of this segment is missing", path=error.filename or storage.name(path))
    except RecordingError as error:
        return error
    return _span(storage, place, begin_ns, end_ns)


def _span(storage: Storage, place: SegmentPlace, begin_ns: int, end_ns: int) -> PartSpan:
    path = storage.name(place.path(RecordingTable.SCENES))
    return PartSpan(path, place.host, begin_ns, end_ns, partial(scene_keys, storage, place))


def _span_of_scenes(path: str, scenes: Sequence[Scene]) -> PartSpan:
    times = [scene.sample.taken_ns for scene in scenes]
    host = _host_of(scenes[0]) if scenes else None
    return PartSpan(path, host, min(times, default=0), max(times, default=0), lambda: list(map(_key_of, scenes)))


def _key_of(scene: Scene) -> SceneKey:
    sample, origin = scene.sample, scene.origin
    host, boot = (origin.host, origin.boot) if origin else (None, None)
    return host, boot, sample.monotonic_ns, sample.taken_ns


def _journals(paths: Iterable[str], places: Sequence[SegmentPlace]) -> list[int]:
    numbers = sorted(number for path in paths if (number := layout.journal_number(path)) is not None)
    return [number for number in numbers if not any(place.holds(number) for place in places)]


def _read_journals(
    storage: Storage, numbers: Sequence[int]
) -> tuple[list[tuple[str, list[Scene]]], list[RecordingError]]:
    """The scenes of journals, each with its path, and the damage of the journals."""
    found: list[tuple[str, list[Scene]]] = []
    damage: list[RecordingError] = []
    for number in numbers:
        path = layout.journal_path(number)
        try:
            content = read_journal(storage.local(path))
        except FileNotFoundError:
            raise
        except OSError as error:
            damage.append(unreadable(storage.local(path), error))
            continue
        except RecordingError as error:
            damage.append(error)
            continue
        found.append((storage.name(path), content.scenes))
        damage += [content.end] if content.end is not None else []
    return found, damage


def _loose_after(
    storage: Storage, segments: Sequence[SegmentPlace], scenes: Sequence[Scene]
) -> tuple[LooseScenes, ...]:
    """Scenes as tables, with epochs that continue from the last segment."""
    if not scenes:
        return ()
    its = [place for place in segments if place.host == _host_of(scenes[0])]
    return _loose(scenes, _tracker_after(storage, its), storage.name(layout.JOURNAL))


def _tracker_after(storage: Storage, segments: Sequence[SegmentPlace]) -> EpochTracker:
    """A tracker that knows the last scene of the last segment."""
    tracker = EpochTracker()
    if segments:
        last = max(segments, key=lambda place: place.last)
        scenes = read_segment(storage, last)
        if len(scenes):
            place = max(range(len(scenes)), key=scenes.times.__getitem__)
            tracker.go_on(scenes.scene(place).sample, last_epochs(storage, last))
    return tracker


def _loose(scenes: Sequence[Scene], tracker: EpochTracker, path: str) -> tuple[LooseScenes, ...]:
    """Scenes as tables, one set for each host. ``path``: the name of their place in messages."""
    runs = [(host, list(run)) for host, run in groupby(scenes, key=_host_of)]
    return tuple(LooseScenes(host, tables_of(run, tracker), _span_of_scenes(path, run)) for host, run in runs)


def _host_of(scene: Scene) -> str:
    origin = scene.origin
    return SegmentPlace.of(0, origin.host if origin else "unknown", scene.sample.taken_ns).host
