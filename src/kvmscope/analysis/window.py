"""Two samples of one source, and what changed between them.

Not here: what the numbers mean (``metrics``), and bucket bounds (``histogram``). All words are raw, as in the samples;
``Descriptor.scale`` converts them.
Rule: every array has one row per subject of the *current* sample, with NaN where the value is unknown: the subject came
in this window, one of the samples lacks the stat, another thread runs a vCPU whose count is that of its thread
(provider sched), or a count went down. A count that went down was cleared (root can, through debugfs), so its increase
is not known; ``resets`` lists these counts.
Source: Documentation/virt/kvm/api.rst, 4.133 for the kinds; virt/kvm/kvm_main.c for how they can be cleared.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..sample import Block, I64Array, Sample, U64Array, Vcpus
from ..scene import Scene
from ..schema import Descriptor, Kind, Schema, Scope

F64Array: TypeAlias = npt.NDArray[np.float64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

_NOT_THERE = -1
_COUNTS = (Kind.CUMULATIVE, Kind.LINEAR_HISTOGRAM, Kind.LOG_HISTOGRAM)
_OF_THREADS = "sched"
"""The provider whose counts for a vCPU are those of its thread, and for a VM those of its other threads."""


@dataclass(frozen=True, slots=True)
class Reset:
    """A cumulative stat that went down; ``rows``: of the subjects in the current sample."""

    provider: str
    scope: Scope
    name: str
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One stat of every subject of a sample: ``words`` of shape (n,), or (n, size) for a stat of several words.

    Where ``known`` is false the sample lacks the stat of that subject, and the words are 0.
    """

    descriptor: Descriptor
    words: U64Array
    known: BoolArray

    @property
    def values(self) -> F64Array:
        """The words as numbers, NaN for unknown; an instant of 2**63 and more is one that fell below 0."""
        if self.descriptor.kind is Kind.INSTANT:
            numbers = self.words.view(np.int64).astype(np.float64)
        else:
            numbers = self.words.astype(np.float64)
        return _with_nan(numbers, ~self.known)


@dataclass(frozen=True, slots=True)
class Movement:
    """The increase of one count for every subject: ``words`` of shape (n,), or (n, size) for a histogram.

    Where ``known`` is false, the words are meaningless; where ``is_reset`` is true, this is because the count went
    down.
    """

    descriptor: Descriptor
    words: U64Array
    known: BoolArray
    is_reset: BoolArray


def find_column(
    sample: Sample, provider: str, scope: Scope, name: str, *, like: Descriptor | None = None
) -> Column | None:
    """One stat in the order of the sample's subjects; None if no subject has it.

    If publishers describe a stat of this name differently, only descriptors that agree with ``like`` count (by default,
    with the first): the others are different stats of the same name.
    """
    found: Column | None = None
    blocks = [block for block in sample.blocks_from(provider, scope) if name in block.schema]
    if len(blocks) == 1 and len(blocks[0].rows) == _count(sample, scope):
        return _whole_column(blocks[0], name) if like is None or agree(blocks[0].schema[name], like) else None
    for block in blocks:
        descriptor = block.schema[name]
        like = like or descriptor
        if not agree(descriptor, like):
            continue
        column = block.column(name)
        if found is None:
            count = _count(sample, scope)
            words = np.zeros((count, *column.shape[1:]), dtype=np.uint64)
            found = Column(descriptor, words, np.zeros(count, dtype=np.bool_))
        found.words[block.rows] = column
        found.known[block.rows] = True
    return found


def _whole_column(block: Block, name: str) -> Column:
    """The column of a block that has every subject: a view of the block."""
    return Column(block.schema[name], block.compact_column(name), block.everybody)


