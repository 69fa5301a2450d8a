"""A long recording of one host, as small tables in the memory of DuckDB, one piece of time after the other.

A piece has consecutive scenes of those chosen, and the columns that a query reads, under the names of ``tables`` in a
separate schema. The next piece replaces it. All scenes are of one boot, host and source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa

from ..analysis.window import BoolArray
from ..errors import RecordingError
from ..sample import NOT_KNOWN, I64Array, U64Array
from ..schema import Scope
from ..store.replay import SceneMoment
from .columns import BlockSet
from .recorded_documents import RecordedDocuments
from .recordings import RecordingStore
from .spelling import literal, quote
from .tables import RAW, SUBJECTS, RawTable
from .thinning import NeededStats, thinned_columns

PIECE: Final = "piece"
"""The schema of a piece."""
SUSPECTS: Final = "suspects"
"""The schema of some VMs of the piece, with other columns."""


@dataclass(frozen=True, slots=True)
class LeavingVm:
    """A VM that is missing from a scene but present in the previous one. ``place``: of the scene without it. ``name``:
    untrusted."""

    vm: int
    place: int
    name: str


class RecordingPieces:
    """The pieces of a recording. ``vms``: ids of all VMs of the host, sorted."""

    def __init__(self, store: RecordingStore, moments: Sequence[SceneMoment]) -> None:
        """Raises RecordingError if the store lacks these scenes."""
        self._store = store
        self._moments = moments
        self._first, self._scenes, self._blocks = 0, moments[:0], list[str]()
        store.make(f"CREATE SCHEMA {PIECE}")
        store.make(f"CREATE SCHEMA {SUSPECTS}")
        hosts = self.read(f"SELECT DISTINCT host FROM {RAW}.scenes AS s WHERE {_of_series(moments[0])}")["host"]
        if len(hosts) != 1:
            raise _not_those()
        self._host = str(hosts[0])
        rows = store.rows_of(RawTable.VMS, [self._host])
        self.vms = _ids(self.read(f"SELECT DISTINCT vm FROM ({rows}) AS r ORDER BY vm"))

    @cached_property
    def documents(self) -> RecordedDocuments:
        """The documents of all scenes of the recording."""
        return RecordedDocuments(self._store)

    def open(self, first: int, last: int, stats: NeededStats) -> None:
        """Load the scenes between these places, and their subjects with these statistics. Raises RecordingError if the
        recording lacks any of these scenes."""
        self._first, self._scenes = first, self._moments[first : last + 1]
        times = ", ".join(str(moment.boottime_ns) for moment in self._scenes)
        chosen = f"{_of_series(self._scenes[0])} AND boottime_ns IN ({times})"
        self._replace(PIECE, RawTable.SCENES, f"SELECT * FROM {RAW}.scenes AS s WHERE {chosen}")
        self._blocks = self._read_blocks()
        if len(self._blocks) != len(self._scenes):
            raise _not_those()
        for scope in Scope:
            self._add(PIECE, scope, stats, "true")

    @property
    def block_sets(self) -> tuple[BlockSet, ...]:
        """The distinct sets of blocks of the piece's scenes."""
        its = set(self._blocks)
        return tuple(blocks for blocks in self.documents.block_sets if blocks.text in its)

    def suspect(self, vms: U64Array, stats: NeededStats) -> None:
        """Load these VMs of the piece into SUSPECTS, with other statistics."""
        chosen = f"r.vm IN ({', '.join(map(str, vms.tolist()))})"
        self._replace(SUSPECTS, RawTable.SCENES, f"SELECT * FROM {PIECE}.scenes")
        for scope in Scope:
            self._add(SUSPECTS, scope, stats, chosen)

    def present(self) -> BoolArray:
        """Which VMs each scene of the piece has: a row for each scene, a column for each VM."""
        found = self.read(f"SELECT boottime_ns, vm FROM {PIECE}.vms")
        present = np.zeros((len(self._scenes), len(self.vms)), dtype=np.bool_)
        present[self._scene_places(found), self.vm_places(found)] = True
        return present

    def leaving(self, present: BoolArray) -> list[LeavingVm]:
        """The VMs that disappeared in the piece, each with its name in the previous scene. ``present``: as returned by
        ``present``."""
        gone = np.argwhere(present[:-1] & ~present[1:]).tolist()
        return [
            LeavingVm(vm, self._first + at + 1, self._name(vm, at))
            for at, vm in ((at, int(self.vms[column])) for at, column in gone)
        ]

    def with_other_blocks(self) -> BoolArray:
        """For each window of the piece, whether the blocks of its two scenes differ."""
        return np.array([a != b for a, b in pairwise(self._blocks)], dtype=np.bool_)

    def with_other_threads(self) -> BoolArray:
        """For each window of the piece, whether a vCPU has another thread at its end or is gone."""
        tid = f"coalesce(tid, {NOT_KNOWN})"
        found = self.read(f"""
            SELECT boottime_ns, vm, vcpu, {tid} AS tid FROM {PIECE}.vcpus WHERE (vm, vcpu) IN (
                SELECT (vm, vcpu) FROM {PIECE}.vcpus GROUP BY vm, vcpu
                HAVING min({tid}) <> max({tid}) OR count(*) < {len(self._scenes)})
            ORDER BY vm, vcpu, boottime_ns""")
        places, vms = self._scene_places(found), _ids(found)
        vcpus, tids = numbers(found, "vcpu"), numbers(found, "tid")
        follows = np.zeros(len(places), dtype=np.bool_)
        follows[:-1] = (vms[1:] == vms[:-1]) & (vcpus[1:] == vcpus[:-1]) & (places[1:] == places[:-1] + 1)
        follows[:-1] &= tids[1:] == tids[:-1]
        ends = places[~follows]
        other = np.zeros(len(self._scenes) - 1, dtype=np.bool_)
        other[ends[ends < len(other)]] = True
        return other

    def vm_places(self, found: pa.Table) -> I64Array:
        """The column number of the VM in each row of a result."""
        return np.searchsorted(self.vms, _ids(found)).astype(np.int64)

    def window_places(self, found: pa.Table) -> I64Array:
        """The number of the window in each row of a result, by ``end_ns``."""
        return self._scene_places(found, "end_ns") - 1

    def read(self, sql: str) -> pa.Table:
        """The result of a query as an Arrow table. Raises QueryError, RecordingError, Unavailable."""
        return self._store.read(sql)

    # --- tables -------------------------------------------------------------------------------------------------------

    def _replace(self, schema: str, table: RawTable, query: str) -> None:
        name = f"{schema}.{table.value}"
        self._store.make(f"DROP TABLE IF EXISTS {name}")
        self._store.keep(name, query)

    def _add(self, schema: str, scope: Scope, stats: NeededStats, chosen: str) -> None:
        """Make the relation of the subjects of a scope, for the VMs that meet ``chosen``."""
        table, scenes = SUBJECTS[scope], self._scenes
        names = [*thinned_columns(table, scope, self.documents.schemas, stats), *_ALSO[scope]]
        # The time selects files and row groups; DuckDB has it here in microseconds.
        first, last = scenes[0].taken_ns // 1000 - 1, scenes[-1].taken_ns // 1000 + 1
        self._replace(
            schema,
            table,
            f"SELECT {', '.join(map(quote, names))} FROM ({self._store.rows_of(table, [self._host])}) AS r "
            f"WHERE r.time BETWEEN make_timestamptz({first}) AND make_timestamptz({last}) AND {chosen} "
            f"AND {_boot_is(scenes[0])} AND r.boottime_ns IN (SELECT boottime_ns FROM {PIECE}.scenes)",
        )

    # --- small queries ------------------------------------------------------------------------------------------------

    def _read_blocks(self) -> list[str]:
        """The blocks of each scene of the piece."""
        found = self.read(f"SELECT array_to_string(blocks, ' ') AS blocks FROM {PIECE}.scenes ORDER BY boottime_ns")
        blocks: list[str] = found["blocks"].to_pylist()
        return blocks

    def _name(self, vm: int, place: int) -> str:
        """The name of a VM in a scene of the piece."""
        boottime_ns = self._scenes[place].boottime_ns
        found = self.read(f"SELECT name FROM {PIECE}.vms WHERE vm = {vm} AND boottime_ns = {boottime_ns}")
        return str(found["name"][0])

    def _scene_places(self, found: pa.Table, column: str = "boottime_ns") -> I64Array:
        """The number of the scene in each row of a result."""
        times = np.array([scene.boottime_ns for scene in self._scenes], dtype=np.int64)
        return np.searchsorted(times, numbers(found, column)).astype(np.int64)


_ALSO: Final = {Scope.VM: (), Scope.VCPU: ("tid",)}
"""Columns that thinned recordings lack."""


def numbers(found: pa.Table, column: str) -> I64Array:
    """A column of a result without NULL, as integers; also a column of doubles with integer values."""
    its: I64Array = found[column].combine_chunks().to_numpy(zero_copy_only=False).astype(np.int64)
    return its


def _ids(found: pa.Table) -> U64Array:
    """The ids of the VMs of a result."""
    ids: U64Array = found["vm"].combine_chunks().to_numpy(zero_copy_only=False).astype(np.uint64)
    return ids


def _of_series(moment: SceneMoment) -> str:
    """The condition for scenes of the same host, boot and source as this one."""
    host = "IS NULL" if moment.host is None else f"= {literal(moment.host)}"
    is_its = f"source = {literal(moment.source)} AND simulated = {str(moment.simulated).lower()}"
    return f"origin_host {host} AND {_boot_is(moment)} AND {is_its}"


def _boot_is(moment: SceneMoment) -> str:
    return f"coalesce(boot, '') = {literal(moment.boot or '')}"


def _not_those() -> RecordingError:
    return RecordingError("its scenes are not those that it had before", path="recording")
