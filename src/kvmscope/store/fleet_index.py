"""The index of a fleet: the data that queries over many recordings read, for all hosts together in few files.

    DIR/                            a recording, or a directory of recordings
        fleet-index/00000003/       a part: segments of any of them
            segments.json           the segments, the states of their files, and checksums of the files here
            scenes-0.parquet        rows of a table, with the column ``segment`` before those of the table
            vcpus-0.parquet …       a file for each set of columns

Scenes and documents are complete; of subjects, it has the rows of the first scene in each minute of CLOCK_BOOTTIME and
of the last scene of a segment. Without an index, reading a few scenes of a thousand hosts takes several thousand files,
each with a footer for hundreds of columns.
Rules: a segment is read from an index only if each of its files is unchanged since, by inode, size, mtime and ctime.
Each segment is read from one place. An index can be deleted at any time. If it is damaged, the recordings are read
instead.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..closing import Closable
from ..errors import Busy
from .layout import INDEX, RecordingTable, SegmentPlace, segment_of
from .segment import crc_of
from .storage import Storage, local_directory, require_file

RESOLUTION_S: Final = 60
SEGMENT: Final = "segment"
"""The column with the number of a row's segment."""
_MANIFEST: Final = "segments.json"
_FORMAT: Final = {"format": "kvmscope-fleet-index", "version": 1}
_PART: Final = re.compile(r"\d{8}")
_FILE: Final = re.compile(r"(scenes|documents|vms|vcpus)-\d+\.parquet")

SegmentKey = tuple[str, SegmentPlace]
"""A recording by its path below the indexed directory, and a segment of it."""
FileState = tuple[int, int, int, int]
"""Inode, size, mtime and ctime in nanoseconds: a file that was written later has another ctime."""


def states_of(storage: Storage, place: SegmentPlace) -> tuple[FileState, ...] | None:
    """The states of the files of a segment; None if one is missing."""
    try:
        found = [storage.local(place.path(table)).stat() for table in RecordingTable]
    except OSError:
        return None
    return tuple((each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for each in found)


@dataclass(frozen=True, slots=True)
class IndexedSegment:
    """A segment as indexed. ``number``: in the column SEGMENT, unique over all parts. ``begin_ns``, ``end_ns``:
    CLOCK_REALTIME of its first and last scene."""

    number: int
    begin_ns: int
    end_ns: int
    states: tuple[FileState, ...]


@dataclass(frozen=True, slots=True)
class IndexRows:
    """Rows of a file. ``segments``: only rows of these; None: all."""

    file: str
    segments: frozenset[int] | None


@dataclass(slots=True)
class IndexPart(Closable):
    """A part of an index, locked against removal by a writer. ``current``: numbers of the segments to read from it."""

    directory: Path
    segments: Mapping[SegmentKey, IndexedSegment]
    checksums: Mapping[str, int]
    lock: int
    current: set[int] = field(default_factory=set)

    @property
    def is_whole(self) -> bool:
        """Whether all of its segments are read from it."""
        return len(self.current) == len(self.segments)

    def files(self, table: RecordingTable) -> list[Path]:
        return [self.directory / name for name in self.checksums if name.startswith(f"{table.value}-")]

    def close(self) -> None:
        os.close(self.lock)


class FleetIndex(Closable):
    """The index of a directory; without parts if the directory has none."""

    def __init__(self, place: str) -> None:
        directory = local_directory(place)
        self._root = None if directory is None else directory.resolve()
        self.parts: Sequence[IndexPart] = () if self._root is None else tuple(_open_parts(self._root / INDEX))
        self._known: dict[SegmentKey, tuple[IndexPart, IndexedSegment]] = {}

    def known(self, storage: Storage, places: Sequence[SegmentPlace]) -> Mapping[SegmentPlace, tuple[int, int]]:
        """The segments of a recording whose files are unchanged since they were indexed, with the times of their first
        and last scene. A ``KnownSegments``."""
        name = self.name_of(storage) if self.parts else None
        if name is None:
            return {}
        found = {place: each for place in places if (each := self._find(storage, (name, place))) is not None}
        self._known |= {(name, place): each for place, each in found.items()}
        return {place: (segment.begin_ns, segment.end_ns) for place, (_, segment) in found.items()}

    def read_from(self, storage: Storage, places: Iterable[SegmentPlace]) -> None:
        """Make ``rows`` include these segments, as far as ``known`` found them here."""
        name = self.name_of(storage)
        for place in places:
            if name is not None and (name, place) in self._known:
                part, segment = self._known[name, place]
                part.current.add(segment.number)

    def _find(self, storage: Storage, key: SegmentKey) -> tuple[IndexPart, IndexedSegment] | None:
        states = None
        for part in self.parts:
            segment = part.segments.get(key)
            if segment is not None:
                states = states or states_of(storage, key[1])
                if segment.states == states:
                    return part, segment
        return None

    def name_of(self, storage: Storage) -> str | None:
        """The name of a recording in this index; None if it is in another directory."""
        if storage.directory is None or self._root is None:
            return None
        path = storage.directory.resolve()
        if path == self._root:
            return ""
        return path.name if path.parent == self._root else None

    def rows(self, table: RecordingTable) -> Iterator[IndexRows]:
        """The rows of the segments that are read from this index."""
        for part in self.parts:
            if part.current:
                segments = None if part.is_whole else frozenset(part.current)
                for file in part.files(table):
                    yield IndexRows(str(file), segments)

    def close(self) -> None:
        for part in self.parts:
            part.close()


class FleetIndexes(Closable):
    """The indexes of several directories. Each recording is in one of them, so at most one index has it."""

    def __init__(self, places: Sequence[str]) -> None:
        self._indexes = [FleetIndex(place) for place in places]

    def known(self, storage: Storage, places: Sequence[SegmentPlace]) -> Mapping[SegmentPlace, tuple[int, int]]:
        """As of a single one."""
        return next((found for index in self._indexes if (found := index.known(storage, places))), {})

    def read_from(self, storage: Storage, places: Sequence[SegmentPlace]) -> None:
        """As of a single one."""
        for index in self._indexes:
            index.read_from(storage, places)

    def rows(self, table: RecordingTable) -> Iterator[IndexRows]:
        """As of a single one."""
        for index in self._indexes:
            yield from index.rows(table)

    def close(self) -> None:
        for index in self._indexes:
            index.close()


def _open_parts(directory: Path) -> Iterator[IndexPart]:
    """The undamaged parts, newest first."""
    try:
        found = sorted((path for path in directory.iterdir() if _PART.fullmatch(path.name)), reverse=True)
    except OSError:
        return
    for path in found:
        part = _open_part(path)
        if part is not None:
            yield part


def _open_part(directory: Path) -> IndexPart | None:
    """A part; None if it is damaged or being deleted."""
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError), ExitStack() as opened:
        lock = _open_directory(directory)
        opened.callback(os.close, lock)
        if _is_locked(lock, fcntl.LOCK_SH):
            manifest = json.loads((directory / _MANIFEST).read_bytes())
            part = IndexPart(directory, _segments(manifest), _checksums(manifest), lock)
            if all(_checksum(directory / name) == due for name, due in part.checksums.items()):
                opened.pop_all()
                return part
    return None


