"""The values of a status screen: every metric of every VM and vCPU in a window, ready to be shown.

Not here: names of VMs (``host``), and how a value is written (the faces).
Rule: what is not known is None; NaN ends here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ..catalog.metrics import Metric, formulas
from ..formula.tree import HOST, Level
from ..sample import VmId
from ..schema import Scope
from .apicv.values import Branch, Reason, VcpuVerdict, Verdicts
from .evaluate import Evaluator
from .window import F64Array, Window

Values: TypeAlias = Mapping[str, float | None]
"""By name of the metric."""


@dataclass(frozen=True, slots=True)
class Apicv:
    """Whether a VM's interrupts are accelerated: ``active``, ``inhibited``, ``unsupported`` or ``unknown``.

    ``is_partial``: active, but not on all of its vCPUs or not in everything; ``analysis.apicv`` has the whole verdict.
    """

    state: str = "unknown"
    reasons: tuple[Reason, ...] = ()
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class VcpuStatus:
    """One vCPU; ``row`` is that of the current sample."""

    row: int
    id: int
    metrics: Values
    apicv_active: bool | None


@dataclass(frozen=True, slots=True)
class VmStatus:
    """One VM; ``row`` is that of the current sample. ``partial``: metrics that are known but lack some of its vCPUs."""

    row: int
    id: VmId
    metrics: Values
    partial: frozenset[str]
    apicv: Apicv
    vcpus: tuple[VcpuStatus, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """A host in a window. ``total`` is of all of it; ``partial``: metrics of it that are known but lack some."""

    interval_s: float
    vms: tuple[VmStatus, ...]
    total: Values
    partial: frozenset[str]
    vms_came: int
    vms_gone: int
    stats_reset: int


def summarize(
    window: Window,
    metrics: Sequence[Metric],
    verdicts: Verdicts | None = None,
    *,
    evaluator: Evaluator | None = None,
) -> Status:
    """Every metric for every subject of the window's current sample, with the verdicts on that sample if given.

    ``evaluator``: of the same window and at least these metrics, if there is one already.
    """
    evaluator = evaluator or Evaluator(window, formulas(metrics))
    vcpus = _vcpu_statuses(window, metrics, evaluator, verdicts)
    of_vms = _Table.of(evaluator, metrics, Scope.VM)
    of_host = _Table.of(evaluator, metrics, HOST)
    return Status(
        interval_s=window.interval_s,
        vms=tuple(_vm_status(window, row, of_vms, vcpus, verdicts) for row in range(len(window.current.vms))),
        total=of_host.values(0),
        partial=of_host.partial(0),
        vms_came=len(window.came(Scope.VM)),
        vms_gone=len(window.gone(Scope.VM)),
        stats_reset=len(window.resets),
    )


def busiest_first(status: Status, metric: str) -> list[VmStatus]:
    """The VMs by one metric, the largest first, those for which it is not known last."""

    def place(vm: VmStatus) -> tuple[bool, float]:
        value = vm.metrics.get(metric)
        return value is None, -(value or 0.0)

    return sorted(status.vms, key=place)


@dataclass(frozen=True, slots=True)
class _Table:
    """Columns of metrics: one entry a subject."""

    columns: Mapping[str, list[float | None]]
    missing: Mapping[str, list[int]]

    @classmethod
    def of(cls, evaluator: Evaluator, metrics: Sequence[Metric], at: Level) -> _Table:
        return cls(
            {metric.name: _known(evaluator.of(metric.formula, at)) for metric in metrics},
            {metric.name: evaluator.missing(metric.formula, at).tolist() for metric in metrics},
        )

    def values(self, row: int) -> Values:
        return {name: column[row] for name, column in self.columns.items()}

    def partial(self, row: int) -> frozenset[str]:
        is_known = (name for name, column in self.columns.items() if column[row] is not None)
        return frozenset(name for name in is_known if self.missing[name][row])


def _vm_status(
    window: Window, row: int, of_vms: _Table, vcpus: Sequence[VcpuStatus], verdicts: Verdicts | None
) -> VmStatus:
    return VmStatus(
        row=row,
        id=window.current.vms.vm_id(row),
        metrics=of_vms.values(row),
        partial=of_vms.partial(row),
        apicv=_apicv(verdicts, row),
        vcpus=tuple(vcpus[window.current.vcpus_of_vm[row]]),
    )


def _vcpu_statuses(
    window: Window, metrics: Sequence[Metric], evaluator: Evaluator, verdicts: Verdicts | None
) -> list[VcpuStatus]:
    judged = verdicts.by_vcpu if verdicts else {}
    of_vcpus = [metric for metric in metrics if metric.scope is Scope.VCPU]
    names = tuple(metric.name for metric in of_vcpus)
    columns = [_known(evaluator.of(metric.formula, Scope.VCPU)) for metric in of_vcpus]
    rows = zip(*columns, strict=True) if columns else iter([()] * len(window.current.vcpus))
    return [
        VcpuStatus(row, vcpu, dict(zip(names, values, strict=True)), _active(judged.get(row)))
        for row, (vcpu, values) in enumerate(zip(window.current.vcpus.id.tolist(), rows, strict=True))
    ]


def _apicv(verdicts: Verdicts | None, vm_row: int) -> Apicv:
    if verdicts is None:
        return Apicv()
    verdict = verdicts.vms[vm_row]
    return Apicv(verdict.state.value, verdict.reasons, verdict.branch is Branch.PARTLY)


def _active(verdict: VcpuVerdict | None) -> bool | None:
    return verdict.active if verdict else None


def _known(values: F64Array) -> list[float | None]:
    unknown = np.isnan(values)
    if not unknown.any():
        return list(values.tolist())
    return [None if is_unknown else value for value, is_unknown in zip(values.tolist(), unknown.tolist(), strict=True)]
