"""The metrics that screens show, from metrics.toml. What they come to for two samples is in ``analysis.metrics``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib.resources import files
from typing import Any

from ..schema import Scope


class Form(Enum):
    """How a metric comes from its stats."""

    RATE = "rate"
    SECONDS_PER_SECOND = "seconds-per-second"
    VALUE = "value"


class MetricUnit(Enum):
    """What a metric counts. ``CPUS``: 1 is the whole time of one CPU."""

    PER_SECOND = "per-second"
    CPUS = "cpus"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class Metric:
    """A derived quantity. ``stats``: lists of names in order of preference; the sum of one list is meant."""

    name: str
    title: str
    unit: MetricUnit
    provider: str
    scope: Scope
    stats: tuple[tuple[str, ...], ...]
    form: Form
    help: str


@cache
def load_metrics() -> tuple[Metric, ...]:
    """Every metric, the most telling first."""
    text = files(__package__).joinpath("metrics.toml").read_text(encoding="utf-8")
    return parse_metrics(text)


def parse_metrics(text: str) -> tuple[Metric, ...]:
    """Metrics from TOML. Raises ValueError if a field is missing, unknown or out of range, or a name comes twice."""
    metrics = tuple(_parse_metric(entry) for entry in tomllib.loads(text).get("metric", ()))
    if len({metric.name for metric in metrics}) != len(metrics):
        raise ValueError("a metric's name comes twice")
    return metrics


_FIELDS = frozenset({"name", "title", "unit", "provider", "scope", "stats", "form", "help"})


def _parse_metric(entry: Mapping[str, Any]) -> Metric:
    who = f"metric {entry.get('name', '?')}"
    if unknown := entry.keys() - _FIELDS:
        raise ValueError(f"{who}: no such field: {', '.join(sorted(unknown))}")
    if missing := _FIELDS - {"provider"} - entry.keys():
        raise ValueError(f"{who}: missing: {', '.join(sorted(missing))}")
    return Metric(
        name=entry["name"],
        title=entry["title"],
        unit=MetricUnit(entry["unit"]),
        provider=entry.get("provider", "kvm"),
        scope=Scope(entry["scope"]),
        stats=tuple(tuple(names) for names in entry["stats"]),
        form=Form(entry["form"]),
        help=entry["help"],
    )
