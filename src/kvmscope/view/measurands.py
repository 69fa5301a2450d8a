"""Everything that can be shown for one VM or vCPU: every metric of the catalogue, and every statistic of its providers.

Each consists of one or more formulas, so it has a value now and in each window that is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ..analysis.evaluate import Evaluator
from ..analysis.window import Window
from ..catalog.metrics import Metric, MetricUnit, load_metrics
from ..catalog.stats import load_stats
from ..formula.check import Formula
from ..formula.tree import HOST
from ..host.text import printable
from ..scene import Scene
from ..schema import Descriptor, Scope, Unit
from ..units import NOT_KNOWN_SIGN, format_bytes, format_count, format_seconds
from .explain import ExplainContext, Explanation, HostWindow, explain
from .explain.stats import StatExplanation, UncataloguedStat
from .explain.values import stat_formulas
from .histogram import HistogramView, histogram_view
from .subjects import FollowedVm
from .text import format_metric, kind_text
from .watch import HostView

_SECONDS_A_SECOND: Final = "s_per_s"
_SUMS: Final = (_SECONDS_A_SECOND, "per_s", "value")
"""Readings that are sums over vCPUs; the others are quantiles."""


@dataclass(frozen=True, slots=True)
class Measurand:
    """A metric, or a statistic as it is described here. ``readings``: formulas by kind, the main one last.

    ``descriptor``: None for a metric. ``stability``: the tier of the catalogue, empty if it has none.
    """

    name: str
    title: str
    provider: str
    scope: Scope
    kind: str
    stability: str
    readings: Mapping[str, Formula]
    unit: MetricUnit | None = None
    descriptor: Descriptor | None = None

    @property
    def is_metric(self) -> bool:
        return self.descriptor is None

    @property
    def main(self) -> str:
        """The reading that a chart shows."""
        return next(iter(self.readings))

    @property
    def full_name(self) -> str:
        """The name under which ``explain`` finds it."""
        return self.name if self.provider in ("", "kvm") else f"{self.provider}.{self.name}"


def measurands_of(scene: Scene, *, is_vcpu: bool) -> tuple[Measurand, ...]:
    """The measurands of a VM or vCPU in a scene: metrics first, then statistics in their provider's order."""
    return (*_metrics(is_vcpu), *_stats(scene, is_vcpu))


def _metrics(is_vcpu: bool) -> Iterator[Measurand]:
    for metric in load_metrics():
        if metric.scope is Scope.VCPU or not is_vcpu:
            yield _of_metric(metric)


def _of_metric(metric: Metric) -> Measurand:
    kind = metric.unit.value.replace("-", " ")
    return Measurand(metric.name, metric.title, "", metric.scope, kind, "", {"value": metric.formula}, metric.unit)


def _stats(scene: Scene, is_vcpu: bool) -> Iterator[Measurand]:
    catalogue = load_stats()
    seen = set()
    for block in scene.sample.blocks:
        schema = block.schema
        for stat in schema.descriptors:
            key = (schema.provider, schema.scope, stat.name)
            if key in seen or (is_vcpu and schema.scope is Scope.VM):
                continue
            seen.add(key)
            entry = catalogue.find(*key)
            yield Measurand(
                name=stat.name,
                title=printable(stat.name),
                provider=schema.provider,
                scope=schema.scope,
                kind=kind_text(stat),
                stability="" if entry is None else entry.tier.value,
                readings=stat_formulas(schema.provider, schema.scope, stat),
                descriptor=stat,
            )


class WindowValues(Protocol):
    """A window that ends with ``scene``, and the evaluator of formulas in it."""

    @property
    def scene(self) -> Scene: ...

    @property
    def evaluator(self) -> Evaluator: ...


def value_of(view: WindowValues, measure: Measurand, subject: FollowedVm | None, reading: str) -> float | None:
    """One reading of a VM or vCPU in a window, or of all VMs together; None if unknown."""
    formula = measure.readings[reading]
    if subject is None:
        return _known(float(view.evaluator.of(formula, HOST)[0]))
    place = subject.locate(view.scene)
    if place is None:
        return None
    at, row = (Scope.VM, place.vm) if place.vcpu is None else (Scope.VCPU, place.vcpu)
    return _known(float(view.evaluator.of(formula, at)[row]))


def is_partial(view: WindowValues, measure: Measurand, subject: FollowedVm, reading: str) -> bool:
    """Whether a reading of a VM excludes some of its vCPUs."""
    place = subject.locate(view.scene)
    if place is None or place.vcpu is not None:
        return False
    return int(view.evaluator.missing(measure.readings[reading], Scope.VM)[place.vm]) > 0


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def values_of(views: Sequence[WindowValues], measure: Measurand, subject: FollowedVm) -> list[float | None]:
    """The main reading in each window."""
    return [value_of(view, measure, subject, measure.main) for view in views]


def reading_text(measure: Measurand, reading: str, value: float | None, *, partial: bool = False) -> str:
    """A value of a reading, with its unit. ``partial``: it lacks some vCPUs, so it is a lower bound or approximate."""
    if measure.unit is not None:
        return format_metric(measure.unit, value, partial=partial)
    if value is None:
        return NOT_KNOWN_SIGN
    text = _stat_text(measure, reading, value)
    if not partial:
        return text
    return f"≥{text}" if reading in _SUMS else f"~{text}"


def _stat_text(measure: Measurand, reading: str, value: float) -> str:
    assert measure.descriptor is not None
    if reading == _SECONDS_A_SECOND:
        return f"{format_seconds(value)}/s"
    text = _amount(measure.descriptor.unit, value)
    if reading == "per_s":
        return f"{text}/s"
    return text if reading == "value" else f"{reading} {text}"


def _amount(unit: object, value: float) -> str:
    if unit in (Unit.BOOLEAN, Unit.BIT):
        return {0.0: "no", 1.0: "yes"}.get(value, format_count(value))
    if unit is Unit.SECONDS:
        return format_seconds(value)
    return format_bytes(value) if unit is Unit.BYTES else format_count(value)


def now_text(view: HostView, measure: Measurand, subject: FollowedVm) -> str:
    """All readings of a window as a short text."""
    texts = (
        reading_text(
            measure,
            key,
            value_of(view, measure, subject, key),
            partial=is_partial(view, measure, subject, key),
        )
        for key in measure.readings
    )
    return ", ".join(dict.fromkeys(texts))


def explanation_of(view: HostView, measure: Measurand) -> Explanation | None:
    """The meaning of a measurand, and the caveats that apply on this host."""
    context = ExplainContext(view.scene.machine, HostWindow(view.scene, view.window))
    for found in explain(context, measure.full_name):
        if isinstance(found, StatExplanation | UncataloguedStat):
            if (found.provider, found.scope) == (measure.provider, measure.scope):
                return found
        elif measure.is_metric:
            return found
    return None


def recent_histogram(views: Sequence[HostView], measure: Measurand, subject: FollowedVm) -> HistogramView | None:
    """The values that the kept windows added; None if the subject was not in all of them."""
    if measure.descriptor is None or not measure.descriptor.is_histogram or not views:
        return None
    last = views[-1]
    place = subject.locate(last.scene)
    first = next((view for view in views if subject.locate(view.scene) is not None), None)
    if place is None or first is None:
        return None
    window = Window(first.window.previous, last.scene)
    return histogram_view(last.scene, place, measure.name, measure.provider, window=window)
