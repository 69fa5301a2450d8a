"""The leaves of resolved formulas over one window: columns, their totals, and who belongs to a cohort.

Not here: arithmetic (``evaluate``). NaN is unknown; whole columns are worked out once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..formula.resolved import Cohort, Presence, Quantity, ScopedStat, StatColumn, StatTotal
from ..formula.tree import HOST, Level
from ..sample import I64Array, U64Array
from ..schema import Descriptor, Scope
from . import histogram
from .window import BoolArray, F64Array, Window, find_column


@dataclass(frozen=True, slots=True)
class Membership:
    """Which subjects belong to a cohort."""

    known: BoolArray
    is_everybody: bool

    @classmethod
    def of(cls, known: BoolArray) -> Membership:
        return cls(known, bool(known.all()))


class Runs:
    """Runs of adjacent subjects that belong to one subject of a higher level."""

    def __init__(self, edges: I64Array) -> None:
        self._size = len(edges) - 1
        self.lengths: F64Array = np.diff(edges).astype(np.float64)
        """Of each run: how many subjects."""
        # reduceat takes a run without members for one with its first.
        self._rows = np.flatnonzero(self.lengths)
        self._starts = edges[self._rows]

    def sum(self, values: Any) -> Any:
        return self._reduce(np.add, values) if values.ndim == 1 else self._sum_rows(values)

    def max(self, values: F64Array) -> F64Array:
        found: F64Array = self._reduce(np.maximum, values)
        return found

    def count(self, members: BoolArray) -> I64Array:
        found: I64Array = self._reduce(np.add, members.astype(np.int64))
        return found

    def _sum_rows(self, values: Any) -> Any:
        """Counts of histograms: whole rows at a time, since reduceat takes six times as long over rows of several."""
        summed = np.zeros((self._size, *values.shape[1:]), dtype=values.dtype)
        lengths = self.lengths.astype(np.int64)[self._rows]
        if len(lengths) < lengths.max(initial=0):
            for row, first, length in zip(self._rows, self._starts, lengths, strict=True):
                summed[row] = values[first : first + length].sum(axis=0)
            return summed
        for place in range(lengths.max(initial=0)):
            has_more = lengths > place
            summed[self._rows[has_more]] += values[self._starts[has_more] + place]
        return summed

    def _reduce(self, function: np.ufunc, values: Any) -> Any:
        if len(self._rows) == self._size:
            return function.reduceat(values, self._starts, axis=0) if self._size else values[:0]
        reduced = np.zeros((self._size, *values.shape[1:]), dtype=values.dtype)
        if len(self._rows):
            reduced[self._rows] = function.reduceat(values, self._starts, axis=0)
        return reduced


class Columns:
    """The leaves of formulas over one window."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._runs: dict[tuple[Scope, Level], Runs] = {}
        self._leaves: dict[tuple[ScopedStat, Quantity], _LeafColumn] = {}
        self._memberships: dict[Cohort, Membership] = {}
        self._members: dict[tuple[Cohort, Level], F64Array] = {}
        self._distributions: dict[StatColumn | StatTotal, histogram.Distributions] = {}

    def count(self, level: Level) -> int:
        """How many subjects there are."""
        sample = self._window.current
        return 1 if level is HOST else len(sample.vms if level is Scope.VM else sample.vcpus)

    def runs(self, scope: Scope, level: Level) -> Runs:
        """The subjects of ``scope`` that belong to each of ``level``."""
        if (scope, level) not in self._runs:
            self._runs[scope, level] = Runs(self._edges(scope, level))
        return self._runs[scope, level]

    def _edges(self, scope: Scope, level: Level) -> I64Array:
        count = self.count(scope)
        if level is scope:
            return np.arange(count + 1)
        if level is HOST:
            return np.array([0, count])
        return np.searchsorted(self._window.current.vcpus.vm, np.arange(self.count(level) + 1))

    def numbers(self, node: StatColumn | StatTotal) -> F64Array:
        """A stat of one value, of each subject or summed."""
        if isinstance(node, StatColumn):
            leaf = self._leaf(node)
            found: F64Array = _only(leaf.values, leaf.membership, np.nan)
            return found
        leaf, scope = self._leaf(node.column), node.column.stat.scope
        members = self.membership(node.cohort)
        runs = self.runs(scope, node.level)
        if node.is_max:
            folded = runs.max(_only(leaf.values, members, -np.inf))
        else:
            folded = runs.sum(_only(leaf.values, members, 0.0))
        return np.where(self._members_of(node) > 0, folded, np.nan)

    def fold(self, values: F64Array, level: Level, *, is_max: bool) -> tuple[F64Array, F64Array]:
        """Sums or maxima of the known values of vCPUs, NaN where there are none; and how many are known."""
        known = ~np.isnan(values)
        runs = self.runs(Scope.VCPU, level)
        members = _count_members(Membership.of(known), runs)
        folded = runs.max(np.where(known, values, -np.inf)) if is_max else runs.sum(np.where(known, values, 0.0))
        return np.where(members > 0, folded, np.nan), members

    def distributions(self, node: StatColumn | StatTotal) -> histogram.Distributions:
        """What the window added to a histogram, of each subject or summed."""
        if node not in self._distributions:
            self._distributions[node] = self._find_distributions(node)
        return self._distributions[node]

    def _find_distributions(self, node: StatColumn | StatTotal) -> histogram.Distributions:
        # Where nobody is known all counts are 0, and of no values there is no quantile and no share.
        if isinstance(node, StatColumn):
            leaf = self._leaf(node)
            return histogram.Distributions(leaf.descriptor, _only(leaf.values, leaf.membership, 0))
        leaf = self._leaf(node.column)
        counts = _only(leaf.values, self.membership(node.cohort), 0)
        return histogram.Distributions(leaf.descriptor, self.runs(node.column.stat.scope, node.level).sum(counts))

    def membership(self, cohort: Cohort) -> Membership:
        if cohort not in self._memberships:
            self._memberships[cohort] = self._find_membership(cohort)
        return self._memberships[cohort]

    def _find_membership(self, cohort: Cohort) -> Membership:
        alone = [self._presence(presence) for presence in cohort.presences]
        partial = [each.known for each in alone if not each.is_everybody]
        return Membership.of(np.logical_and.reduce(partial)) if partial else alone[0]

    def missing(self, cohort: Cohort, level: Level) -> I64Array:
        """How many do not belong to the cohort."""
        return self.runs(_scope_of(cohort), level).count(~self.membership(cohort).known)

    def _members_of(self, node: StatTotal) -> F64Array:
        """How many of the cohort belong to each."""
        key = (node.cohort, node.level)
        if key not in self._members:
            runs = self.runs(_scope_of(node.cohort), node.level)
            self._members[key] = _count_members(self.membership(node.cohort), runs)
        return self._members[key]

    def _presence(self, presence: Presence) -> Membership:
        if presence.is_change:
            moved = self._window.movement(*presence.stat)
            return Membership.of(moved.known if moved else self._nobody(presence.stat.scope))
        now = find_column(self._window.current, *presence.stat)
        return Membership.of(now.known if now else self._nobody(presence.stat.scope))

    def _nobody(self, scope: Scope) -> BoolArray:
        return np.zeros(self.count(scope), dtype=np.bool_)

    def _leaf(self, node: StatColumn) -> _LeafColumn:
        key = (node.stat, node.quantity)
        if key not in self._leaves:
            self._leaves[key] = self._find_leaf(node)
        return self._leaves[key]

    def _find_leaf(self, node: StatColumn) -> _LeafColumn:
        if node.quantity is Quantity.NOW:
            now = find_column(self._window.current, *node.stat)
            if now is None:
                return self._absent(node)
            return _LeafColumn(now.descriptor, now.values * now.descriptor.scale, Membership.of(now.known))
        moved = self._window.movement(*node.stat)
        if moved is None:
            return self._absent(node)
        membership = Membership.of(moved.known)
        if node.quantity is Quantity.BUCKETS:
            return _LeafColumn(moved.descriptor, moved.words, membership)
        counts, scale = moved.words, moved.descriptor.scale
        if moved.descriptor.is_histogram:
            counts, scale = counts.sum(axis=1), 1.0
        factor = scale / (1.0 if node.quantity is Quantity.CHANGE else self._window.interval_s)
        return _LeafColumn(moved.descriptor, counts.astype(np.float64) * factor, membership)

    def _absent(self, node: StatColumn) -> _LeafColumn:
        """A stat that the formula was resolved with and this sample lacks."""
        count, size = self.count(node.stat.scope), node.descriptor.size
        words = np.zeros((count, size) if node.quantity is Quantity.BUCKETS else count, dtype=np.uint64)
        return _LeafColumn(node.descriptor, words, Membership.of(self._nobody(node.stat.scope)))


@dataclass(frozen=True, slots=True)
class _LeafColumn:
    """A leaf of each subject: numbers in base units, or the counts of a histogram; anything where not known."""

    descriptor: Descriptor
    values: F64Array | U64Array
    membership: Membership


def _count_members(membership: Membership, runs: Runs) -> F64Array:
    if membership.is_everybody:
        return runs.lengths
    members: F64Array = runs.sum(membership.known.astype(np.float64))
    return members


def _scope_of(cohort: Cohort) -> Scope:
    return cohort.presences[0].stat.scope


def _only(values: Any, membership: Membership, other: float) -> Any:
    """The values of those who belong; the other subjects have ``other``."""
    if membership.is_everybody:
        return values
    known = membership.known if values.ndim == 1 else membership.known[:, np.newaxis]
    return np.where(known, values, values.dtype.type(other))
