"""Compares two recordings, two time spans of one, or two sets of hosts: the hosts themselves, and each metric.

``analysis.difference`` has the statistics; ``analysis.difference_sides`` decides what is compared with what.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from ..analysis.difference import (
    CONFIDENCE,
    ChangeEstimate,
    DifferenceVerdict,
    MeanEstimate,
    RatioEstimate,
    estimate_change,
)
from ..analysis.difference_sides import (
    SpanValues,
    VmPair,
    estimate_by_vm,
    estimate_pairs,
    estimate_together,
    pair_vms,
)
from ..analysis.schema_diff import ChangeKind, Difference, SchemaDiff, compare
from ..catalog.metrics import Metric, MetricUnit, load_metrics
from ..catalog.stats import load_stats
from ..formula.resolved import ScopedStat
from .diff_hosts import (
    ApicvDifference,
    CaveatDifference,
    SettingDifference,
    apicv_differences,
    caveat_differences,
    setting_differences,
)
from .diff_sides import DiffSide, DiffSideView, DiffSource
from .schema_diff import DifferenceView, difference_view
from .values import Answer

__all__ = ["DiffSource", "DiffView", "MetricDifference", "diff_view"]

_OTHER_NUMBER: Final = (ChangeKind.MEANING, ChangeKind.KIND, ChangeKind.UNIT)
_COSTS: Final = (MetricUnit.CPUS, MetricUnit.VCPUS)


@dataclass(frozen=True, slots=True, kw_only=True)
class VmDifference:
    """The VM in which a metric differs most."""

    name: Annotated[str, "Name of the VM. Untrusted text."]
    a: Annotated[float, "Mean on side A."]
    b: Annotated[float, "Mean on side B."]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDifference:
    """One metric on both sides.

    ``low`` and ``high`` bound the change; the bounds of all metrics hold together with the confidence of the diff.
    """

    name: Annotated[str, "Its name in the catalogue."]
    title: Annotated[str, "Its title on a screen."]
    unit: MetricUnit
    verdict: DifferenceVerdict
    a: Annotated[float, "Mean on side A."]
    b: Annotated[float, "Mean on side B."]
    change: Annotated[float, "Side B minus side A."]
    low: Annotated[float | None, "Lower bound of the change; null if there is too little data for bounds."]
    high: Annotated[float | None, "Upper bound of the change."]
    relative: Annotated[float | None, "The change as a share of side A; null if that is 0."]
    relative_low: Annotated[float | None, "Lower bound of the share."]
    relative_high: Annotated[float | None, "Upper bound of the share."]
    values_a: Annotated[int, "Number of intervals, or of VMs, with a known value on side A."]
    values_b: Annotated[int, "The same of side B."]
    caveats: Annotated[tuple[str, ...], "Caveats that apply on only one side to stats that it reads."]
    vm: Annotated[VmDifference | None, "Where VMs are paired, the one in which it differs most."]
    good: Annotated[str, "Which values are good."]


@dataclass(frozen=True, slots=True, kw_only=True)
class UncomparedMetric:
    """A metric that is not compared."""

    name: Annotated[str, "Its name in the catalogue."]
    title: Annotated[str, "Its title on a screen."]
    reason: Annotated[str, "Why not."]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffView(Answer):
    """The answer of ``diff``: what differs between two sides."""

    a: DiffSideView
    b: DiffSideView
    verdict: DifferenceVerdict
    confidence: Annotated[float, "The confidence with which the bounds of all metrics hold together."]
    pairing: Annotated[
        Literal["paired", "by vm"],
        "paired: the same VMs on both sides, noise over time. by vm: each VM is one value, noise between VMs.",
    ]
    only_a: Annotated[tuple[str, ...], "VMs of side A that are not compared. Untrusted text."]
    only_b: Annotated[tuple[str, ...], "VMs of side B that are not compared. Untrusted text."]
    settings: tuple[SettingDifference, ...]
    stats: Annotated[tuple[DifferenceView, ...], "Stats that one kernel lacks, or describes or counts differently."]
    caveats: tuple[CaveatDifference, ...]
    apicv: tuple[ApicvDifference, ...]
    metrics: Annotated[tuple[MetricDifference, ...], "Those that changed first, and of them the costliest first."]
    not_compared: tuple[UncomparedMetric, ...]


def diff_view(a: DiffSource, b: DiffSource, *, vm: str | None = None, pairs: bool = True) -> DiffView:
    """Side B compared with side A. ``vm``: compare this VM alone. ``pairs``: pair each VM of A with the same VM of B.

    Raises UsageError if a side has no interval, or there is no such VM.
    """
    sides = DiffSide(a), DiffSide(b)
    found = _pairs(sides, [side.choose(vm) for side in sides]) if pairs else ()
    chosen = [[[p.a for p in found]], [[p.b for p in found]]] if found else [side.choose(vm) for side in sides]
    metrics = load_metrics()
    values = [side.read(rows, metrics) for side, rows in zip(sides, chosen, strict=True)]
    schemas = compare(sides[0].tables, sides[1].tables, load_stats())
    caveats = tuple(caveat_differences(sides[0].facts, sides[1].facts))
    comparison = _Comparison(values, bool(found), schemas, caveats)
    names = [sides[0].last.identities[pair.a].name for pair in found]
    compared = comparison.metrics(metrics, names)
    return DiffView(
        a=sides[0].view(values[0]),
        b=sides[1].view(values[1]),
        verdict=_overall(compared),
        confidence=CONFIDENCE,
        pairing="paired" if found else "by vm",
        only_a=sides[0].names_without(chosen[0]),
        only_b=sides[1].names_without(chosen[1]),
        settings=tuple(setting_differences(sides[0].machine, sides[1].machine)),
        stats=tuple(map(difference_view, schemas.differences)),
        caveats=caveats,
        apicv=tuple(apicv_differences(sides[0].last, sides[1].last, found)),
        metrics=tuple(sorted(compared, key=_rank)),
        not_compared=tuple(comparison.uncompared(metrics)),
    )


def _pairs(sides: tuple[DiffSide, DiffSide], chosen: Sequence[Sequence[Sequence[int]]]) -> tuple[VmPair, ...]:
    """The chosen VMs that are on both sides, in pairs; none if a side has several spans."""
    if any(len(side.spans) > 1 for side in sides):
        return ()
    found = pair_vms(sides[0].last, sides[1].last)
    rows_a, rows_b = set(chosen[0][0]), set(chosen[1][0])
    return tuple(pair for pair in found if pair.a in rows_a and pair.b in rows_b)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Both sides as numbers, and what is known of their stats."""

    values: Sequence[Sequence[SpanValues]]
    is_paired: bool
    schemas: SchemaDiff
    caveats: tuple[CaveatDifference, ...]

    def metrics(self, metrics: Iterable[Metric], names: Sequence[str]) -> list[MetricDifference]:
        """Every metric that can be compared. ``names``: names of the paired VMs."""
        means = {metric: self._means(metric) for metric in metrics if self._obstacle(metric) is None}
        known = {metric: (a, b) for metric, (a, b) in means.items() if a is not None and b is not None}
        return [
            self._difference(metric, estimate_change(*pair, comparisons=len(known), pairs=self._pairs(metric)), names)
            for metric, pair in known.items()
        ]

    def _pairs(self, metric: Metric) -> RatioEstimate | None:
        return estimate_pairs(self.values[0][0], self.values[1][0], metric) if self.is_paired else None

    def uncompared(self, metrics: Iterable[Metric]) -> Iterable[UncomparedMetric]:
        """Every metric that a side has but that is not compared."""
        for metric in metrics:
            reason = self._obstacle(metric)
            if reason:
                yield UncomparedMetric(name=metric.name, title=metric.title, reason=reason)

    def _means(self, metric: Metric) -> tuple[MeanEstimate | None, MeanEstimate | None]:
        a, b = self.values
        if self.is_paired:
            return estimate_together(a[0], metric), estimate_together(b[0], metric)
        return estimate_by_vm(a, metric), estimate_by_vm(b, metric)

    def _obstacle(self, metric: Metric) -> str | None:
        """Why a metric is not compared; empty if no side has it."""
        a, b = self._means(metric)
        if a is None or b is None:
            return "" if a is b else f"unknown on side {'A' if a is None else 'B'}"
        reads_a, reads_b = (_reads(values, metric) for values in self.values)
        if reads_a != reads_b:
            return f"made of {_names(reads_a - reads_b)} on side A, of {_names(reads_b - reads_a)} on side B"
        changed = (each for each in self.schemas.differences if each.turn in _OTHER_NUMBER)
        return next((_change_text(each) for each in changed if _stat_of(each) in reads_a), None)

    def _difference(self, metric: Metric, found: ChangeEstimate, names: Sequence[str]) -> MetricDifference:
        reads = {f"{provider}.{name}" for provider, _, name in _reads(self.values[0], metric)}
        return MetricDifference(
            name=metric.name,
            title=metric.title,
            unit=metric.unit,
            verdict=found.verdict,
            a=found.a.mean,
            b=found.b.mean,
            change=found.change,
            low=_finite(found.low),
            high=_finite(found.high),
            relative=found.relative(found.change),
            relative_low=found.relative(found.low),
            relative_high=found.relative(found.high),
            values_a=found.a.values,
            values_b=found.b.values,
            caveats=tuple(caveat.slug for caveat in self.caveats if not reads.isdisjoint(caveat.stats)),
            vm=self._largest(metric, names) if self.is_paired else None,
            good=metric.good,
        )

    def _largest(self, metric: Metric, names: Sequence[str]) -> VmDifference | None:
        of_a, of_b = (values[0].of_vms[metric.name].tolist() for values in self.values)
        vms = [VmDifference(name=n, a=a, b=b) for n, a, b in zip(names, of_a, of_b, strict=True)]
        known = [vm for vm in vms if math.isfinite(vm.a) and math.isfinite(vm.b)]
        return max(known, key=lambda vm: abs(vm.b - vm.a), default=None)


