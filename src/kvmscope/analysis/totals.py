"""Counts of vCPUs summed for each VM over consecutive samples, such that a removed vCPU does not lower the sum.

A vCPU that is no longer in a sample, or could not be read in it, stays in its VM's sum with the last values that were
read. If a vCPU comes back with lower counts, it is another one: the values of the first stay in the sum too.

Rule: a sum falls only if a count itself fell while its vCPU existed, which is a reset that the reader must see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..sample import Block, I64Array, Sample, U64Array
from ..schema import Descriptor, Kind, Schema, Scope

_Vcpu = tuple[int, int]
"""Id of the VM and id of the vCPU in it."""

_COUNTS = (Kind.CUMULATIVE, Kind.LINEAR_HISTOGRAM, Kind.LOG_HISTOGRAM)


@dataclass(frozen=True)
class VmSum:
    """The counts of one schema of vCPUs for each VM that has any. The rows of ``block`` are those of VMs.

    ``stats``: the descriptors that are summed; other columns of ``block`` mean nothing.
    """

    block: Block
    stats: tuple[Descriptor, ...]


class VmTotals:
    """Sums the counts of vCPUs for VMs; ``update`` it with every sample in turn."""

    def __init__(self) -> None:
        self._memories: dict[Schema, _Memory] = {}

    def update(self, sample: Sample) -> tuple[VmSum, ...]:
        """The sums after this sample, for each schema of vCPUs in it or an earlier one."""
        vms = {int(vm): row for row, vm in enumerate(sample.vms.id.tolist())}
        blocks = {block.schema: block for block in sample.blocks_of(Scope.VCPU)}
        for schema in blocks.keys() - self._memories.keys():
            self._memories[schema] = _Memory(schema)
        for schema, memory in self._memories.items():
            memory.take(sample, blocks.get(schema), vms)
        self._memories = {schema: memory for schema, memory in self._memories.items() if not memory.is_empty}
        return tuple(memory.sums(vms) for memory in self._memories.values())


class _Memory:
    """The last words of every vCPU of one schema: those of the last sample, and separately those of vCPUs that went.

    ``_gone``: of vCPUs that may come back. ``_replaced``: by VM, of vCPUs whose id another vCPU has now.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._stats = tuple(stat for stat in schema.descriptors if stat.kind in _COUNTS and stat.is_understood)
        self._places = [stat.offset // 8 + word for stat in self._stats for word in range(stat.size)]
        self._keys: tuple[U64Array, I64Array] = (np.zeros(0, np.uint64), np.zeros(0, np.int64))
        self._owners: I64Array = np.zeros(0, np.int64)
        self._words: U64Array = np.zeros((0, schema.words), np.uint64)
        self._gone: dict[_Vcpu, U64Array] = {}
        self._replaced: dict[int, U64Array] = {}

    @property
    def is_empty(self) -> bool:
        return not (len(self._words) or self._gone or self._replaced)

    def take(self, sample: Sample, block: Block | None, vms: Mapping[int, int]) -> None:
        """Remember this sample's words, and the earlier ones of vCPUs that it lacks, for VMs that still live."""
        rows = np.zeros(0, np.int64) if block is None else block.rows
        words = np.zeros((0, self._schema.words), np.uint64) if block is None else block.values
        owners = sample.vcpus.vm[rows]
        keys = (sample.vms.id[owners], sample.vcpus.id[rows])
        if not all(map(np.array_equal, keys, self._keys)):
            self._part(_rows_by_key(self._keys), _rows_by_key(keys), words)
        self._gone = {key: last for key, last in self._gone.items() if key[0] in vms}
        self._replaced = {vm: last for vm, last in self._replaced.items() if vm in vms}
        self._keys, self._owners, self._words = keys, owners, words

    def _part(self, before: Mapping[_Vcpu, int], now: Mapping[_Vcpu, int], words: U64Array) -> None:
        for key in self._gone.keys() & now.keys():
            last = self._gone.pop(key)
            if np.any(words[now[key]][self._places] < last[self._places]):
                vm = key[0]
                self._replaced[vm] = self._replaced[vm] + last if vm in self._replaced else last
        self._gone |= {key: self._words[row].copy() for key, row in before.items() if key not in now}

    def sums(self, vms: Mapping[int, int]) -> VmSum:
        """A row for each VM that has a vCPU here, in the order of the sample."""
        sums = np.zeros((len(vms), self._schema.words), np.uint64)
        has = np.zeros(len(vms), np.bool_)
        if len(self._owners):
            starts = np.flatnonzero(np.diff(self._owners, prepend=-1))
            sums[self._owners[starts]] = np.add.reduceat(self._words, starts, axis=0)
            has[self._owners[starts]] = True
        apart = [*((vm, last) for (vm, _), last in self._gone.items()), *self._replaced.items()]
        for vm, last in apart:
            sums[vms[vm]] += last
            has[vms[vm]] = True
        rows = np.flatnonzero(has)
        return VmSum(Block(self._schema, sums[rows], rows), self._stats)


def _rows_by_key(keys: tuple[U64Array, I64Array]) -> dict[_Vcpu, int]:
    return {key: row for row, key in enumerate(zip(keys[0].tolist(), keys[1].tolist(), strict=True))}
