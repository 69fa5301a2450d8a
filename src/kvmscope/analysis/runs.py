"""Runs of adjacent subjects that belong to one subject of a higher level: the vCPUs of each VM, all VMs of the host."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import numpy as np

from ..formula.tree import HOST, Level
from ..sample import I64Array, Sample, U64Array
from ..schema import Scope
from .window import BoolArray, F64Array

_FEW_MEMBERS: Final = 256


def count_of(sample: Sample, level: Level) -> int:
    """The number of subjects of a level."""
    return 1 if level is HOST else len(sample.vms if level is Scope.VM else sample.vcpus)


def runs_of(sample: Sample, scope: Scope, level: Level) -> Runs:
    """The subjects of ``scope`` that belong to each subject of ``level``."""
    count = count_of(sample, scope)
    if level is scope:
        return Runs(np.arange(count + 1))
    if level is HOST:
        return Runs(np.array([0, count]))
    return Runs(np.searchsorted(sample.vcpus.vm, np.arange(count_of(sample, level) + 1)))


class Runs:
    """``edges[i]`` to ``edges[i + 1]`` are the members of run i, which may have none."""

    def __init__(self, edges: I64Array) -> None:
        self.lengths = np.diff(edges)
        """The number of members of each run."""
        # reduceat treats a run without members as if it had the first member of the next.
        self._rows = np.flatnonzero(self.lengths)
        self._starts = edges[self._rows]

    @cached_property
    def has_empty(self) -> bool:
        """Whether some run has no members."""
        return len(self._rows) < len(self.lengths)

    def sum(self, values: F64Array) -> F64Array:
        """The sum over each run along the last axis; 0 for a run without members."""
        found: F64Array = self._reduce(np.add, values)
        return found

    def max(self, values: F64Array) -> F64Array:
        """The maximum over each run along the last axis; 0 for a run without members."""
        found: F64Array = self._reduce(np.maximum, values)
        return found

    def count(self, members: BoolArray) -> I64Array:
        """The number of members of each run for which ``members`` is true, along the last axis."""
        found: I64Array = self._reduce(np.add, members.astype(np.int64))
        return found

    def _reduce(self, function: np.ufunc, values: Any) -> Any:
        if not self.has_empty:
            return function.reduceat(values, self._starts, axis=-1) if len(self.lengths) else values[..., :0]
        reduced = np.zeros((*values.shape[:-1], len(self.lengths)), dtype=values.dtype)
        if len(self._rows):
            reduced[..., self._rows] = function.reduceat(values, self._starts, axis=-1)
        return reduced

    def sum_buckets(self, counts: U64Array) -> U64Array:
        """The sum over each run of histogram counts of shape (members, buckets).

        Many members are summed by adding whole rows, which is six times as fast as ``reduceat`` over rows of several.
        """
        if len(counts) <= _FEW_MEMBERS and not self.has_empty and len(counts):
            added: U64Array = np.add.reduceat(counts, self._starts, axis=0)
            return added
        summed = np.zeros((len(self.lengths), counts.shape[1]), dtype=counts.dtype)
        lengths = self.lengths[self._rows]
        if len(lengths) < lengths.max(initial=0):
            for row, first, length in zip(self._rows, self._starts, lengths, strict=True):
                summed[row] = counts[first : first + length].sum(axis=0)
            return summed
        for place in range(lengths.max(initial=0)):
            has_more = lengths > place
            summed[self._rows[has_more]] += counts[self._starts[has_more] + place]
        return summed
