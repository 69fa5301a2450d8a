"""What is in a recording, for an engine that reads its tables as they are: files of segments, and tables of the rest.

Rule: each scene is there once, as ``recording`` would read it: a segment that is not complete, one that a thinned
one replaces, and a journal whose segment is there are left out. What is damaged is left out too, and reported: an
engine does not look at the seal of a file, and would take damage for numbers.
A file that a link leads out of its recording is damage: a reader of a recording need not see the rest of the disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from ..errors import RecordingError
from ..scene import Scene
from . import layout
from .columns import tables_of
from .episodes import Episode, list_episodes
from .epochs import EpochTracker
from .journal import read_journal
from .layout import RecordingTable, SegmentPlace
from .recording import Recording, open_series
from .segment import check_file, last_epochs, read_segment
from .storage import Storage, local_directory

_TRIES = 5
"""How often a recording is listed whose writer replaces its files meanwhile."""
_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class LooseScenes:
    """Scenes that are in no segment yet, as the tables of one. ``host``: as partitions name it."""

    host: str
    tables: Mapping[RecordingTable, Any]


@dataclass(frozen=True, slots=True)
class RecordingParts:
    """``storage``: where the files are. ``segments``: those that can be read. ``damage``: what is left out, and why."""

    storage: Storage
    segments: tuple[SegmentPlace, ...]
    loose: tuple[LooseScenes, ...]
    damage: tuple[RecordingError, ...]
    episodes: tuple[Episode, ...] = ()

    def files(self, table: RecordingTable) -> list[str]:
        """Paths below the storage of the files of one table."""
        return [place.path(table) for place in self.segments]


def find_recordings(places: Sequence[str]) -> list[str]:
    """The recordings that are meant: each place, or those in a directory that is not a recording itself; each once."""
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


def find_parts(place: str) -> RecordingParts:
    """What a recording, a snapshot or a file with a scene holds. Raises RecordingError, UsageError."""
    series = open_series(place)
    if isinstance(series, Recording):
        parts, listing = _parts_of(Storage(place)), list_episodes(place)
        return replace(parts, episodes=listing.episodes, damage=(*parts.damage, *listing.damage))
    scenes = [series.scene(moment) for moment in series.moments()]
    return RecordingParts(Storage("."), (), _loose(scenes, EpochTracker()), tuple(series.damage))


def _parts_of(storage: Storage) -> RecordingParts:
    for _ in range(_TRIES - 1):
        try:
            return _listed(storage)
        except FileNotFoundError:
            continue  # a writer has replaced it since it was listed
    return _listed(storage, is_last=True)


def _listed(storage: Storage, *, is_last: bool = False) -> RecordingParts:
    """Raises FileNotFoundError if a file has gone since it was listed, unless ``is_last``: then it is damage."""
    paths = storage.files()
    places = layout.current_segments(paths)
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda place: _damage_of(storage, place, is_last=is_last), places))
    sound = tuple(place for place, damage in zip(places, found, strict=True) if damage is None)
    loose, broken = _loose_journals(storage, _journals(paths, places), sound)
    return RecordingParts(storage, sound, loose, (*filter(None, found), *broken))


def _damage_of(storage: Storage, place: SegmentPlace, *, is_last: bool) -> RecordingError | None:
    """Why a segment cannot be read, None if it can. The files of an object store are checked by who reads them."""
    if storage.directory is None:
        return None
    root = storage.directory.resolve()
    for table in RecordingTable:
        path = storage.local(place.path(table))
        try:
            if not path.resolve().is_relative_to(root):
                return RecordingError("it is a link that leads outside the recording", path=str(path))
            check_file(path)
        except FileNotFoundError:
            if not is_last:
                raise
            return RecordingError("a table of this segment is missing", path=str(path))
        except RecordingError as error:
            return error
    return None


def _journals(paths: Iterable[str], places: Sequence[SegmentPlace]) -> list[int]:
    numbers = sorted(number for path in paths if (number := layout.journal_number(path)) is not None)
    return [number for number in numbers if not any(place.holds(number) for place in places)]


def _loose_journals(
    storage: Storage, numbers: Sequence[int], segments: Sequence[SegmentPlace]
) -> tuple[tuple[LooseScenes, ...], list[RecordingError]]:
    """The scenes of journals, whose epochs go on from the last segment, and what of them is damaged."""
    scenes: list[Scene] = []
    damage = []
    for number in numbers:
        try:
            content = read_journal(_inside_of(storage, layout.journal_path(number)))
        except RecordingError as error:
            damage.append(error)
            continue
        scenes += content.scenes
        damage += [content.end] if content.end is not None else []
    if not scenes:
        return (), damage
    its = [place for place in segments if place.host == _host_of(scenes[0])]
    return _loose(scenes, _tracker_after(storage, its)), damage


def _inside_of(storage: Storage, path: str) -> Path:
    assert storage.directory is not None  # an object store has no journals
    file = storage.local(path)
    if not file.resolve().is_relative_to(storage.directory.resolve()):
        raise RecordingError("it is a link that leads outside the recording", path=str(file))
    return file


def _tracker_after(storage: Storage, segments: Sequence[SegmentPlace]) -> EpochTracker:
    """One that knows the last scene of the last segment."""
    tracker = EpochTracker()
    if segments:
        last = max(segments, key=lambda place: place.last)
        scenes = read_segment(storage, last)
        if len(scenes):
            place = max(range(len(scenes)), key=scenes.times.__getitem__)
            tracker.go_on(scenes.scene(place).sample, last_epochs(storage, last))
    return tracker


def _loose(scenes: Sequence[Scene], tracker: EpochTracker) -> tuple[LooseScenes, ...]:
    """Scenes as tables, those of one host together."""
    runs = groupby(scenes, key=_host_of)
    return tuple(LooseScenes(host, tables_of(list(run), tracker)) for host, run in runs)


def _host_of(scene: Scene) -> str:
    origin = scene.origin
    return SegmentPlace.of(0, origin.host if origin else "unknown", scene.sample.taken_ns).host