def _reads(values: Sequence[SpanValues], metric: Metric) -> frozenset[ScopedStat]:
    return frozenset[ScopedStat]().union(*(span.reads[metric.name] for span in values))


def _names(stats: Iterable[ScopedStat]) -> str:
    return ", ".join(sorted(stat.name for stat in stats)) or "less"


def _stat_of(difference: Difference) -> ScopedStat:
    return ScopedStat(difference.provider, difference.scope, difference.name)


def _change_text(difference: Difference) -> str:
    if difference.turn is ChangeKind.MEANING:
        return f"{difference.name} means something else {difference.after}. {difference.text}".rstrip()
    return (
        f"{difference.name} has another {difference.turn.value}: {difference.before} on side A, {difference.after} on B"
    )


def _overall(metrics: Sequence[MetricDifference]) -> DifferenceVerdict:
    """Changed if any metric changed; else the same if more than half of the metrics certainly are."""
    verdicts = [metric.verdict for metric in metrics]
    if DifferenceVerdict.CHANGED in verdicts:
        return DifferenceVerdict.CHANGED
    is_same = verdicts.count(DifferenceVerdict.SAME) * 2 > len(verdicts)
    return DifferenceVerdict.SAME if is_same else DifferenceVerdict.TOO_LITTLE


def _rank(metric: MetricDifference) -> tuple[int, float]:
    """Sort key: changes of CPU time first, by their cost; then other changes, by their share. Unchanged metrics stay in
    the order of the catalogue, the most useful first.
    """
    if metric.verdict is not DifferenceVerdict.CHANGED:
        return 2 + (metric.verdict is DifferenceVerdict.TOO_LITTLE), 0.0
    if metric.unit in _COSTS:
        return 0, -abs(metric.change)
    return 1, -math.inf if metric.relative is None else -abs(metric.relative)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
