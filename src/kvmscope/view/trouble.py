"""What is wrong with each VM in all, and the order of VMs by what hurts most.

Rule: a VM hurts by the CPU time that its findings cost, then by the wall time that its vCPUs lose, then by its exits
per second. Costs are compared as they are shown and exits roughly, so VMs that are alike do not change places all the
time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from ..analysis.findings import Finding
from ..catalog.findings import Severity
from ..sample import VmId
from ..units import format_estimate
from .overview import VmRows

HURTS: Final = "hurts"
"""The sort key that stands for what hurts most."""

NAME: Final = "name"

_TIE: Final = "exits_per_s"
_LAST: Final = 1 << 62
_NOTHING_BEFORE: Final[Mapping[VmId, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class VmTrouble:
    """The findings of one VM and of its vCPUs together. ``rule``, ``title``, ``severity``: of the most urgent one."""

    findings: int
    rules: int
    rule: str
    title: str
    severity: Severity
    cost_cpus: float | None
    lost_vcpus: float | None


def troubles_of(findings: Sequence[Finding]) -> Mapping[VmId, VmTrouble]:
    """By VM. ``findings``: the most urgent first."""
    of_vm: dict[VmId, list[Finding]] = {}
    for finding in findings:
        of_vm.setdefault(finding.vm, []).append(finding)
    return {vm: _trouble(found) for vm, found in of_vm.items()}


def order_of(
    vms: VmRows,
    by: str,
    troubles: Mapping[VmId, VmTrouble],
    *,
    is_upside_down: bool = False,
    before: Mapping[VmId, int] = _NOTHING_BEFORE,
) -> Sequence[int]:
    """Places of the VMs: by what hurts, by ``name``, or by a metric, the largest first and unknown ones last.

    ``before``: where each VM stood. By what hurts, VMs that are nearly alike keep their order.
    """
    if by == NAME:
        order = sorted(range(len(vms)), key=vms.names.__getitem__)
    elif by == HURTS:
        order = _by_hurt(vms, troubles, before)
    else:
        order = vms.largest_first(by)
    return order[::-1] if is_upside_down else order


def _by_hurt(vms: VmRows, troubles: Mapping[VmId, VmTrouble], before: Mapping[VmId, int]) -> list[int]:
    ids = vms.ids
    stood = np.array([before.get(vm, _LAST) for vm in ids], dtype=np.int64)
    exits = np.array([-1.0 if value is None else value for value in vms.column(_TIE)], dtype=np.float64)
    # A third more or less is alike: 2 steps a doubling. Unknown ones are below zero, and come last.
    steps = np.where(exits < 0, -1.0, np.round(2 * np.log2(np.maximum(exits, 0.0) + 1)))
    order: list[int] = np.lexsort((stood, -steps)).tolist()
    troubled = [place for place in order if ids[place] in troubles]
    troubled.sort(key=_worst_first(lambda place: troubles[ids[place]]))
    is_troubled = set(troubled)
    return troubled + [place for place in order if place not in is_troubled]


def _worst_first(of: Callable[[int], VmTrouble]) -> Callable[[int], tuple[float, float, int]]:
    def key(place: int) -> tuple[float, float, int]:
        trouble = of(place)
        return -_shown(trouble.cost_cpus), -_shown(trouble.lost_vcpus), -trouble.severity.rank

    return key


def _shown(value: float | None) -> float:
    """The number that a screen shows for it."""
    if not value:
        return 0.0
    text = format_estimate(value)
    return float(text) if text[0].isdigit() else value


def _trouble(found: Sequence[Finding]) -> VmTrouble:
    first = found[0].rule
    return VmTrouble(
        findings=len(found),
        rules=len({finding.rule.slug for finding in found}),
        rule=first.slug,
        title=first.title,
        severity=first.severity,
        cost_cpus=_sum_of_known([finding.cost_cpus for finding in found]),
        lost_vcpus=_sum_of_known([finding.lost_vcpus for finding in found]),
    )


def _sum_of_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
