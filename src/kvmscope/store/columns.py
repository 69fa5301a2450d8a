"""Scenes to tables of columns and back: the content of a segment's Parquet files.

    scenes      a row a scene: ``time``, ``boottime_ns``, ``source``, ``simulated``, ``origin_host``, ``boot``,
                ``blocks`` (``KEY~LANE`` of each), ``gaps``, ``machine``, ``why_not`` (keys)
    documents   ``key``, ``text``: JSON of the documents
    vms         a row a VM of a scene: ``time``, ``boottime_ns``, ``boot``, ``vm``, ``row``, ``epoch``, ``name``,
                ``uuid``, ``vmm``, ``pid``, ``created_ns``, ``label``, ``identity`` (key), ``silent_s``, and its stats
    vcpus       a row a vCPU of a scene: the same times, ``vm``, ``name``, ``vcpu``, ``row``, ``tid``, ``epoch``, stats

``names`` maps columns to the words of a schema.
Rule: numbers are the words as they were read; a subject that was not read has nulls, never zeros. Rows are sorted by
subject, then time, so consecutive values of a count are adjacent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ..errors import RecordingError
from ..host.facts import Machine
from ..host.text import without_surrogates
from ..sample import NOT_KNOWN, Block, I64Array, Origin, Sample, U64Array, Vcpus, Vms
from ..scene import Scene, VmIdentity
from ..schema import Schema, Scope
from .documents import GAPS, WHY_NOT, DocumentReader, DocumentWriter
from .epochs import EpochTracker
from .journal import with_silence
from .layout import RecordingTable
from .names import column_names, schema_column

TIME: Final = pa.timestamp("ns", "UTC")
_WORDS = pa.dictionary(pa.int32(), pa.string())

DOCUMENTS_SCHEMA = pa.schema([("key", pa.string()), ("text", pa.string())])

SCENES_SCHEMA = pa.schema(
    [
        ("time", TIME),
        ("boottime_ns", pa.int64()),
        ("source", pa.string()),
        ("simulated", pa.bool_()),
        ("origin_host", pa.string()),
        ("boot", pa.string()),
        ("blocks", pa.list_(pa.string())),
        ("gaps", pa.string()),
        ("machine", pa.string()),
        ("why_not", pa.string()),
    ]
)


def lanes_of(sample: Sample) -> list[int]:
    """For each block, the lane of its columns: the first lane in which no earlier block has any of its subjects."""
    taken: dict[tuple[str, Scope], list[set[int]]] = {}
    lanes = []
    for block in sample.blocks:
        used = taken.setdefault((block.schema.provider, block.schema.scope), [])
        if not used:  # almost always
            used.append(set(block.rows.tolist()))
            lanes.append(0)
            continue
        rows = set(block.rows.tolist())
        lane = next((lane for lane, there in enumerate(used) if there.isdisjoint(rows)), len(used))
        if lane == len(used):
            used.append(set())
        used[lane] |= rows
        lanes.append(lane)
    return lanes


def tables_of(scenes: Sequence[Scene], epochs: EpochTracker) -> Mapping[RecordingTable, Any]:
    """The tables of consecutive scenes."""
    documents = DocumentWriter()
    return {
        RecordingTable.SCENES: _scenes_table(scenes, documents),
        **_subject_tables(scenes, epochs, documents),
        RecordingTable.DOCUMENTS: pa.table(
            {"key": list(documents.texts), "text": list(documents.texts.values())},
            schema=DOCUMENTS_SCHEMA,
        ),
    }


def _scenes_table(scenes: Sequence[Scene], documents: DocumentWriter) -> Any:
    rows = []
    for scene in scenes:
        sample, origin = scene.sample, scene.sample.origin
        machine, gaps, why_not = documents.scene(scene)
        rows.append(
            {
                "time": sample.taken_ns,
                "boottime_ns": sample.monotonic_ns,
                "source": sample.source,
                "simulated": sample.simulated,
                "origin_host": origin.host if origin else None,
                "boot": origin.boot if origin else None,
                "blocks": [
                    f"{documents.schema(block.schema)}~{lane}"
                    for block, lane in zip(sample.blocks, lanes_of(sample), strict=True)
                ],
                "gaps": gaps,
                "machine": machine,
                "why_not": why_not,
            }
        )
    return pa.Table.from_pylist(rows, schema=SCENES_SCHEMA)


def _subject_tables(
    scenes: Sequence[Scene], epochs: EpochTracker, documents: DocumentWriter
) -> Mapping[RecordingTable, Any]:
    of_scenes = [epochs.of(scene.sample) for scene in scenes]
    vms, vcpus = _Rows(Scope.VM), _Rows(Scope.VCPU)
    for scene, (vm_epochs, vcpu_epochs) in zip(scenes, of_scenes, strict=True):
        sample, identities = scene.sample, scene.identities
        processes = [identity.process for identity in identities]
        names = [identity.name for identity in identities]
        vms.add(
            scene,
            documents,
            {
                "vm": sample.vms.id,
                "row": np.arange(len(sample.vms)),
                "epoch": vm_epochs,
                "pid": sample.vms.pid,
                "created_ns": sample.vms.created_ns,
            },
            {
                "name": names,
                "uuid": [process.uuid if process else None for process in processes],
                "vmm": [process.vmm if process else None for process in processes],
                "label": list(sample.vms.label),
                "identity": [documents.identity(identity) for identity in identities],
            },
            {"silent_s": [identity.silent_s for identity in identities]},
        )
        vcpus.add(
            scene,
            documents,
            {
                "vm": sample.vms.id[sample.vcpus.vm],
                "vcpu": sample.vcpus.id,
                "row": np.arange(len(sample.vcpus)),
                "epoch": vcpu_epochs,
                "tid": sample.vcpus.tid,
            },
            {"name": [names[row] for row in sample.vcpus.vm.tolist()]},
            {},
        )
    return {RecordingTable.VMS: vms.table(), RecordingTable.VCPUS: vcpus.table()}


_UNKNOWN_AS_NULL = ("pid", "tid", "created_ns")


class _Rows:
    """Collects the rows of one table, scene by scene."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._numbers: dict[str, list[Any]] = {}
        self._words: dict[str, list[str | None]] = {}
        self._floats: dict[str, list[float | None]] = {}
        self._stats: dict[str, list[tuple[I64Array, U64Array]]] = {}
        self._names: dict[tuple[str, int], list[tuple[str, int]]] = {}
        self._count = 0

    def add(
        self,
        scene: Scene,
        documents: DocumentWriter,
        numbers: Mapping[str, Any],
        words: Mapping[str, list[str | None] | list[str]],
        floats: Mapping[str, list[float | None]],
    ) -> None:
        sample = scene.sample
        count = len(numbers["vm"])
        times = {"time": sample.taken_ns, "boottime_ns": sample.monotonic_ns}
        for name, value in times.items():
            self._numbers.setdefault(name, []).append(np.full(count, value, dtype=np.int64))
        for name, values in numbers.items():
            self._numbers.setdefault(name, []).append(values)
        boot = sample.origin.boot if sample.origin else None
        for name, texts in {"boot": [boot] * count, **words}.items():
            self._words.setdefault(name, []).extend(texts)
        for name, given in floats.items():
            self._floats.setdefault(name, []).extend(given)
        for block, lane in zip(sample.blocks, lanes_of(sample), strict=True):
            if block.schema.scope is self._scope:
                self._add_block(block, lane, documents, count)
        self._count += count

    def _add_block(self, block: Block, lane: int, documents: DocumentWriter, count: int) -> None:
        """Add the words of a block and the key of its schema."""
        rows = block.rows + self._count
        key = documents.schema(block.schema)
        whose = self._words.setdefault(schema_column(block.schema.provider, lane), [])
        whose.extend([None] * (self._count + count - len(whose)))
        for row in rows.tolist():
            whose[row] = key
        words = np.ascontiguousarray(block.values.T)  # once for the block: word by word would read all of it each time
        if (key, lane) not in self._names:
            self._names[key, lane] = list(column_names(block.schema, lane))
        for name, word in self._names[key, lane]:
            self._stats.setdefault(name, []).append((rows, words[word]))

    def table(self) -> Any:
        """The table, sorted by subject, then time."""
        columns: dict[str, Any] = {}
        kept = {name: np.concatenate(parts) for name, parts in self._numbers.items()}
        keys = [kept["boottime_ns"], kept["time"], *([kept["vcpu"]] if "vcpu" in kept else []), kept["vm"]]
        order = np.lexsort(keys) if self._count else np.zeros(0, dtype=np.int64)
        columns["time"] = pa.array(kept.pop("time")[order].astype(np.int64), pa.int64()).cast(TIME)
        for name, values in kept.items():
            sorted_values = values[order]
            mask = sorted_values == NOT_KNOWN if name in _UNKNOWN_AS_NULL else None
            columns[name] = pa.array(sorted_values, mask=mask)
        taken = pa.array(order)
        for name, texts in self._words.items():
            texts.extend([None] * (self._count - len(texts)))
            columns[name] = _strings(texts).dictionary_encode().take(taken)
        for name, given in self._floats.items():
            columns[name] = pa.array(given, pa.float64()).take(taken)
        for name, parts in self._stats.items():
            columns[name] = self._stat_column(parts, order)
        return pa.table(columns)

    def _stat_column(self, parts: list[tuple[I64Array, U64Array]], order: I64Array) -> Any:
        given = np.concatenate([values for _, values in parts])
        rows = np.concatenate([rows for rows, _ in parts])
        if len(rows) == self._count and bool((rows[:-1] < rows[1:]).all()):
            return pa.array(given[order])
        words = np.zeros(self._count, dtype=np.uint64)
        missing = np.ones(self._count, dtype=np.bool_)
        words[rows] = given
        missing[rows] = False
        return pa.array(words[order], mask=missing[order] if missing.any() else None)