class Window:
    """What happened between two samples, or the samples of two scenes, of one source on one boot of one host.

    ``pinned`` and ``bpf`` count as one source: they run the same program, so a reader can switch between them.

    ``interval_s`` is by the samples' monotonic clocks. Raises UsageError if the samples are of two sources or origins,
    or the second was not taken after the first.
    """

    def __init__(self, previous: Sample | Scene, current: Sample | Scene) -> None:
        previous, current = _sample(previous), _sample(current)
        if previous.origin != current.origin and previous.origin is not None and current.origin is not None:
            raise UsageError(f"a window must be of one boot of one host, not of {previous.origin} and {current.origin}")
        if _kind(previous) != _kind(current):
            raise UsageError(f"a window must be of one source, not of {_name(previous)} and {_name(current)}")
        if current.monotonic_ns <= previous.monotonic_ns:
            raise UsageError("the current sample of a window must be later than the previous one")
        self.previous = previous
        self.current = current
        self.interval_s = (current.monotonic_ns - previous.monotonic_ns) / 1e9
        self._movements: dict[tuple[str, Scope, str], Movement | None] = {}

    def came(self, scope: Scope) -> I64Array:
        """Rows of the current sample's subjects that the previous sample lacks."""
        return np.flatnonzero(self.previous_rows(scope) == _NOT_THERE)

    def previous_rows(self, scope: Scope) -> I64Array:
        """The row in the previous sample of each subject of the current one, -1 for one that came."""
        return self._previous_vms if scope is Scope.VM else self._previous_vcpus

    def gone(self, scope: Scope) -> I64Array:
        """Rows of the previous sample's subjects that the current sample lacks."""
        is_there = np.zeros(_count(self.previous, scope), dtype=np.bool_)
        rows = self.previous_rows(scope)
        is_there[rows[rows != _NOT_THERE]] = True
        return np.flatnonzero(~is_there)

    def has(self, provider: str, scope: Scope, name: str) -> bool:
        """Whether some subject of the current sample has this stat."""
        return any(name in block.schema for block in self.current.blocks_from(provider, scope))

    def value(self, provider: str, scope: Scope, name: str) -> F64Array:
        """The stat in the current sample: shape (n,) or (n, size), raw. Exact up to 2**53."""
        column = find_column(self.current, provider, scope, name)
        return self._unknown(scope) if column is None else column.values

    def delta(self, provider: str, scope: Scope, name: str) -> F64Array:
        """The increase of a count: shape (n,), or (n, size) for a histogram. Raises UsageError if it is not a count."""
        moved = self.movement(provider, scope, name)
        if moved is None:
            return self._unknown(scope)
        return _with_nan(moved.words.astype(np.float64), ~moved.known)

    def movement(self, provider: str, scope: Scope, name: str) -> Movement | None:
        """``delta`` in whole numbers; None if no subject of the current sample has the stat. Computed once."""
        key = (provider, scope, name)
        if key not in self._movements:
            self._movements[key] = self._movement(*key)
        return self._movements[key]

    def _movement(self, provider: str, scope: Scope, name: str) -> Movement | None:
        column = find_column(self.current, provider, scope, name)
        if column is None:
            return None
        _check_counts(column.descriptor)
        before = find_column(self.previous, provider, scope, name, like=column.descriptor)
        if before is None:
            nowhere = np.zeros(len(column.words), dtype=np.bool_)
            return Movement(column.descriptor, column.words, nowhere, nowhere)
        words, known = self._align(before, scope)
        known = known & column.known
        continues = self.continues(provider, scope)
        if continues is not None:
            known = known & continues
        moved = column.words - words
        is_reset = known & _wrapped(moved, column.words)
        return Movement(column.descriptor, moved, known & ~is_reset, is_reset)

    def rate(self, provider: str, scope: Scope, name: str) -> F64Array:
        """``delta`` per second."""
        return self.delta(provider, scope, name) / self.interval_s

    @cached_property
    def resets(self) -> tuple[Reset, ...]:
        """Every count in both samples that went down."""
        stats = {
            (block.schema.provider, block.schema.scope, descriptor.name): None
            for block in self.current.blocks
            if self._may_have_gone_down(block)
            for descriptor in block.schema.descriptors
            if descriptor.kind in _COUNTS
        }
        found = ((stat, self._reset_rows(*stat)) for stat in stats)
        return tuple(Reset(*stat, rows) for stat, rows in found if rows)

    def _may_have_gone_down(self, block: Block) -> bool:
        """False if one comparison of all words shows that no count went down, as is nearly always the case."""
        runs = _words_that_count(block.schema)
        if not runs:
            return False
        like = [before for before in self.previous.blocks if before.schema == block.schema]
        if len(like) != 1:
            return True
        now, before = self._in_both(block, like[0])
        return any(bool(np.any(now[:, run] < before[:, run])) for run in runs)

    def _in_both(self, block: Block, before: Block) -> tuple[U64Array, U64Array]:
        """The words of the subjects that are in both blocks; ``before``: the block of the previous sample."""
        scope = block.schema.scope
        if self.is_unchanged(scope) and np.array_equal(before.rows, block.rows):
            return block.values, before.values
        place = _match(self.previous_rows(scope)[block.rows], before.rows)
        was_there = place != _NOT_THERE
        return block.values[was_there], before.values[place[was_there]]

    def _reset_rows(self, provider: str, scope: Scope, name: str) -> tuple[int, ...]:
        moved = self.movement(provider, scope, name)
        return () if moved is None else tuple(np.flatnonzero(moved.is_reset).tolist())

    def _align(self, before: Column, scope: Scope) -> tuple[U64Array, BoolArray]:
        """A column of the previous sample in the order of the current one's subjects, and where it is known."""
        rows = self.previous_rows(scope)
        if self.is_unchanged(scope):
            return before.words, before.known
        if len(before.words) == 0:
            return np.zeros((len(rows), *before.words.shape[1:]), dtype=np.uint64), np.zeros(len(rows), dtype=np.bool_)
        return before.words[rows], before.known[rows] & (rows != _NOT_THERE)

    def is_unchanged(self, scope: Scope) -> bool:
        """Whether both samples have the same subjects in the same order."""
        return self._same_vms if scope is Scope.VM else self._same_vcpus

    @cached_property
    def _same_vms(self) -> bool:
        if self.current.vms is self.previous.vms:  # sources reuse the object if nothing changed
            return True
        return _is_counting(self._previous_vms, len(self.previous.vms))

    @cached_property
    def _same_vcpus(self) -> bool:
        if self._same_vms and self.current.vcpus is self.previous.vcpus:
            return True
        return _is_counting(self._previous_vcpus, len(self.previous.vcpus))

    @cached_property
    def _previous_vms(self) -> I64Array:
        return _match(self.current.vms.id, self.previous.vms.id)

    @cached_property
    def _previous_vcpus(self) -> I64Array:
        now, before = self.current.vcpus, self.previous.vcpus
        if self._same_vms and now is before:
            return np.arange(len(now), dtype=np.int64)
        # A vCPU of a VM that came has a negative key, which none had before.
        return _match(*_vcpu_keys(now, self._previous_vms, before))

    def continues(self, provider: str, scope: Scope) -> BoolArray | None:
        """Whether the provider still counts from the same zero for each subject; None if it does for all of them, as
        far as is known without a look at the counts."""
        if provider != _OF_THREADS:
            return None
        return self._has_same_thread if scope is Scope.VCPU else self._has_same_threads

    @cached_property
    def _has_same_thread(self) -> BoolArray | None:
        """Whether each vCPU was last run by the same thread as in the previous sample; None if all were."""
        now, before = self.current.vcpus, self.previous.vcpus
        if self._same_vcpus and (now is before or np.array_equal(now.tid, before.tid)):
            return None
        if not len(before):
            return np.zeros(len(now), dtype=np.bool_)
        rows = self._previous_vcpus
        return np.asarray((rows != _NOT_THERE) & (before.tid[rows] == now.tid))

    @cached_property
    def _has_same_threads(self) -> BoolArray | None:
        """Whether all vCPUs of each VM still have the same threads. If a thread became a vCPU's or ceased to be one,
        its time moved from the VMM's threads or to them."""
        if self._has_same_thread is None:
            return None
        vms = np.ones(len(self.current.vms), dtype=np.bool_)
        vms[self.current.vcpus.vm[~self._has_same_thread]] = False
        previous = self._previous_vms
        return vms & ~np.isin(previous, self.previous.vcpus.vm[self.gone(Scope.VCPU)])

    def _unknown(self, scope: Scope) -> F64Array:
        return np.full(_count(self.current, scope), np.nan)


