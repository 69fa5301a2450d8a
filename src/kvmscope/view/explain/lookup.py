"""The meaning of a name: all catalogue entries with that name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from ...catalog.caveats import load_caveats
from ...catalog.findings import load_findings
from ...catalog.groups import load_groups
from ...catalog.inhibits import load_inhibits
from ...catalog.metrics import load_metrics
from ...catalog.settings import load_settings
from ...catalog.stats import load_stats
from ...errors import UsageError
from ...host.text import printable
from ...sample import Sample
from ..values import Answer, Moment, SourceChoice, scene_head
from .caveats import CaveatExplanation, explain_caveat
from .groups import GroupExplanation, explain_group
from .metrics import MetricExplanation, explain_metric
from .reasons import InhibitExplanation, explain_reason
from .rules import RuleExplanation, explain_rule
from .settings import SettingExplanation, explain_setting
from .stats import StatExplanation, UncataloguedStat, explain_stat
from .values import ExplainContext

Explanation: TypeAlias = (
    StatExplanation
    | UncataloguedStat
    | MetricExplanation
    | RuleExplanation
    | InhibitExplanation
    | CaveatExplanation
    | GroupExplanation
    | SettingExplanation
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationView(Answer):
    """The meaning of a name, and its values on this host."""

    time: Annotated[Moment | None, "When the values were read; null if no VM was read."]
    simulated: Annotated[bool | None, "Whether a simulated host stands behind the values; null if no VM was read."]
    source: SourceChoice | None
    why_not: Annotated[str | None, "Why no VM was read; null if they were."]
    found: Annotated[tuple[Explanation, ...], "Everything of that name."]


def explanation_view(context: ExplainContext, name: str) -> ExplanationView:
    """All entries of that name. Raises UsageError, with the nearest names, if there is none."""
    found = explain(context, name)
    if not found:
        stats = () if context.live is None else _stat_names(context.live.window.current)
        raise _unknown_name(name, stats, why_not=context.why_not)
    head = None if context.live is None else scene_head(context.live.scene)
    return ExplanationView(
        time=head["time"] if head else None,
        simulated=head["simulated"] if head else None,
        source=head["source"] if head else None,
        why_not=context.why_not or None,
        found=found,
    )


def explain(context: ExplainContext, name: str) -> tuple[Explanation, ...]:
    """All entries of that name; empty if it is unknown here."""
    return (
        *explain_stat(context, name),
        *explain_metric(context, name),
        *explain_rule(context, name),
        *explain_reason(context, name),
        *explain_caveat(context, name),
        *explain_group(name),
        *explain_setting(name),
    )


def catalogue_miss(name: str) -> str:
    """The message for a name that is not in the catalogue, before any VM is read: a statistic of a host may have it."""
    return str(UsageError(f"the catalogue has nothing called '{printable(name)}'", nearest=_nearest(name)))


def check_name(context: ExplainContext, name: str, sample: Sample) -> None:
    """Raises UsageError, with the nearest names, if neither the catalogue nor a sample has that name."""
    provider, _, bare = name.rpartition(".")
    schemas = [block.schema for block in sample.blocks if provider in ("", block.schema.provider)]
    if not any(bare in schema.names for schema in schemas) and not explain(context, name):
        raise _unknown_name(name, _stat_names(sample))


def _unknown_name(name: str, stats: Iterable[str] = (), *, why_not: str = "") -> UsageError:
    """``stats``: names that this host has besides the catalogue's; ``why_not``: why these are unknown."""
    message = (
        f"nothing is called '{printable(name)}' here: no statistic, metric, rule, reason, caveat, group or setting"
    )
    if why_not:
        message += f", as far as is known without the statistics of this host ({why_not})"
    return UsageError(message, nearest=_nearest(name, stats))


def _nearest(name: str, stats: Iterable[str] = ()) -> tuple[str, ...]:
    return tuple(difflib.get_close_matches(name, [*_names(), *stats], n=3, cutoff=0.6))


def _stat_names(sample: Sample) -> Iterator[str]:
    for block in sample.blocks:
        yield from block.schema.names


def _names() -> Iterator[str]:
    yield from (entry.name for entry in load_stats())
    yield from (metric.name for metric in load_metrics())
    yield from (metric.title for metric in load_metrics())
    yield from (rule.slug for rule in load_findings())
    yield from load_inhibits()
    yield from load_caveats()
    yield from load_groups()
    yield from load_settings()