def _strings(texts: Sequence[str | None]) -> Any:
    """The strings as an array of pyarrow, which rejects lone surrogates (bytes of a name that are not UTF-8)."""
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError:
        return pa.array([None if text is None else without_surrogates(text) for text in texts], pa.string())


# --- tables to scenes -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SegmentTables:
    """The tables of one segment, as they were read."""

    scenes: Any
    documents: Any
    vms: Any
    vcpus: Any


class SegmentScenes:
    """The scenes of a segment, each built on access. Raises RecordingError if the tables do not fit together."""

    def __init__(self, tables: SegmentTables, path: str) -> None:
        self._path = path
        try:
            texts = dict(zip(tables.documents["key"].to_pylist(), tables.documents["text"].to_pylist(), strict=True))
            self._reader = DocumentReader(texts, path)
            self._vms, self._vcpus = _SubjectTable(tables.vms), _SubjectTable(tables.vcpus)
            self._rows = tables.scenes.set_column(0, "time", tables.scenes["time"].cast(pa.int64())).to_pylist()
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise RecordingError(f"its tables lack what a segment has: {error}", path=path) from None

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def times(self) -> list[tuple[int, int]]:
        """The time of each scene: CLOCK_REALTIME, CLOCK_BOOTTIME."""
        return [(row["time"], row["boottime_ns"]) for row in self._rows]

    def scene(self, place: int) -> Scene:
        """The scene at an index."""
        try:
            return _scene(self._rows[place], self._vms, self._vcpus, self._reader)
        except (pa.ArrowException, KeyError, ValueError, TypeError, IndexError) as error:
            raise RecordingError(f"a scene is inconsistent: {error!r:.120}", path=self._path) from None


