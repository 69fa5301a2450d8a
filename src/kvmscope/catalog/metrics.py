"""The metrics of metrics.toml: quantities derived from stats by formulas.

Their values for two samples are in ``analysis.evaluate``.
Rule: a file with a mistake is a CatalogError that names the place, and nothing of the file is used.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Final

from ..errors import UsageError
from ..formula.check import Context, Dimension, Formula, Lookup, Type, check
from ..formula.parse import Blame, parse
from ..formula.tree import Expression, Reference, walk
from ..schema import Scope
from .data import read_toml
from .tomlfile import TomlEntry, read_tables, unique

_FILE: Final = "metrics.toml"


class MetricUnit(Enum):
    """The unit of a metric.

    ``CPUS``: CPU time, 1 is all of one CPU's. ``VCPUS``: wall time of vCPUs, 1 is all of one vCPU's; it includes time
    in which its thread sleeps or waits for a CPU. ``SHARE``: 1 is all.
    """

    PER_SECOND = "per-second"
    CPUS = "cpus"
    VCPUS = "vcpus"
    COUNT = "count"
    SHARE = "share"
    SECONDS = "seconds"
    BYTES = "bytes"
    BYTES_PER_SECOND = "bytes-per-second"
    RATIO = "ratio"

    @property
    def adds_up(self) -> bool:
        """Whether values add up: the value of a VM is then at least that of any of its vCPUs."""
        return self not in (MetricUnit.SHARE, MetricUnit.SECONDS, MetricUnit.RATIO)


_DIMENSIONS: Final[Mapping[MetricUnit, Dimension]] = {
    MetricUnit.PER_SECOND: Dimension(seconds=-1),
    MetricUnit.CPUS: Dimension(),
    MetricUnit.VCPUS: Dimension(),
    MetricUnit.COUNT: Dimension(),
    MetricUnit.SHARE: Dimension(),
    MetricUnit.SECONDS: Dimension(seconds=1),
    MetricUnit.BYTES: Dimension(bytes=1),
    MetricUnit.BYTES_PER_SECOND: Dimension(bytes=1, seconds=-1),
    MetricUnit.RATIO: Dimension(),
}


@dataclass(frozen=True, slots=True)
class Metric:
    """A derived quantity. ``column``: whether it is on the status screen."""

    name: str
    title: str
    unit: MetricUnit
    formula: Formula
    help: str
    good: str
    bad: str
    column: bool = False

    @property
    def scope(self) -> Scope:
        return self.formula.scope


@cache
def load_metrics() -> tuple[Metric, ...]:
    """Every metric: those of the status screen first, the most useful first."""
    from .stats import load_stats

    text = read_toml(_FILE)
    return parse_metrics(text, _FILE, load_stats().find)


def find_metric(word: str, *, or_else: Sequence[str] = ()) -> str:
    """Name of the metric with this name or title, or ``word`` if it is in ``or_else``. Raises UsageError."""
    metrics = load_metrics()
    names = {metric.title: metric.name for metric in metrics} | {metric.name: metric.name for metric in metrics}
    names |= {each: each for each in or_else}
    if word in names:
        return names[word]
    near = tuple(difflib.get_close_matches(word, names, n=3, cutoff=0.4))
    raise UsageError(f"there is no metric {word!r} to sort by", nearest=near)


def formulas(metrics: Iterable[Metric]) -> dict[str, Formula]:
    """The formulas by metric name, as ``analysis.evaluate.Evaluator`` takes them."""
    return {metric.name: metric.formula for metric in metrics}


@cache
def metric_formulas() -> Mapping[str, Formula]:
    """The formulas of the catalogue's metrics, by name."""
    return formulas(load_metrics())


def metric_context() -> Context:
    """The names that a formula outside metrics.toml may use: the stats of the catalogue, and every metric."""
    from .stats import load_stats

    return Context(load_stats().find, {metric.name: (metric.scope, metric.formula.type) for metric in load_metrics()})


def parse_metrics(text: str, file: str, stats: Lookup) -> tuple[Metric, ...]:
    """Metrics from TOML; ``stats``: the catalogue against which formulas are checked. Raises CatalogError.

    Formulas may refer to metrics anywhere in the file.
    """
    entries = read_tables(text, file, "metric")
    for entry in entries:
        entry.check_keys(_REQUIRED, _OPTIONAL)
        entry.string("name")
    unique(entries, "name")
    reader = _FormulaReader(entries, stats)
    return tuple(_metric(entry, reader.formula(entry)) for entry in entries)


_REQUIRED: Final = ("name", "title", "unit", "scope", "formula", "help", "good", "bad")
_OPTIONAL: Final = ("column",)


def _metric(entry: TomlEntry, formula: Formula) -> Metric:
    unit = entry.choice("unit", MetricUnit)
    if formula.type.is_condition:
        raise entry.error("formula", "a number", "a condition")
    dimension = formula.type.dimension
    if dimension is not None and dimension != _DIMENSIONS[unit]:
        raise entry.error("unit", f"one for a number in {dimension}, which the formula is", repr(unit.value))
    return Metric(
        name=entry.string("name"),
        title=entry.string("title"),
        unit=unit,
        formula=formula,
        help=entry.string("help"),
        good=entry.string("good"),
        bad=entry.string("bad"),
        column=entry.boolean("column", default=False),
    )


class _FormulaReader:
    """Checks each formula after the formulas to which it refers."""

    def __init__(self, entries: list[TomlEntry], stats: Lookup) -> None:
        self._entries = {entry["name"]: entry for entry in entries}
        self._stats = stats
        self._found: dict[str, Formula] = {}
        self._under_way: list[str] = []

    def formula(self, entry: TomlEntry) -> Formula:
        name = entry["name"]
        if name not in self._found:
            self._under_way.append(name)
            self._found[name] = self._read(entry)
            self._under_way.pop()
        return self._found[name]

    def _read(self, entry: TomlEntry) -> Formula:
        scope = entry.choice("scope", Scope)
        blame = entry.blame("formula")
        expression = parse(entry.string("formula"), blame)
        metrics = self._metrics(expression, scope, blame)
        return check(expression, scope, Context(self._stats, metrics), blame)

    def _metrics(self, expression: Expression, scope: Scope, blame: Blame) -> dict[str, tuple[Scope, Type]]:
        found = {}
        for part, _ in walk(expression, scope):
            if isinstance(part, Reference) and part.name in self._entries:
                if part.name in self._under_way:
                    raise blame(part.at, "a metric that does not need this one", repr(part.name))
                formula = self.formula(self._entries[part.name])
                found[part.name] = formula.scope, formula.type
        return found
