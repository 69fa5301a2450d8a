"""The values of a stat or metric on this host: for all VMs together, and for each VM."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, TypeAlias

import numpy as np

from ...analysis.evaluate import Evaluator
from ...analysis.window import Window, find_column
from ...catalog.groups import GroupHome, load_groups
from ...catalog.metrics import formulas, load_metrics
from ...formula.check import Formula, Type
from ...formula.tree import HOST, Expression, QuantileTerm, Reduction, StatName, StatTerm
from ...host.facts import Machine
from ...scene import Scene
from ...schema import Descriptor, Kind, Scope, Unit
from ..values import INLINE

_QUANTILES = (0.5, 0.99)
_QUANTITIES = (
    "By key what it is: per_s, s_per_s (seconds a second), value, p50 and p99 (seconds), or the unit of a metric; "
    "null where it is unknown."
)


@dataclass(frozen=True)
class HostWindow:
    """An interval of this host, and the scene at its end."""

    scene: Scene
    window: Window

    @cached_property
    def evaluator(self) -> Evaluator:
        return Evaluator(self.window, formulas(load_metrics()))


@dataclass(frozen=True)
class ExplainContext:
    """The input of explanations. ``live`` is None if VMs were not read, for the reason ``why_not``."""

    machine: Machine
    live: HostWindow | None = None
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoValues:
    """The reason why there are no values."""

    why_not: Annotated[str, "Why not."]


@dataclass(frozen=True, slots=True, kw_only=True)
class VmValues:
    """The values of one VM."""

    vm: Annotated[str, "Name of the VM, as on a screen."]
    quantities: Annotated[Mapping[str, float | None], _QUANTITIES, INLINE]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveValues:
    """The values of an interval."""

    interval_s: Annotated[float, "Seconds between the samples."]
    host: Annotated[Mapping[str, float | None], "For all VMs together. " + _QUANTITIES]
    vms: Annotated[tuple[VmValues, ...], "The largest first."]


HostValues: TypeAlias = LiveValues | NoValues


def stat_values(context: ExplainContext, provider: str, scope: Scope, name: str) -> HostValues:
    """The values of a stat."""
    if context.live is None:
        return NoValues(why_not=context.why_not)
    column = find_column(context.live.window.current, provider, scope, name)
    if column is None:
        if find_column(context.live.window.previous, provider, scope, name) is not None:
            return NoValues(why_not="every VM that has it ended within the interval")
        return NoValues(why_not=_why_no_stat(provider, name, context.live))
    return formula_values(context, stat_formulas(provider, scope, column.descriptor))


def formula_values(context: ExplainContext, quantities: Mapping[str, Formula]) -> HostValues:
    """The values of the formulas for all VMs together and for each VM."""
    if context.live is None:
        return NoValues(why_not=context.why_not)
    evaluator, scene = context.live.evaluator, context.live.scene
    of_host = {key: _known(evaluator.of(formula, HOST)[0]) for key, formula in quantities.items()}
    of_vms = {key: evaluator.of(formula, Scope.VM).tolist() for key, formula in quantities.items()}
    largest = -np.array(of_vms[list(quantities)[-1]])  # NaN sorts last
    vms = tuple(
        VmValues(vm=scene.title(row), quantities={key: _known(values[row]) for key, values in of_vms.items()})
        for row in np.argsort(largest, kind="stable").tolist()
    )
    return LiveValues(interval_s=context.live.window.interval_s, host=of_host, vms=vms)


def stat_formulas(provider: str, scope: Scope, descriptor: Descriptor) -> dict[str, Formula]:
    """The formulas to show for a stat of this kind, by JSON key."""
    name = StatName(provider, descriptor.name)
    found: dict[str, Expression] = {}
    if descriptor.is_histogram:
        found = {f"p{q * 100:g}": QuantileTerm(name, q) for q in _QUANTILES}
    elif descriptor.kind is Kind.CUMULATIVE:
        is_time = descriptor.unit is Unit.SECONDS
        found = {"s_per_s": StatTerm(Reduction.SECONDS, name)} if is_time else {"per_s": StatTerm(Reduction.RATE, name)}
    else:
        found = {"value": StatTerm(Reduction.VALUE, name)}
    return {key: Formula(expression, scope, Type()) for key, expression in found.items()}


def _why_no_stat(provider: str, name: str, live: HostWindow) -> str:
    sample = live.window.current
    if not len(sample.vms):
        return "no VM runs here"
    owners = {block.schema.provider for block in sample.blocks}
    if provider in owners:
        gap = next((gap for gap in sample.gaps if (gap.provider, gap.stat) == (provider, name)), None)
        if gap is not None:
            return gap.reason
        return (
            "this kernel has no such statistic" if provider == "kvm" else f"provider {provider} does not have it here"
        )
    group = load_groups().get(provider)
    if group is not None and group.home is GroupHome.OBJECT:
        return f"counted only while its group is on: kvmscope groups try {provider}"
    return f"source {sample.source} reads no statistics of provider {provider}"


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
