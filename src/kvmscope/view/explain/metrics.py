"""A metric, by its name or by its title on the screens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from ...catalog.metrics import Metric, MetricUnit, load_metrics
from ...catalog.stats import load_stats
from ...schema import Scope, Tier
from .caveats import CaveatView, caveat_views
from .reads import StatKey, rules_with_metric, stats_of
from .values import ExplainContext, HostValues, formula_values

_EARLIER_TITLES = {
    "polling": "halt_poll_cpus",
    "wasted": "halt_poll_fail_cpus",
    "to vmm": "vmm_return_share",
    "to vmm/s": "vmm_returns_per_s",
    "windows/s": "irq_windows_per_s",
    "ports/s": "port_exits_per_s",
    "tlbs/s": "remote_tlb_flushes_per_s",
    "pdes/s": "mmu_pde_zapped_per_s",
}
"""Titles of version 0.1, which still appear in notes and screenshots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricExplanation:
    """A metric: a quantity that is derived from stats by a formula."""

    what: Annotated[Literal["metric"], "What the name is."] = "metric"
    name: Annotated[str, "Its name."]
    title: Annotated[str, "Its title on a screen."]
    scope: Scope
    unit: MetricUnit
    meaning: Annotated[str, "What it is."]
    good: Annotated[str, "Which values are good."]
    bad: Annotated[str, "Which values are bad."]
    formula: Annotated[str, "How it is derived."]
    tier: Annotated[Tier | None, "The lowest tier of the stats that it reads; null if none of them is catalogued."]
    stats: Annotated[tuple[str, ...], "The stats that it reads, as PROVIDER.SCOPE.NAME."]
    caveats: tuple[CaveatView, ...]
    rules: Annotated[tuple[str, ...], "Rules of the doctor that use it."]
    here: HostValues


def explain_metric(context: ExplainContext, name: str) -> Iterator[MetricExplanation]:
    """Every metric of this name or title; the case of titles does not matter."""
    title = " ".join(name.casefold().split())
    for metric in load_metrics():
        if metric.name in (name, _EARLIER_TITLES.get(title)) or metric.title.casefold() == title:
            yield _explain(context, metric)


def _explain(context: ExplainContext, metric: Metric) -> MetricExplanation:
    stats = stats_of(metric.formula)
    return MetricExplanation(
        name=metric.name,
        title=metric.title,
        scope=metric.scope,
        unit=metric.unit,
        meaning=metric.help,
        good=metric.good,
        bad=metric.bad,
        formula=str(metric.formula),
        tier=_lowest_tier(stats),
        stats=tuple(f"{provider}.{scope.value}.{stat}" for provider, scope, stat in stats),
        caveats=caveat_views(context, _caveats_of(stats)),
        rules=rules_with_metric(metric.name),
        here=formula_values(context, {metric.unit.value: metric.formula}),
    )


def _lowest_tier(stats: Iterable[StatKey]) -> Tier | None:
    """The tier of the least stable stat: a metric is only as stable as that one."""
    order = list(Tier)
    entries = [load_stats().find(*stat) for stat in stats]
    tiers = [order.index(entry.tier) for entry in entries if entry is not None]
    return order[max(tiers)] if tiers else None


def _caveats_of(stats: Iterable[StatKey]) -> list[str]:
    entries = [load_stats().find(*stat) for stat in stats]
    return list(dict.fromkeys(slug for entry in entries if entry is not None for slug in entry.caveats))
