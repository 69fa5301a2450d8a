"""The findings of each VM together, and the order of VMs by their cost.

Rule: VMs are ordered by the CPU time that their findings cost, then by the wall time that their vCPUs lose, then by
exits per second. Costs are compared as they are shown and exits roughly, so similar VMs do not keep changing
places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

import numpy as np

from ..analysis.findings import Finding
from ..catalog.findings import Severity
from ..sample import I64Array, VmId
from ..units import round_estimate
from .overview import VmRows

BY_COST: Final = "cost"
"""The sort key of the costliest findings."""

NAME: Final = "name"

_TIE: Final = "exits_per_s"
_LAST: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class VmTrouble:
    """The findings of one VM and of its vCPUs together. ``rule``, ``title``, ``severity``: of the most urgent finding.

    ``rank``: sort key for VMs, the one with the costliest findings first.
    """

    findings: int
    rules: int
    rule: str
    title: str
    severity: Severity
    cost_cpus: float | None
    lost_vcpus: float | None
    rank: tuple[float, float, int]


@dataclass(frozen=True, slots=True)
class HostTroubles:
    """The problems of a host. ``of_vm``: those of each VM that has findings; ``counts``: findings by severity."""

    of_vm: Mapping[VmId, VmTrouble] = field(default_factory=dict)
    counts: Mapping[Severity, int] = field(default_factory=dict)


def troubles_of(findings: Sequence[Finding]) -> HostTroubles:
    """The findings by VM. ``findings``: the most urgent first."""
    counts = dict.fromkeys(Severity, 0)
    for severity, alike in groupby(findings, key=lambda finding: finding.rule.severity):
        counts[severity] += sum(1 for _ in alike)
    of_vm: dict[VmId, list[Finding]] = {}
    for finding in findings:
        of_vm.setdefault(finding.vm, []).append(finding)
    return HostTroubles({vm: _trouble(found) for vm, found in of_vm.items()}, counts)


class VmOrder:
    """Sorts the VMs of consecutive views. By cost, VMs with nearly the same cost keep their order."""

    def __init__(self) -> None:
        self._ids: Sequence[VmId] = ()
        self._stood: I64Array = np.empty(0, dtype=np.int64)

    def places(self, vms: VmRows, by: str, troubles: HostTroubles, *, is_upside_down: bool = False) -> Sequence[int]:
        """Places of the VMs: by cost, by ``name``, or by a metric, the largest first and unknown ones last."""
        if by == NAME:
            order = sorted(range(len(vms)), key=vms.names.__getitem__)
        elif by == BY_COST:
            order = self._by_cost(vms, troubles.of_vm)
        else:
            order = vms.largest_first(by)
        return order[::-1] if is_upside_down else order

    def _by_cost(self, vms: VmRows, troubles: Mapping[VmId, VmTrouble]) -> list[int]:
        exits = np.array(vms.column(_TIE), dtype=np.float64)  # None becomes NaN
        # Rates within about a third are equal: 2 steps per doubling. Unknown rates are below zero, so they come last.
        steps = np.where(np.isnan(exits), -1.0, np.round(2 * np.log2(np.maximum(exits, 0.0) + 1)))
        by_exits = np.lexsort((self._standing(vms), -steps))
        ranks = {place: troubles[vm].rank for vm, place in _places_of(troubles, vms)}
        is_troubled = np.zeros(len(vms), dtype=np.bool_)
        is_troubled[list(ranks)] = True
        is_troubled = is_troubled[by_exits]
        troubled = sorted(by_exits[is_troubled].tolist(), key=ranks.__getitem__)
        order: list[int] = troubled + by_exits[~is_troubled].tolist()
        self._stood[order] = np.arange(len(order))
        return order

    def _standing(self, vms: VmRows) -> I64Array:
        """The previous place of each VM; new VMs come last."""
        if vms.ids != self._ids:
            before = dict(zip(self._ids, self._stood.tolist(), strict=True))
            self._ids = vms.ids
            self._stood = np.array([before.get(vm, _LAST) for vm in self._ids], dtype=np.int64)
        return self._stood


def _places_of(troubles: Mapping[VmId, VmTrouble], vms: VmRows) -> list[tuple[VmId, int]]:
    places = vms.place_of
    return [(vm, places[vm]) for vm in troubles if vm in places]


def _trouble(found: Sequence[Finding]) -> VmTrouble:
    first = found[0].rule
    cost_cpus = _sum_of_known([finding.cost_cpus for finding in found])
    lost_vcpus = _sum_of_known([finding.lost_vcpus for finding in found])
    return VmTrouble(
        findings=len(found),
        rules=len({finding.rule.slug for finding in found}),
        rule=first.slug,
        title=first.title,
        severity=first.severity,
        cost_cpus=cost_cpus,
        lost_vcpus=lost_vcpus,
        rank=(-round_estimate(cost_cpus or 0.0), -round_estimate(lost_vcpus or 0.0), -first.severity.rank),
    )


def _sum_of_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
