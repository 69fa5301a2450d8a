"""Which stats a formula reads, and which metrics and rules read a stat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from ...catalog.findings import Rule, load_findings
from ...catalog.metrics import load_metrics, metric_formulas
from ...formula.check import Formula, walk_with_metrics
from ...formula.tree import Leaf, Reference, walk
from ...schema import Scope

StatKey: TypeAlias = tuple[str, Scope, str]
"""Provider, scope and name."""


def stats_of(formula: Formula) -> tuple[StatKey, ...]:
    """The stats that a formula reads, also through the metrics that it names; each once."""
    return tuple(dict.fromkeys(_keys(formula)))


def metrics_that_read(stat: StatKey) -> tuple[str, ...]:
    """Names of metrics."""
    return tuple(metric.name for metric in load_metrics() if stat in _keys(metric.formula))


def rules_that_read(stat: StatKey) -> tuple[str, ...]:
    """Slugs of rules whose conditions read the stat."""
    return tuple(rule.slug for rule in load_findings() if any(stat in _keys(each) for each in rule.conditions))


def rules_with_metric(name: str) -> tuple[str, ...]:
    """Slugs of rules that name a metric in a condition, as their cost or as evidence."""
    return tuple(rule.slug for rule in load_findings() if _names(rule, name))


def metrics_of_provider(provider: str) -> tuple[str, ...]:
    """Names of metrics that read a stat of a provider."""
    return tuple(metric.name for metric in load_metrics() if _reads_provider(metric.formula, provider))


def rules_of_provider(provider: str) -> tuple[str, ...]:
    """Slugs of rules whose conditions read a stat of a provider."""
    rules = load_findings()
    return tuple(rule.slug for rule in rules if any(_reads_provider(each, provider) for each in rule.conditions))


def _reads_provider(formula: Formula, provider: str) -> bool:
    return any(owner == provider for owner, _, _ in _keys(formula))


def _keys(formula: Formula) -> Iterator[StatKey]:
    for part, scope in walk_with_metrics(formula.expression, formula.scope, metric_formulas()):
        if isinstance(part, Leaf):
            yield part.stat.provider, scope, part.stat.name


def _names(rule: Rule, metric: str) -> bool:
    formulas = [*rule.conditions, *filter(None, (rule.clears, rule.cost))]
    parts = (part for formula in formulas for part, _ in walk(formula.expression, formula.scope))
    return metric in rule.evidence or any(isinstance(part, Reference) and part.name == metric for part in parts)
