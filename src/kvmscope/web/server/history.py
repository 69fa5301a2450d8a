"""The metrics that ``status`` shows over time, of the host and of each VM, one row per interval.

They are kept as 32-bit columns: an hour of a host with a thousand VMs takes about 35 MB.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ...catalog.metrics import Metric
from ...sample import VmId
from ...view.histories import HistoryView, MetricTableView
from ...view.summary import shown_metrics
from ...view.values import Moment
from ...view.watch import HostView

KEPT_S: Final = 3600.0

_Columns = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _HistoryRow:
    """``vms``: one row per VM and one column per metric; ``total``: one value per metric. NaN is an unknown value."""

    taken_ns: int
    rows: dict[int, int]
    vms: _Columns
    total: _Columns


class MetricHistory:
    """Keeps the metrics of views for ``kept_s`` seconds, or without limit. Any thread may use it."""

    def __init__(self, kept_s: float | None = KEPT_S) -> None:
        self._kept_ns = None if kept_s is None else round(kept_s * 1e9)
        self._metrics: tuple[Metric, ...] = shown_metrics()
        self._rows: deque[_HistoryRow] = deque()
        self._lock = threading.Lock()

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(metric.name for metric in self._metrics)

    def add(self, view: HostView) -> None:
        """Add an interval."""
        vms = view.overview.vms
        rows = {vm.value: row for row, vm in enumerate(vms.ids)}
        columns = np.array([vms.column(name) for name in self.metrics], dtype=np.float32)
        totals = view.overview.total.metrics
        total = np.array([totals[name] for name in self.metrics], dtype=np.float32)
        taken_ns = view.scene.sample.taken_ns
        with self._lock:
            while self._rows and self._rows[-1].taken_ns >= taken_ns:  # the clock was set back
                self._rows.pop()
            if self._rows and self._rows[-1].rows == rows:
                rows = self._rows[-1].rows
            self._rows.append(_HistoryRow(taken_ns, rows, columns.T.copy(), total))
            while self._kept_ns is not None and taken_ns - self._rows[0].taken_ns > self._kept_ns:
                self._rows.popleft()

    def of(self, metric: str, vm: VmId | None) -> HistoryView:
        """One metric of the host, or of a VM. Raises KeyError for a metric that is not kept."""
        column = {name: place for place, name in enumerate(self.metrics)}[metric]
        with self._lock:
            rows = tuple(self._rows)
        return HistoryView(
            metric=metric,
            stat=None,
            provider=None,
            vm=vm,
            vcpu=None,
            unit=self._metrics[column].unit.value,
            times=[Moment(row.taken_ns) for row in rows],
            values=[_value(row, column, vm) for row in rows],
        )

    def table(self, vm: VmId | None) -> MetricTableView:
        """Every metric of the host, or of a VM."""
        with self._lock:
            rows = tuple(self._rows)
        values = {metric.name: [_value(row, column, vm) for row in rows] for column, metric in enumerate(self._metrics)}
        return MetricTableView(vm=vm, times=[Moment(row.taken_ns) for row in rows], values=values)


def _value(row: _HistoryRow, column: int, vm: VmId | None) -> float | None:
    if vm is not None and vm.value not in row.rows:
        return None
    value = float(row.total[column] if vm is None else row.vms[row.rows[vm.value], column])
    return None if np.isnan(value) else float(f"{value:.4g}")