class _SubjectTable:
    """The rows of a table, by scene."""

    def __init__(self, table: Any) -> None:
        self._table = table
        times = np.stack([table["time"].cast(pa.int64()).to_numpy(), table["boottime_ns"].to_numpy()])
        self._order = np.lexsort((table["row"].to_numpy(), times[1], times[0]))
        sorted_times = times[:, self._order]
        is_first = np.ones(len(self._order), dtype=np.bool_)
        is_first[1:] = np.any(np.diff(sorted_times, axis=1) != 0, axis=0)
        starts = np.flatnonzero(is_first)
        ends = [*starts[1:].tolist(), len(self._order)][: len(starts)]
        self._places = {
            (int(sorted_times[0, start]), int(sorted_times[1, start])): slice(start, end)
            for start, end in zip(starts.tolist(), ends, strict=True)
        }
        self._columns: dict[str, Any] = {}
        self._known: dict[str, Any] = {}
        self._words: dict[str, list[tuple[str, int]]] = {}

    def rows(self, taken_ns: int, boottime_ns: int) -> slice:
        return self._places.get((taken_ns, boottime_ns), slice(0, 0))

    def numbers(self, name: str, rows: slice, kind: Any = np.int64) -> Any:
        """A column of numbers, NOT_KNOWN where it is null."""
        if name not in self._columns:
            column = self._table[name].combine_chunks()
            filled = column.fill_null(NOT_KNOWN if kind is np.int64 else 0) if column.null_count else column
            self._columns[name] = filled.to_numpy(zero_copy_only=False)[self._order].astype(kind, copy=False)
        return self._columns[name][rows]

    def words(self, place: str, schema: Schema, lane: int) -> list[tuple[str, int]]:
        """The column of each word of a block. ``place``: its key and lane. Cached, as most scenes have the same
        blocks."""
        if place not in self._words:
            self._words[place] = list(column_names(schema, lane))
        return self._words[place]

    def texts(self, name: str, rows: slice) -> list[Any]:
        """A column of strings or floats, None where null; all None if the table lacks the column."""
        if name not in self._known:
            is_there = name in self._table.column_names
            column = self._table[name].to_pylist() if is_there else [None] * len(self._order)
            self._known[name] = [column[place] for place in self._order.tolist()]
        found: list[Any] = self._known[name][rows]
        return found