def _words_that_count(schema: Schema) -> list[slice]:
    """The words of the data block that belong to counts, adjacent ones as one slice."""
    runs: list[slice] = []
    for first, size in sorted((stat.offset // 8, stat.size) for stat in schema.descriptors if stat.kind in _COUNTS):
        if runs and runs[-1].stop == first:
            runs[-1] = slice(runs[-1].start, first + size)
        else:
            runs.append(slice(first, first + size))
    return runs


def _vcpu_keys(now: Vcpus, previous_vms: I64Array, before: Vcpus) -> tuple[I64Array, I64Array]:
    """One number per vCPU, from its VM's row in the previous sample and the rank of its id; ids can be of any size."""
    ids, ranks = np.unique(np.concatenate([now.id, before.id]), return_inverse=True)
    ranks = ranks.astype(np.int64)
    vm_of_now = previous_vms[now.vm] if len(now) else now.vm
    return vm_of_now * len(ids) + ranks[: len(now)], before.vm * len(ids) + ranks[len(now) :]


def _match(now: U64Array | I64Array, before: U64Array | I64Array) -> I64Array:
    """The place in ``before`` of each item of ``now``, or _NOT_THERE; the items of each are distinct."""
    if np.array_equal(now, before):
        return np.arange(len(now), dtype=np.int64)
    if len(before) == 0:
        return np.full(len(now), _NOT_THERE, dtype=np.int64)
    order = np.argsort(before)
    place = order[np.minimum(np.searchsorted(before, now, sorter=order), len(before) - 1)]
    return np.where(before[place] == now, place, _NOT_THERE).astype(np.int64)


def _is_counting(rows: I64Array, count: int) -> bool:
    """Whether rows are 0, 1, 2 … count - 1."""
    return len(rows) == count and np.array_equal(rows, np.arange(count))


def _wrapped(moved: U64Array, now: U64Array) -> BoolArray:
    """Where a difference wrapped below zero: it is then larger than its minuend."""
    down = moved > now
    if not down.any():
        return np.zeros(len(down), dtype=np.bool_)
    return np.asarray(down.any(axis=tuple(range(1, down.ndim))))


def _with_nan(numbers: F64Array, where: BoolArray) -> F64Array:
    numbers[where] = np.nan
    return numbers


def agree(a: Descriptor, b: Descriptor) -> bool:
    """Whether the numbers of both have the same meaning; their places in the data do not matter."""
    return (a.kind, a.unit, a.base, a.exponent, a.size, a.bucket_size) == (
        b.kind,
        b.unit,
        b.base,
        b.exponent,
        b.size,
        b.bucket_size,
    )


def _check_counts(descriptor: Descriptor) -> None:
    if descriptor.kind not in _COUNTS:
        kind = descriptor.kind.name.lower() if isinstance(descriptor.kind, Kind) else "of a kind that is not known here"
        raise UsageError(f"{descriptor.name} is {kind}: it has a value, not a rate; read it with Window.value()")


def _count(sample: Sample, scope: Scope) -> int:
    return len(sample.vms) if scope is Scope.VM else len(sample.vcpus)


def _sample(moment: Sample | Scene) -> Sample:
    return moment if isinstance(moment, Sample) else moment.sample


def _kind(sample: Sample) -> tuple[str, bool]:
    return "bpf" if sample.source == "pinned" else sample.source, sample.simulated


def _name(sample: Sample) -> str:
    return f"{sample.source} (simulated)" if sample.simulated else sample.source
