"""The values of a status screen: every metric of every VM and vCPU in a window, and of the host.

Not here: names of VMs (``scene``), and how a value is formatted (the front ends). Rule: unknown values are None; NaN
ends here. A column is made on first use, as a screen shows only a few of the metrics.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, overload

import numpy as np

from ..catalog.metrics import Metric, formulas
from ..formula.tree import HOST, Level
from ..schema import Scope
from .evaluate import Evaluator
from .window import F64Array, Window

_NONE: Final = np.array(None, dtype=object)


class MetricTable:
    """Metrics of the subjects of one level: a column per metric, a row per subject of the window's current sample."""

    def __init__(self, evaluator: Evaluator, metrics: Sequence[Metric], at: Level) -> None:
        self._evaluator = evaluator
        self._metrics = {metric.name: metric for metric in metrics}
        self._at = at
        self._columns: dict[str, list[float | None]] = {}
        self._missing: dict[str, list[int]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._metrics)

    def column(self, name: str) -> list[float | None]:
        """One metric of every subject. Raises KeyError if there is no such metric."""
        if name not in self._columns:
            self._columns[name] = _known(self._array(name))
        return self._columns[name]

    def row(self, row: int) -> dict[str, float | None]:
        """Every metric of one subject, for callers that need all of them."""
        return dict(zip(self._metrics, self._rows[row], strict=True))

    @cached_property
    def _rows(self) -> list[list[float | None]]:
        questions = self._evaluator.metrics(self._at)
        places = {formula: place for place, formula in enumerate(questions.formulas)}
        values = self._evaluator.all_of(questions)[[places[metric.formula] for metric in self._metrics.values()]]
        rows: list[list[float | None]] = np.where(np.isnan(values), _NONE, values).T.tolist()
        return rows

    def is_partial(self, name: str, row: int) -> bool:
        """Whether a metric of a subject is known but does not include all of its vCPUs."""
        return name in self._incomplete and self.column(name)[row] is not None and self._missing_of(name)[row] > 0

    @cached_property
    def _incomplete(self) -> frozenset[str]:
        """The metrics that lack some vCPUs of some subject: empty in most windows."""
        questions = self._evaluator.metrics(self._at)
        rows = np.flatnonzero(np.any(self._evaluator.all_missing(questions), axis=1))
        incomplete = {questions.formulas[row] for row in rows.tolist()}
        return frozenset(name for name, metric in self._metrics.items() if metric.formula in incomplete)

    def partial_names(self, row: int) -> list[str]:
        """The metrics of a subject that are known but lack some of its vCPUs, sorted."""
        return sorted(name for name in self._incomplete if self.is_partial(name, row))

    def largest_first(self, name: str) -> list[int]:
        """Rows sorted by one metric, the largest first, unknown values last; equal rows keep their order."""
        order: list[int] = np.argsort(-self._array(name), kind="stable").tolist()
        return order

    def _array(self, name: str) -> F64Array:
        return self._evaluator.of(self._metrics[name].name, self._at)

    def _missing_of(self, name: str) -> list[int]:
        if name not in self._missing:
            self._missing[name] = self._evaluator.missing(self._metrics[name].name, self._at).tolist()
        return self._missing[name]


class MetricRow(Mapping[str, float | None]):
    """Every metric of one subject by name."""

    __slots__ = ("_row", "_table")

    def __init__(self, table: MetricTable, row: int) -> None:
        self._table = table
        self._row = row

    def __getitem__(self, name: str) -> float | None:
        return self._table.column(name)[self._row]

    def items(self) -> ItemsView[str, float | None]:
        return self._table.row(self._row).items()

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.names)

    def __len__(self) -> int:
        return len(self._table.names)


class PartialMetrics(Sequence[str]):
    """The metrics of one subject that are known but lack some of its vCPUs, by name."""

    __slots__ = ("_row", "_table")

    def __init__(self, table: MetricTable, row: int) -> None:
        self._table = table
        self._row = row

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._table.is_partial(name, self._row)

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.partial_names(self._row))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return list(self)[index]


@dataclass(frozen=True, slots=True)
class HostStatus:
    """A host in a window. ``vcpus`` has the metrics of vCPUs alone; ``total`` has one row."""

    interval_s: float
    vms: MetricTable
    vcpus: MetricTable
    total: MetricTable
    vms_came: int
    vms_gone: int
    stats_reset: int


def summarize(window: Window, metrics: Sequence[Metric], *, evaluator: Evaluator | None = None) -> HostStatus:
    """Every metric for every subject of the window's current sample.

    ``evaluator``: of the same window and at least these metrics, if there is one already.
    """
    evaluator = evaluator or Evaluator(window, formulas(metrics))
    return HostStatus(
        interval_s=window.interval_s,
        vms=MetricTable(evaluator, metrics, Scope.VM),
        vcpus=MetricTable(evaluator, [each for each in metrics if each.scope is Scope.VCPU], Scope.VCPU),
        total=MetricTable(evaluator, metrics, HOST),
        vms_came=len(window.came(Scope.VM)),
        vms_gone=len(window.gone(Scope.VM)),
        stats_reset=len(window.resets),
    )


def _known(values: F64Array) -> list[float | None]:
    unknown = np.isnan(values)
    if not unknown.any():
        return list(values.tolist())
    return [None if is_unknown else value for value, is_unknown in zip(values.tolist(), unknown.tolist(), strict=True)]