def _scene(row: Mapping[str, Any], vms: _SubjectTable, vcpus: _SubjectTable, reader: DocumentReader) -> Scene:
    of_vms = vms.rows(row["time"], row["boottime_ns"])
    of_vcpus = vcpus.rows(row["time"], row["boottime_ns"])
    ids = vms.numbers("vm", of_vms, np.uint64)
    vm_rows = {int(vm): place for place, vm in enumerate(ids.tolist())}
    owners = np.array([vm_rows[vm] for vm in vcpus.numbers("vm", of_vcpus, np.uint64).tolist()], dtype=np.int64)
    subjects = {Scope.VM: (vms, of_vms), Scope.VCPU: (vcpus, of_vcpus)}
    sample = Sample(
        taken_ns=row["time"],
        monotonic_ns=row["boottime_ns"],
        source=row["source"],
        simulated=row["simulated"],
        vms=Vms(ids, vms.numbers("pid", of_vms), vms.numbers("created_ns", of_vms), tuple(vms.texts("label", of_vms))),
        vcpus=Vcpus(owners, vcpus.numbers("vcpu", of_vcpus), vcpus.numbers("tid", of_vcpus)),
        blocks=tuple(_block(place, reader, subjects) for place in row["blocks"]),
        gaps=reader.get(GAPS, row["gaps"]),
        origin=None if row["boot"] is None else Origin(row["origin_host"], row["boot"]),
    )
    identities = zip(vms.texts("identity", of_vms), vms.texts("silent_s", of_vms), strict=True)
    return Scene(
        sample,
        tuple(with_silence(reader.get(VmIdentity, key), silent_s) for key, silent_s in identities),
        reader.get(Machine, row["machine"]),
        reader.get(WHY_NOT, row["why_not"]),
    )


def _block(place: str, reader: DocumentReader, subjects: Mapping[Scope, tuple[_SubjectTable, slice]]) -> Block:
    """The block in the columns of a lane."""
    key, _, lane = place.partition("~")
    schema: Schema = reader.get(Schema, key)
    table, rows = subjects[schema.scope]
    owners = table.texts(schema_column(schema.provider, int(lane)), rows)
    those = np.array([row for row, owner in enumerate(owners) if owner == key], dtype=np.int64)
    values = np.zeros((len(those), schema.words), dtype=np.uint64)
    has_all = len(those) == len(owners)
    for name, word in table.words(place, schema, int(lane)):
        numbers = table.numbers(name, rows, np.uint64)
        values[:, word] = numbers if has_all else numbers[those]
    return Block(schema, values, those)
