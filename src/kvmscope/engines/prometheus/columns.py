"""The leaves of resolved formulas as PromQL: the series of a stat, and the subjects of a sum.

Sums drop only the labels of the subjects that they sum over, so the users' labels of targets stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from ...catalog.series_names import stat_family
from ...formula.resolved import Presence, Quantity, ScopedStat, StatColumn, StatTotal
from ...formula.tree import HOST, Level
from ...schema import Descriptor, Scope
from .buckets import BucketChanges
from .leaves import ExportedCount, Leaves

_TOTAL = 'le="+Inf"'


class CountSource(Enum):
    """The series to read for a count of vCPUs that is summed for a VM or the host.

    ``VM_SUMS``: sums for VMs, which ``serve`` exports at every level of detail. They equal the values of numpy for VMs
    of which every vCPU was read at both ends of the window. ``VCPUS``: series of vCPUs, which ``serve`` exports with
    ``--detail vcpu``; histograms need ``--detail full``.
    """

    VM_SUMS = "vm"
    VCPUS = "vcpu"


class ExportedColumns:
    """Leaves of one formula. ``descriptors``: of every stat in it."""

    def __init__(self, leaves: Leaves, source: CountSource, descriptors: Mapping[ScopedStat, Descriptor]) -> None:
        self._leaves = leaves
        self._source = source
        self._descriptors = descriptors

    def number(self, node: StatColumn | StatTotal) -> str:
        """A stat with one value, for each subject or summed."""
        if isinstance(node, StatColumn):
            return self._taken(node, node.stat.scope)
        at = self._summed_from(node)
        taken = self._taken(node.column, at)
        return taken if at is node.level else self._summed(node, at, taken)

    def buckets(self, node: StatColumn | StatTotal) -> BucketChanges:
        """The increase of the buckets of a histogram, for each subject or summed."""
        if isinstance(node, StatColumn):
            count = self._count(node.stat, node.stat.scope)
            whole = self._is_whole(count, node.stat)
            return BucketChanges(node.descriptor, lambda matcher: self._leaves.change(count, matcher), whole)
        at = self._summed_from(node)
        stat = node.column.stat
        count = self._count(stat, at)
        whole = self._is_whole(count, stat)
        if at is node.level:
            return BucketChanges(node.column.descriptor, lambda matcher: self._leaves.change(count, matcher), whole)

        def text(matcher: str) -> str:
            return self._summed(node, at, f"{self._leaves.change(count, matcher)} and ignoring (le) {whole}")

        return BucketChanges(node.column.descriptor, text)

    def _summed_from(self, node: StatTotal) -> Scope:
        """The scope whose series are summed."""
        is_counted = all(presence.is_change for presence in node.cohort.presences)
        has_sums = self._source is CountSource.VM_SUMS and is_counted
        return Scope.VM if has_sums else node.column.stat.scope

    def _summed(self, node: StatTotal, at: Scope, text: str) -> str:
        by = " ignoring (le)" if node.column.quantity is Quantity.BUCKETS else ""
        own = Presence(node.column.stat, node.column.quantity is not Quantity.NOW)
        others = [each for each in node.cohort.presences if each != own]
        cohort = "".join(f" and{by} {self._presence(each, at)}" for each in others)
        return f"({'max' if node.is_max else 'sum'} without ({summed_away(at, node.level)}) ({text}{cohort}))"

    def _taken(self, column: StatColumn, at: Scope) -> str:
        if column.quantity is Quantity.NOW:
            return self._series(column.stat, at)
        count = self._count(column.stat, at)
        take = self._leaves.rate if column.quantity is Quantity.RATE else self._leaves.change
        if not column.descriptor.is_histogram:
            return take(count)
        return f"(sum without (le) ({take(count, _TOTAL)}) and {self._is_whole(count, column.stat)})"

    def _presence(self, presence: Presence, at: Scope) -> str:
        """The subjects for which a stat, or its growth, is known."""
        if not presence.is_change:
            return self._series(presence.stat, at)
        count = self._count(presence.stat, at)
        return self._is_whole(count, presence.stat) if count.has_bounds else self._leaves.change(count)

    def _is_whole(self, count: ExportedCount, stat: ScopedStat) -> str:
        """The subjects with all buckets known."""
        return f"(count without (le) ({self._leaves.change(count)}) == {self._descriptors[stat].size})"

    def _count(self, stat: ScopedStat, at: Scope) -> ExportedCount:
        has_bounds = self._descriptors[stat].is_histogram
        return ExportedCount(self._series(stat, at), is_sum=at is not stat.scope, has_bounds=has_bounds)

    def _series(self, stat: ScopedStat, at: Scope) -> str:
        descriptor = self._descriptors[stat]
        name = stat_family(stat.provider, descriptor, stat.scope, level=at).sample_name
        return f"{name}_bucket" if descriptor.is_histogram else name


def summed_away(at: Scope, level: Level) -> str:
    """The labels that a sum from one level to a higher one drops."""
    if level is not HOST:
        return "vcpu"
    return "vm" if at is Scope.VM else "vm, vcpu"
