"""Assembles a ``Sample`` from stats files that were read one by one.

Shared by the sources that read one file per subject (``statsfd``, ``published``). No I/O and no clock.
Rule: subjects with equal schemas share one block, whose words are joined once and never copied stat by stat; schemas
that differ in any way get separate blocks, even those of the same provider and scope.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ..sample import NOT_KNOWN, Block, Gap, Sample, U64Array, Vcpus, VmId, Vms
from ..schema import Schema, Scope

Words: TypeAlias = bytes | bytearray | memoryview | U64Array
"""One data block: u64 words in native byte order, contiguous, ``schema.data_size`` bytes."""


@dataclass(frozen=True, slots=True)
class StatsOf:
    """The contents of one stats file of one subject. Pass equal schemas as one object, which makes grouping cheap."""

    schema: Schema
    words: Words


@dataclass(frozen=True, slots=True)
class VcpuStats:
    """A vCPU, with all of its files that could be read (none if only its existence is known)."""

    id: int
    stats: Sequence[StatsOf] = ()
    tid: int = NOT_KNOWN


@dataclass(frozen=True, slots=True)
class VmStats:
    """A VM, with its own files and its vCPUs in order of creation; fields as in ``Vms``."""

    id: VmId
    stats: Sequence[StatsOf] = ()
    vcpus: Sequence[VcpuStats] = ()
    pid: int = NOT_KNOWN
    created_ns: int = NOT_KNOWN
    label: str = ""


def assemble(
    vms: Iterable[VmStats],
    *,
    source: str,
    taken_ns: int,
    monotonic_ns: int,
    simulated: bool = False,
    gaps: Iterable[Gap] = (),
) -> Sample:
    """One sample of these VMs, ordered by ``created_ns`` (VMs of unknown or equal time keep the given order).

    A second file of the same schema for one subject is left out, with a gap.
    Raises ValueError if words are not as long as their schema says; the caller must have checked that.
    """
    ordered = sorted(vms, key=lambda vm: vm.created_ns)
    all_gaps = list(gaps)
    groups = _BlockBuilders()
    owners: list[int] = []
    for row, vm in enumerate(ordered):
        all_gaps += [_second(schema, vm.id, None) for schema in groups.add(vm.stats, Scope.VM, row)]
        for vcpu in vm.vcpus:
            twice = groups.add(vcpu.stats, Scope.VCPU, len(owners))
            all_gaps += [_second(schema, vm.id, vcpu.id) for schema in twice]
            owners.append(row)
    return Sample(
        taken_ns=taken_ns,
        monotonic_ns=monotonic_ns,
        source=source,
        simulated=simulated,
        vms=_table_of_vms(ordered),
        vcpus=Vcpus(
            vm=np.array(owners, dtype=np.int64),
            id=np.array([vcpu.id for vm in ordered for vcpu in vm.vcpus], dtype=np.int64),
            tid=np.array([vcpu.tid for vm in ordered for vcpu in vm.vcpus], dtype=np.int64),
        ),
        blocks=tuple(groups.blocks()),
        gaps=tuple(all_gaps),
    )


class _BlockBuilders:
    """Rows and words by schema, in the order in which the schemas were first seen."""

    def __init__(self) -> None:
        self._by_schema: dict[Schema, _BlockBuilder] = {}
        # A schema hashes all its descriptors; the same object is recognised without that.
        self._by_identity: dict[int, _BlockBuilder] = {}

    def add(self, stats: Iterable[StatsOf], scope: Scope, row: int) -> list[Schema]:
        """Add one subject's files; returns the schemas of those that had to be left out."""
        twice = []
        for one in stats:
            if one.schema.scope is not scope:
                raise ValueError(f"stats of a {scope.value} with a schema of a {one.schema.scope.value}")
            group = self._by_identity.get(id(one.schema)) or self._group(one.schema)
            if group.rows and group.rows[-1] == row:
                twice.append(one.schema)
                continue
            group.rows.append(row)
            group.words.append(_bytes_of(one))
        return twice

    def blocks(self) -> Iterator[Block]:
        return (group.block() for group in self._by_schema.values())

    def _group(self, schema: Schema) -> _BlockBuilder:
        group = self._by_schema.setdefault(schema, _BlockBuilder(schema, [], []))
        self._by_identity[id(schema)] = group
        return group


@dataclass(frozen=True, slots=True)
class _BlockBuilder:
    schema: Schema
    rows: list[int]
    words: list[bytes | bytearray | memoryview]

    def block(self) -> Block:
        joined = np.frombuffer(b"".join(self.words), dtype=np.uint64)
        return Block(
            schema=self.schema,
            values=joined.reshape(len(self.rows), self.schema.words),
            rows=np.array(self.rows, dtype=np.int64),
        )


def _bytes_of(one: StatsOf) -> bytes | bytearray | memoryview:
    words = one.words.data if isinstance(one.words, np.ndarray) else one.words
    size = words.nbytes if isinstance(words, memoryview) else len(words)
    if size != one.schema.data_size:
        raise ValueError(f"{size} bytes of data for a schema of {one.schema.data_size} bytes")
    return words


def _table_of_vms(vms: Sequence[VmStats]) -> Vms:
    return Vms(
        id=np.array([vm.id.value for vm in vms], dtype=np.uint64),
        pid=np.array([vm.pid for vm in vms], dtype=np.int64),
        created_ns=np.array([vm.created_ns for vm in vms], dtype=np.int64),
        label=tuple(vm.label for vm in vms),
    )


def _second(schema: Schema, vm: VmId, vcpu: int | None) -> Gap:
    return Gap("a second file with the same stats was left out", vm=vm, vcpu=vcpu, provider=schema.provider)
