"""Thins segments to one scene per resolution interval. Works on tables, without building scenes.

Counts are cumulative, so thinning costs only resolution. Also kept: a scene in which a subject begins another epoch, so
that every reader sees its counts fall or begin, and a scene whose missing data differ from those of the previous scene.
The next kept scene reports what dropped scenes reported about the recording (losses, clocks).
Rule: epochs are those of the recorded rows. Thinning again, or coarser, keeps a subset of the kept scenes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import RecordingError
from ..sample import Gap
from .columns import SCENES_SCHEMA, SegmentTables
from .documents import GAPS, DocumentReader, DocumentWriter
from .layout import RecordingTable
from .losses import LossLog, is_of_recording

_SUBJECTS = {RecordingTable.VMS: ("vm",), RecordingTable.VCPUS: ("vm", "vcpu")}
FOLLOWED_COLUMNS = ("time", "boottime_ns", "vm", "vcpu", "epoch")
"""The columns of subjects that ``follow`` needs."""
_MOMENT = np.dtype([("time", np.int64), ("boottime_ns", np.int64)])


class SegmentThinner:
    """Takes the tables of consecutive segments and returns those of thinned segments."""

    def __init__(self, resolution_s: int) -> None:
        self._resolution_ns = resolution_s * 10**9
        self._epochs: dict[RecordingTable, dict[tuple[int, ...], int]] = {table: {} for table in _SUBJECTS}
        self._cell: tuple[object, ...] | None = None
        self._gaps: tuple[Gap, ...] = ()
        self._carried = LossLog()
        self._begin()

    def _begin(self) -> None:
        self._scenes: list[Mapping[str, Any]] = []
        self._parts: dict[RecordingTable, list[Any]] = {table: [] for table in _SUBJECTS}
        self._texts: dict[str, str] = {}
        self._documents = DocumentWriter()
        self.nbytes = 0
        """Size of the rows that were kept and not taken yet."""

    def follow(self, before: SegmentTables, path: str) -> None:
        """Continue after this segment, of which nothing is kept. Of its subjects, only ids and epochs are needed.

        Raises RecordingError.
        """
        self.add(before, path)
        self._carried = LossLog()
        self._begin()

    def add(self, tables: SegmentTables, path: str, *, is_last: bool = False) -> None:
        """Keep the scenes to keep of a segment. ``is_last``: no segment follows, so no scene can wait for the next.

        Raises RecordingError if the tables do not fit together.
        """
        try:
            self._add(tables, path, is_last)
        except (pa.ArrowException, KeyError, ValueError, TypeError) as error:
            raise RecordingError(f"a segment cannot be thinned: {error!r:.120}", path=path) from None

    def _add(self, tables: SegmentTables, path: str, is_last: bool) -> None:
        self._texts.update(zip(tables.documents["key"].to_pylist(), tables.documents["text"].to_pylist(), strict=True))
        by_table = {RecordingTable.VMS: tables.vms, RecordingTable.VCPUS: tables.vcpus}
        begins = {moment for table, rows in by_table.items() for moment in self._beginnings(table, rows)}
        rows = tables.scenes.set_column(0, "time", tables.scenes["time"].cast(pa.int64())).to_pylist()
        before = len(self._scenes)
        self._scenes.extend(self._kept(rows, begins, DocumentReader(self._texts, path), is_last))
        kept = self._scenes[before:]
        moments = np.array([(row["time"], row["boottime_ns"]) for row in kept], dtype=_MOMENT)
        for table, rows_of in by_table.items():
            part = rows_of.filter(pa.array(np.isin(_moments(rows_of), moments)))
            self._parts[table].append(part)
            self.nbytes += part.nbytes

    def _kept(
        self, rows: list[dict[str, Any]], begins: set[tuple[int, int]], reader: DocumentReader, is_last: bool
    ) -> Iterator[Mapping[str, Any]]:
        for place, row in enumerate(rows, 1):
            gaps: tuple[Gap, ...] = reader.get(GAPS, row["gaps"])
            own = tuple(gap for gap in gaps if not is_of_recording(gap))
            self._carried.take_up(gap for gap in gaps if is_of_recording(gap))
            cell = (row["boot"], row["source"], row["simulated"], row["boottime_ns"] // self._resolution_ns)
            is_new = cell != self._cell or own != self._gaps
            is_last_word = is_last and place == len(rows) and not (self._scenes and self._carried.is_empty)
            if is_new or is_last_word or (row["time"], row["boottime_ns"]) in begins:
                self._cell, self._gaps = cell, own
                yield {**row, "gaps": self._documents.key(GAPS, (*own, *self._carried.gaps()))}
                self._carried = LossLog()

    def _beginnings(self, table: RecordingTable, rows: Any) -> Iterator[tuple[int, int]]:
        """The moments at which an existing subject begins another epoch. The rows are sorted by subject."""
        if not rows.num_rows:
            return
        subjects = np.stack([rows[name].to_numpy().astype(np.int64) for name in _SUBJECTS[table]])
        epochs, moments = rows["epoch"].to_numpy(), _moments(rows)
        is_first = np.ones(len(epochs), dtype=np.bool_)
        is_first[1:] = np.any(np.diff(subjects, axis=1) != 0, axis=0)
        is_begin = np.zeros(len(epochs), dtype=np.bool_)
        is_begin[1:] = ~is_first[1:] & (np.diff(epochs) != 0)
        before = self._epochs[table]
        starts = np.flatnonzero(is_first)
        for start, end in zip(starts.tolist(), [*(starts[1:] - 1).tolist(), len(epochs) - 1], strict=True):
            subject = tuple(subjects[:, start].tolist())
            is_begin[start] = before.get(subject, epochs[start]) != epochs[start]
            before[subject] = int(epochs[end])
        yield from ((int(time), int(boottime)) for time, boottime in np.unique(moments[is_begin]).tolist())

    def take(self) -> Mapping[RecordingTable, Any]:
        """The tables of all scenes kept since the last call."""
        found = {table: _sorted(pa.concat_tables(self._parts[table], promote_options="default")) for table in _SUBJECTS}
        scenes = pa.Table.from_pylist(self._scenes, schema=SCENES_SCHEMA)
        texts = self._texts | self._documents.texts
        keys = sorted(key for key in _named(scenes, found) if key in texts)
        documents = pa.table(
            {"key": pa.array(keys, pa.string()), "text": pa.array([texts[k] for k in keys], pa.string())}
        )
        self._begin()
        return {RecordingTable.SCENES: scenes, RecordingTable.DOCUMENTS: documents, **found}


def _moments(rows: Any) -> Any:
    moments = np.empty(rows.num_rows, dtype=_MOMENT)
    moments["time"] = rows["time"].cast(pa.int64()).to_numpy()
    moments["boottime_ns"] = rows["boottime_ns"].to_numpy()
    return moments


def _sorted(rows: Any) -> Any:
    names = [name for name in ("vm", "vcpu", "time", "boottime_ns") if name in rows.column_names]
    return rows.sort_by([(name, "ascending") for name in names])


def _named(scenes: Any, subjects: Mapping[RecordingTable, Any]) -> set[str]:
    """The keys of all documents that the rows refer to."""
    keys = {key for name in ("gaps", "machine", "why_not") for key in scenes[name].unique().to_pylist()}
    keys |= {place.partition("~")[0] for blocks in scenes["blocks"].to_pylist() for place in blocks}
    for rows in subjects.values():
        for name in rows.column_names:
            if name == "identity" or name.endswith(".@schema"):
                keys |= set(rows[name].unique().to_pylist())
    return keys - {None}