def _segments(manifest: Any) -> Mapping[SegmentKey, IndexedSegment]:
    """The segments in a manifest. Raises ValueError, TypeError or KeyError for anything else."""
    if {name: manifest[name] for name in _FORMAT} != _FORMAT:
        raise ValueError("another format")
    found = {}
    for number, recording, path, begin_ns, end_ns, states in manifest["segments"]:
        place = segment_of(path)
        if place is None:
            raise ValueError(path)
        its = tuple((inode, size, mtime, ctime) for inode, size, mtime, ctime in states)
        found[str(recording), place] = IndexedSegment(int(number), int(begin_ns), int(end_ns), its)
    return found


def _checksums(manifest: Any) -> Mapping[str, int]:
    found = {str(name): int(checksum) for name, checksum in manifest["files"].items()}
    if not all(map(_FILE.fullmatch, found)):
        raise ValueError("another file")
    return found


def _checksum(path: Path) -> int:
    """The CRC-32 of a file's bytes, which are read and not mapped, as a bad disk would raise SIGBUS. Raises OSError,
    ValueError if it is a link."""
    if path.is_symlink():
        raise ValueError("it leads elsewhere")
    require_file(path)
    with path.open("rb") as file:
        return crc_of(file, path.stat().st_size)


def write_manifest(directory: Path, segments: Mapping[SegmentKey, IndexedSegment]) -> None:
    """Write the manifest that makes a directory with files of rows a part. Raises OSError."""
    files = {path.name: _checksum(path) for path in sorted(directory.iterdir())}
    listed = [
        (each.number, recording, place.path(RecordingTable.SCENES), each.begin_ns, each.end_ns, each.states)
        for (recording, place), each in segments.items()
    ]
    (directory / _MANIFEST).write_text(json.dumps({**_FORMAT, "files": files, "segments": listed}))


def remove_part(directory: Path) -> None:
    """Delete a part unless it is being read. Raises OSError."""
    lock = _open_directory(directory)
    try:
        if _is_locked(lock, fcntl.LOCK_EX):
            shutil.rmtree(directory)
    finally:
        os.close(lock)


@contextmanager
def writing(place: Path) -> Iterator[Path]:
    """The directory of an index, locked for one writer. Raises Busy, OSError."""
    directory = place / INDEX
    directory.mkdir(exist_ok=True)
    lock = _open_directory(directory)
    try:
        if not _is_locked(lock, fcntl.LOCK_EX):
            raise Busy(f"another process writes {directory}", remedy="wait until it has ended")
        yield directory
    finally:
        os.close(lock)


def _open_directory(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _is_locked(fd: int, kind: int) -> bool:
    """Whether it is locked now, or its file system cannot lock directories."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
