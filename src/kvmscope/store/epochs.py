"""Epochs: periods in which a subject's counts only went up, so a delta within one is the last value minus the first.

An epoch is named by its start in nanoseconds since 1970, so names increase and no recorder has to remember them.
Rule: a subject begins a new epoch when it is new, was missing from the last scene, has another schema, or when one of
its cumulative stats or histogram buckets fell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..sample import Block, I64Array, Sample, U64Array
from ..schema import Kind, Schema, Scope

_COUNTS = (Kind.CUMULATIVE, Kind.LINEAR_HISTOGRAM, Kind.LOG_HISTOGRAM)


@dataclass(frozen=True, slots=True)
class _Before:
    """The subjects and blocks of one scope in the last scene."""

    keys: tuple[U64Array, I64Array]
    epochs: I64Array
    blocks: tuple[Block, ...]


class EpochTracker:
    """Names the epochs of the subjects of consecutive scenes."""

    def __init__(self) -> None:
        self._before: dict[Scope, _Before] = {}
        self._source: tuple[object, ...] = ()

    def go_on(self, sample: Sample, epochs: tuple[I64Array, I64Array]) -> None:
        """Continue after this sample, whose VMs and vCPUs had these epochs."""
        self._source = _source_of(sample)
        for scope, its in zip((Scope.VM, Scope.VCPU), epochs, strict=True):
            self._before[scope] = _Before(_keys(sample, scope), its.copy(), tuple(sample.blocks_of(scope)))

    def of(self, sample: Sample) -> tuple[I64Array, I64Array]:
        """The epochs of a sample's VMs and of its vCPUs."""
        source = _source_of(sample)
        if source != self._source:
            self._source, self._before = source, {}
        return self._of(sample, Scope.VM), self._of(sample, Scope.VCPU)

    def _of(self, sample: Sample, scope: Scope) -> I64Array:
        keys, blocks = _keys(sample, scope), tuple(sample.blocks_of(scope))
        epochs = np.full(len(keys[0]), sample.taken_ns, dtype=np.int64)
        before = self._before.get(scope)
        if before is not None and len(before.epochs):
            rows = _match(keys, before.keys)
            goes_on = rows >= 0
            for block in blocks:
                goes_on[block.rows[~_rises(block, before.blocks, rows[block.rows])]] = False
            epochs[goes_on] = before.epochs[rows[goes_on]]
        self._before[scope] = _Before(keys, epochs, blocks)
        return epochs


def _source_of(sample: Sample) -> tuple[object, ...]:
    return sample.origin, sample.source, sample.simulated


def _keys(sample: Sample, scope: Scope) -> tuple[U64Array, I64Array]:
    if scope is Scope.VM:
        return sample.vms.id, np.zeros(len(sample.vms), dtype=np.int64)
    return sample.vms.id[sample.vcpus.vm], sample.vcpus.id


def _match(now: tuple[U64Array, I64Array], before: tuple[U64Array, I64Array]) -> I64Array:
    """For each of ``now``, its index in ``before``, -1 if missing."""
    if len(now[0]) == len(before[0]) and all(np.array_equal(a, b) for a, b in zip(now, before, strict=True)):
        return np.arange(len(now[0]), dtype=np.int64)
    kind = [("vm", np.uint64), ("vcpu", np.int64)]
    a, b = (np.array(list(zip(*(part.tolist() for part in keys), strict=True)), dtype=kind) for keys in (now, before))
    order = np.argsort(b, order=("vm", "vcpu"))
    place = order[np.minimum(np.searchsorted(b[order], a), len(b) - 1)]
    return np.where(b[place] == a, place, -1).astype(np.int64)


def _rises(block: Block, before: tuple[Block, ...], rows: I64Array) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """For each subject of a block, whether no count fell. True where the stats are new."""
    rises = np.ones(len(rows), dtype=np.bool_)
    places = counted_words(block.schema)
    for old in before:
        if old.schema.provider != block.schema.provider:
            continue
        at = np.full(int(old.rows.max(initial=-1)) + 2, -1, dtype=np.int64)
        at[old.rows] = np.arange(len(old.rows))
        inside = (rows >= 0) & (rows < len(at) - 1)
        place = np.where(inside, at[np.where(inside, rows, -1)], -1)
        both = np.flatnonzero(place >= 0)
        if old.schema != block.schema:
            rises[both] = False
        elif len(places):
            fell = block.values[both][:, places] < old.values[place[both]][:, places]
            rises[both[fell.any(axis=1)]] = False
    return rises


def counted_words(schema: Schema) -> I64Array:
    """The words of a schema that never go down."""
    words = [
        word
        for stat in schema.descriptors
        if stat.kind in _COUNTS
        for word in range(stat.offset // 8, stat.offset // 8 + stat.size)
    ]
    return np.array(sorted(set(words)), dtype=np.int64)
