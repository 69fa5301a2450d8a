"""Writes the index of a fleet: ``write_index``. ``fleet_index`` describes the format and reads it.

Indexed segments are not read again. New segments form a new part. Parts that are small compared with it, or of which
many segments are gone, are merged into it with their current rows, so there are few parts and each row is rarely
copied.
Rule: a segment is indexed only if none of its files changed while it was read.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..closing import Closable
from ..errors import RecordingError, UsageError
from ..sample import I64Array
from .columns import SegmentTables
from .fleet_index import (
    RESOLUTION_S,
    SEGMENT,
    FleetIndex,
    IndexedSegment,
    IndexPart,
    SegmentKey,
    remove_part,
    states_of,
    write_manifest,
    writing,
)
from .layout import NEW, RecordingTable, SegmentPlace
from .recording import open_series
from .relations import find_all_parts, find_recordings
from .segment import open_writer, read_span, read_tables
from .storage import Storage, local_directory

_WORDS_PER_GROUP: Final = 1 << 23
"""Approximate number of values of a row group; one for each set of columns is in memory while writing."""
_MOST_BESIDE: Final = 2
"""A part with at most this multiple of the number of new segments is copied into the new part."""
_WITH_STATISTICS: Final = ("host", SEGMENT, "time", "vm")
_SUBJECTS: Final = (RecordingTable.VMS, RecordingTable.VCPUS)
_PART_NAME: Final = re.compile(rf"\d{{8}}(?:{re.escape(NEW)})?")


@dataclass(frozen=True, slots=True)
class IndexReport:
    """The result of indexing. ``segments``: number indexed now, ``new``: of these, added by this run. ``damage``: parts
    of the recordings that cannot be read."""

    recordings: int
    segments: int
    new: int
    size_bytes: int
    damage: tuple[RecordingError, ...]


def write_index(place: str) -> IndexReport:
    """Index the recordings of a directory. Raises UsageError for another place, RecordingError without recordings,
    Busy, OSError."""
    directory = local_directory(place)
    if directory is None or not directory.is_dir():
        raise UsageError(f"{place!r} is not a directory: an index lies beside recordings that are files")
    recordings = find_recordings([place])
    open_series(recordings[0])  # the directory itself if it contains no recording
    with writing(directory) as root:
        with FleetIndex(place) as index:
            found = find_all_parts([place], index.known)
            for parts in found:
                index.read_from(parts.storage, parts.segments_indexed)
            before = sum(len(part.current) for part in index.parts)
            damage = [error for parts in found for error in parts.damage]
            fresh = [(parts.storage, segment) for parts in found for segment in parts.segments_to_read]
            merged = _merged(index.parts, len(fresh))
            kept = {part.directory.name for part in index.parts if part.current and part not in merged}
            new = 0
            if fresh or merged:
                with _NewPart(root, index) as part:
                    new = part.add_segments(fresh, damage)
                    part.add_parts(merged)
                    kept.add(part.finish())
        for path in root.iterdir():
            if _PART_NAME.fullmatch(path.name) and path.name not in kept:
                remove_part(path)
    size = sum(path.stat().st_size for path in root.glob("*/*"))
    return IndexReport(len(recordings), before + new, new, size, tuple(damage))


def _merged(parts: Sequence[IndexPart], fresh: int) -> list[IndexPart]:
    """The parts to merge into the new one, smallest first."""
    merged, segments = list[IndexPart](), fresh
    for part in sorted(parts, key=lambda part: len(part.current)):
        has_many_gone = 2 * len(part.current) < len(part.segments)
        if part.current and (has_many_gone or len(part.current) <= _MOST_BESIDE * segments):
            merged.append(part)
            segments += len(part.current)
    return merged


class _NewPart(Closable):
    """A part that is being written. Closing it before ``finish`` removes it."""

    def __init__(self, root: Path, index: FleetIndex) -> None:
        numbers = [int(path.name[:8]) for path in root.iterdir() if _PART_NAME.fullmatch(path.name)]
        self._target = root / f"{max(numbers, default=0) + 1:08}"
        self._directory = self._target.with_name(self._target.name + NEW)
        self._directory.mkdir()
        self._index = index
        self._segments: dict[SegmentKey, IndexedSegment] = {}
        self._files: dict[tuple[RecordingTable, Any], _RowFile] = {}
        self._number = max((each.number for part in index.parts for each in part.segments.values()), default=0)

    def add_segments(self, fresh: Iterable[tuple[Storage, SegmentPlace]], damage: list[RecordingError]) -> int:
        """Add the rows to index of these segments. Returns how many could be read. ``damage``: receives errors of the
        others."""
        before = len(self._segments)
        for storage, place in fresh:
            name, states = self._index.name_of(storage), states_of(storage, place)
            try:
                tables = read_tables(storage, place)
            except RecordingError as error:
                damage.append(error)
                continue
            except FileNotFoundError:  # the ring replaced it
                continue
            if name is not None and states is not None and states == states_of(storage, place):
                self._number += 1
                begin_ns, end_ns = read_span(storage, place)
                self._segments[name, place] = IndexedSegment(self._number, begin_ns, end_ns, states)
                self._add_tables(tables, place.host)
        return len(self._segments) - before

    def _add_tables(self, tables: SegmentTables, host: str) -> None:
        moments = pa.array(_moments(tables.scenes))
        for table in RecordingTable:
            rows = getattr(tables, table.value)
            if table in _SUBJECTS:
                rows = rows.filter(pc.is_in(rows["boottime_ns"], moments))
            host_column, number = pa.array([host] * rows.num_rows, pa.string()), np.full(rows.num_rows, self._number)
            self._add_rows(table, rows.add_column(0, "host", host_column).add_column(0, SEGMENT, pa.array(number)))

    def add_parts(self, parts: Iterable[IndexPart]) -> None:
        """Add the rows of other parts for the segments that are read from them."""
        for part in parts:
            self._segments |= {key: each for key, each in part.segments.items() if each.number in part.current}
            current = pa.array(sorted(part.current))
            for table in RecordingTable:
                for path in part.files(table):
                    self._copy(table, path, current)

    def _copy(self, table: RecordingTable, path: Path, segments: Any) -> None:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                rows = file.read_row_group(group)
                self._add_rows(table, rows.filter(pc.is_in(rows[SEGMENT], segments)))

    def _add_rows(self, table: RecordingTable, rows: Any) -> None:
        schema = rows.schema.remove_metadata()
        key = table, tuple((field.name, str(field.type)) for field in schema)
        if key not in self._files:
            number = sum(table is other for other, _ in self._files)
            self._files[key] = _RowFile(self._directory / f"{table.value}-{number}.parquet", schema)
        self._files[key].add(rows.replace_schema_metadata(None))

    def finish(self) -> str:
        """Put the part in place. Returns its name. Raises OSError."""
        for file in self._files.values():
            file.close()
        write_manifest(self._directory, self._segments)
        self._directory.rename(self._target)
        return self._target.name

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        shutil.rmtree(self._directory, ignore_errors=True)


class _RowFile(Closable):
    """A file of rows with the same columns, written one row group at a time."""

    def __init__(self, path: Path, schema: Any) -> None:
        self._writer = open_writer(path, schema, with_statistics=_WITH_STATISTICS)
        self._most = max(1, _WORDS_PER_GROUP // len(schema))
        self._held: list[Any] = []
        self._rows = 0

    def add(self, rows: Any) -> None:
        self._held.append(rows)
        self._rows += rows.num_rows
        if self._rows >= self._most:
            self._write()

    def _write(self) -> None:
        if self._rows:
            self._writer.write_table(pa.concat_tables(self._held), row_group_size=self._rows)
        self._held, self._rows = [], 0

    def close(self) -> None:
        if self._writer.is_open:
            self._write()
            self._writer.close()


def _moments(scenes: Any) -> I64Array:
    """CLOCK_BOOTTIME of the first scene of each minute and of the last scene, of each series of a segment."""
    times: I64Array = scenes["boottime_ns"].to_numpy()
    series: dict[tuple[Any, ...], list[int]] = {}
    rows = zip(*(scenes[name].to_pylist() for name in ("boot", "source", "simulated")), strict=True)
    for row, key in enumerate(rows):
        series.setdefault(key, []).append(row)
    return np.unique(np.concatenate([_ends(times[its]) for its in series.values()] or [times[:0]]))


def _ends(times: I64Array) -> I64Array:
    """The first time of each minute, and the last time."""
    ordered = np.sort(times)
    _, first = np.unique(ordered // (RESOLUTION_S * 10**9), return_index=True)
    return ordered[[*first.tolist(), -1]]
