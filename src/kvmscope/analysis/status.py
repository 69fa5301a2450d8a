"""The values of a status screen: every metric of every VM and vCPU in a window, ready to be shown.

Not here: names of VMs (``host``), and how a value is written (the faces).
Rule: what is not known is None; NaN ends here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ..catalog.metrics import Metric
from ..sample import VmId
from ..schema import Scope
from .apicv.values import Branch, Reason, VcpuVerdict, Verdicts
from .metrics import Sums, measure, sum_by_vm
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
    """One VM; ``row`` is that of the current sample. ``partial``: metrics that lack some of its vCPUs."""

    row: int
    id: VmId
    metrics: Values
    partial: frozenset[str]
    apicv: Apicv
    vcpus: tuple[VcpuStatus, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """A host in a window. ``total`` sums up the VMs, ``partial`` being the metrics that lack some."""

    interval_s: float
    vms: tuple[VmStatus, ...]
    total: Values
    partial: frozenset[str]
    vms_came: int
    vms_gone: int
    stats_reset: int


def summarize(window: Window, metrics: Sequence[Metric], verdicts: Verdicts | None = None) -> Status:
    """Every metric for every subject of the window's current sample, with the verdicts on that sample if given."""
    of_vcpu = {metric.name: measure(window, metric) for metric in metrics if metric.scope is Scope.VCPU}
    of_vm = {metric.name: _of_vm(window, metric, of_vcpu) for metric in metrics}
    vcpus = _vcpu_statuses(window, of_vcpu, verdicts)
    vms = tuple(_vm_status(window, row, of_vm, vcpus, verdicts) for row in range(len(window.current.vms)))
    return Status(
        interval_s=window.interval_s,
        vms=vms,
        total={name: _total(sums.values) for name, sums in of_vm.items()},
        partial=frozenset(name for name, sums in of_vm.items() if sums.unknown.any() or np.isnan(sums.values).any()),
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


def _of_vm(window: Window, metric: Metric, of_vcpu: Mapping[str, F64Array]) -> Sums:
    if metric.scope is Scope.VCPU:
        return sum_by_vm(window.current, of_vcpu[metric.name])
    values = measure(window, metric)
    return Sums(values, np.zeros(len(values), dtype=np.int64))


def _vm_status(
    window: Window, row: int, of_vm: Mapping[str, Sums], vcpus: Sequence[VcpuStatus], verdicts: Verdicts | None
) -> VmStatus:
    return VmStatus(
        row=row,
        id=window.current.vms.vm_id(row),
        metrics={name: _known(float(sums.values[row])) for name, sums in of_vm.items()},
        partial=frozenset(name for name, sums in of_vm.items() if sums.unknown[row]),
        apicv=_apicv(verdicts, row),
        vcpus=tuple(vcpus[window.current.vcpus_of_vm[row]]),
    )


def _vcpu_statuses(window: Window, of_vcpu: Mapping[str, F64Array], verdicts: Verdicts | None) -> list[VcpuStatus]:
    judged = verdicts.by_vcpu if verdicts else {}
    columns = {name: [_known(value) for value in values.tolist()] for name, values in of_vcpu.items()}
    return [
        VcpuStatus(row, vcpu, {name: column[row] for name, column in columns.items()}, _active(judged.get(row)))
        for row, vcpu in enumerate(window.current.vcpus.id.tolist())
    ]


def _apicv(verdicts: Verdicts | None, vm_row: int) -> Apicv:
    if verdicts is None:
        return Apicv()
    verdict = verdicts.vms[vm_row]
    return Apicv(verdict.state.value, verdict.reasons, verdict.branch is Branch.PARTLY)


def _active(verdict: VcpuVerdict | None) -> bool | None:
    return verdict.active if verdict else None


def _total(values: F64Array) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.sum()) if len(known) else None


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
