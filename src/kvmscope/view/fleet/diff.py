"""The metrics of hosts that differ in one property, such as their kernel, and whether that is more than noise.

The statistics are those of ``analysis.difference``: each host is one value, its mean over time, and the noise is the
variation between hosts. Rates and times are means per vCPU, as in ``diff``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ...analysis.difference import (
    CONFIDENCE,
    ChangeEstimate,
    DifferenceVerdict,
    MeanEstimate,
    estimate_change,
    over_vms,
)
from ...catalog.metrics import Metric, MetricUnit, load_metrics
from ...engines.fleet import FleetHost, FleetStore
from ...errors import UsageError
from ...schema import Scope
from .place import FleetAnswer, fleet_head, properties

_SIDES_AT_LEAST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSide:
    """Hosts with the same value of the property."""

    value: Annotated[str, "What they have in common, such as the release of their kernel."]
    hosts: Annotated[int, "How many hosts."]
    vms: Annotated[int, "How many VMs they have."]
    vcpus: Annotated[int, "How many vCPUs these have."]


@dataclass(frozen=True, slots=True, kw_only=True)
class SideMean:
    """A metric on one side, compared with the first side."""

    value: Annotated[str, "Which side."]
    mean: Annotated[float | None, "Mean over its hosts; null if it is not known there."]
    hosts: Annotated[int, "Of how many hosts it is known."]
    change: Annotated[float | None, "This mean less that of the first side."]
    low: Annotated[float | None, "Lower bound of the change; null if there are too few hosts for bounds."]
    high: Annotated[float | None, "Upper bound of the change."]
    relative: Annotated[float | None, "The change as a share of the first side."]
    verdict: Annotated[DifferenceVerdict | None, "What the two say; null for the first side."]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetMetricDifference:
    """One metric on all sides."""

    name: Annotated[str, "Its name in the catalogue."]
    title: Annotated[str, "Its title on a screen."]
    unit: MetricUnit
    sides: Annotated[Sequence[SideMean], "In the order of the answer's sides."]
    good: Annotated[str, "Which values are good."]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetDiffView(FleetAnswer):
    """The answer of ``fleet diff``."""

    by: Annotated[str, "The property in which the sides differ."]
    confidence: Annotated[float, "With which the bounds of all metrics and sides hold together."]
    sides: Annotated[Sequence[FleetSide], "The first is the one that the others are compared with."]
    metrics: Annotated[Sequence[FleetMetricDifference], "Those that changed first."]
    not_compared: Annotated[Mapping[str, str], "Metrics that the store cannot say, and why."]


def fleet_diff_view(store: FleetStore, *, by: str = "kernel", values: Sequence[str] = ()) -> FleetDiffView:
    """The metrics of hosts by a property. ``values``: the sides, of which the first is the baseline; by default all,
    the value with most hosts first. Raises UsageError if that makes fewer than two sides.
    """
    hosts = store.hosts()
    head = fleet_head(store, hosts)
    sides = _sides(hosts, properties(by), by, values)
    metrics = load_metrics()
    rows, refused = store.metrics([metric.name for metric in metrics])
    table: dict[str, dict[str, float]] = {}
    for row in rows:
        table.setdefault(row.metric, {})[row.host] = row.value
    means = {metric: [_mean(metric, table.get(metric.name, {}), of) for of in sides.values()] for metric in metrics}
    known = {metric: of for metric, of in means.items() if sum(each is not None for each in of) >= _SIDES_AT_LEAST}
    comparisons = sum(sum(each is not None for each in of) - 1 for of in known.values())
    compared = [_difference(metric, list(sides), of, comparisons) for metric, of in known.items()]
    return FleetDiffView(
        **head,
        by=by,
        confidence=CONFIDENCE,
        sides=tuple(_side(value, of) for value, of in sides.items()),
        metrics=tuple(sorted(compared, key=_rank)),
        not_compared={each.subject: each.reason for each in refused},
    )


def _sides(
    hosts: Sequence[FleetHost], value_of: Callable[[FleetHost], str | None], by: str, values: Sequence[str]
) -> dict[str, list[FleetHost]]:
    found: dict[str, list[FleetHost]] = {}
    for host in hosts:
        value = value_of(host)
        if value is not None:
            found.setdefault(value, []).append(host)
    count = Counter({value: len(of) for value, of in found.items()})
    missing = [value for value in values if value not in found]
    if missing:
        there = ", ".join(value for value, _ in count.most_common(_NAMED))
        raise UsageError(f"no host has {by} {missing[0]!r}; there are {there}")
    chosen = list(dict.fromkeys(values)) or [value for value, _ in count.most_common()]
    if len(chosen) < _SIDES_AT_LEAST:
        raise UsageError(f"a diff needs two sides, but every host whose {by} is known has the same")
    return {value: found[value] for value in chosen}


_NAMED = 6


def _side(value: str, hosts: Sequence[FleetHost]) -> FleetSide:
    return FleetSide(
        value=value, hosts=len(hosts), vms=sum(host.vms for host in hosts), vcpus=sum(host.vcpus for host in hosts)
    )


def _mean(metric: Metric, values: Mapping[str, float], hosts: Sequence[FleetHost]) -> MeanEstimate | None:
    """The mean over hosts; for a metric that is summed, the mean per vCPU or VM."""
    found = [values[host.host] / _subjects(metric, host) for host in hosts if host.host in values]
    return over_vms(np.array(found, dtype=np.float64))


def _subjects(metric: Metric, host: FleetHost) -> int:
    if not metric.unit.adds_up:
        return 1
    return max(1, host.vcpus if metric.scope is Scope.VCPU else host.vms)


def _difference(
    metric: Metric, sides: Sequence[str], means: Sequence[MeanEstimate | None], comparisons: int
) -> FleetMetricDifference:
    return FleetMetricDifference(
        name=metric.name,
        title=metric.title,
        unit=metric.unit,
        sides=tuple(_side_means(sides, means, comparisons)),
        good=metric.good,
    )


def _side_means(sides: Sequence[str], means: Sequence[MeanEstimate | None], comparisons: int) -> Iterator[SideMean]:
    first = means[0]
    for place, (value, mean) in enumerate(zip(sides, means, strict=True)):
        change = None
        if place and first is not None and mean is not None:
            change = estimate_change(first, mean, comparisons=comparisons)
        yield _side_mean(value, mean, change)


def _side_mean(value: str, mean: MeanEstimate | None, change: ChangeEstimate | None) -> SideMean:
    return SideMean(
        value=value,
        mean=None if mean is None else mean.mean,
        hosts=0 if mean is None else mean.values,
        change=None if change is None else change.change,
        low=None if change is None else _finite(change.low),
        high=None if change is None else _finite(change.high),
        relative=None if change is None else change.relative(change.change),
        verdict=None if change is None else change.verdict,
    )


def _rank(metric: FleetMetricDifference) -> tuple[int, float]:
    """Sort key: changes first, by their share, the largest first."""
    changed = [side for side in metric.sides if side.verdict is DifferenceVerdict.CHANGED]
    largest = max((math.inf if side.relative is None else abs(side.relative) for side in changed), default=0.0)
    return (0 if changed else 1), -largest


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
