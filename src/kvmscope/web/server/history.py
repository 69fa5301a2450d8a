"""The last hour in memory: the metrics that status shows, of the host and of each VM, one row an interval.

Kept as 32-bit columns: a host of a thousand VMs takes some 35 MB. Older values are in a recording.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
import numpy.typing as npt

from ...catalog.metrics import Metric
from ...sample import VmId
from ...view.summary import shown_metrics
from ...view.values import Answer, Moment
from ...view.watch import HostView

KEPT_S: Final = 3600.0

_Columns = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricHistoryView(Answer):
    """One metric over time, of the host or of a VM."""

    metric: Annotated[str, "Name of the metric."]
    vm: Annotated[VmId | None, "The VM; null for the host."]
    times: Annotated[Sequence[Moment], "The end of each interval."]
    values: Annotated[Sequence[float | None], "The metric in each interval; null is not known."]


@dataclass(frozen=True, slots=True)
class _HistoryRow:
    """``vms``: a row a VM and a column a metric; ``total``: a metric each. NaN is not known."""

    taken_ns: int
    rows: dict[int, int]
    vms: _Columns
    total: _Columns


class MetricHistory:
    """Remembers views for ``kept_s`` seconds; for any thread."""

    def __init__(self, kept_s: float = KEPT_S) -> None:
        self._kept_ns = round(kept_s * 1e9)
        self._metrics: tuple[Metric, ...] = shown_metrics()
        self._rows: deque[_HistoryRow] = deque()
        self._lock = threading.Lock()

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(metric.name for metric in self._metrics)

    def add(self, view: HostView) -> None:
        """One more interval."""
        vms = view.overview.vms
        rows = {vm.value: row for row, vm in enumerate(vms.ids)}
        columns = np.array([vms.column(name) for name in self.metrics], dtype=np.float32)
        totals = view.overview.total.metrics
        total = np.array([totals[name] for name in self.metrics], dtype=np.float32)
        taken_ns = view.scene.sample.taken_ns
        with self._lock:
            if self._rows and self._rows[-1].rows == rows:
                rows = self._rows[-1].rows
            self._rows.append(_HistoryRow(taken_ns, rows, columns.T.copy(), total))
            while taken_ns - self._rows[0].taken_ns > self._kept_ns:
                self._rows.popleft()

    def of(self, metric: str, vm: VmId | None) -> MetricHistoryView:
        """One metric of the host, or of a VM. Raises KeyError for one that is not kept."""
        column = {name: place for place, name in enumerate(self.metrics)}[metric]
        with self._lock:
            rows = tuple(self._rows)
        values = [_value(row, column, vm) for row in rows]
        return MetricHistoryView(metric=metric, vm=vm, times=[Moment(row.taken_ns) for row in rows], values=values)


def _value(row: _HistoryRow, column: int, vm: VmId | None) -> float | None:
    if vm is not None and vm.value not in row.rows:
        return None
    value = float(row.total[column] if vm is None else row.vms[row.rows[vm.value], column])
    return None if np.isnan(value) else float(f"{value:.4g}")
