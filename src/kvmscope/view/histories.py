"""One metric or statistic over time, and all metrics and statistics of a VM or vCPU, as plain values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from ..analysis.evaluate import Evaluator
from ..errors import UsageError
from ..host.text import printable
from ..sample import VmId
from ..scene import Scene
from ..schema import Scope, Unit
from .judging import Examiner
from .measurands import Measurand, measurands_of, now_text, value_of
from .scene_windows import windows_of
from .subjects import FollowedVm
from .values import Answer, Moment, SceneAnswer, VcpuTitle, VmTitle, scene_head, vcpu_head, vm_head
from .watch import HostView

_DIGITS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryView(Answer):
    """One metric or statistic over time, of all VMs together, of a VM or of a vCPU."""

    metric: Annotated[str | None, "Name of the metric; null for a statistic."]
    stat: Annotated[str | None, "Name of the statistic; null for a metric."]
    provider: Annotated[str | None, "Provider of the statistic; null for a metric."]
    vm: Annotated[VmId | None, "The VM; null for all VMs together."]
    vcpu: Annotated[int | None, "Id of the vCPU; null for all of the VM."]
    unit: Annotated[str, "What the values are: a unit of metrics, seconds-per-second, boolean, or empty for a number."]
    times: Annotated[Sequence[Moment], "The end of each interval."]
    values: Annotated[Sequence[float | None], "The value in each interval; null is not known."]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricTableView(Answer):
    """The metrics that ``status`` shows over time, of all VMs together or of a VM."""

    vm: Annotated[VmId | None, "The VM; null for all VMs together."]
    times: Annotated[Sequence[Moment], "The end of each interval."]
    values: Annotated[Mapping[str, Sequence[float | None]], "By metric the value in each interval; null is not known."]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurandView:
    """The values of one metric or statistic in an interval."""

    name: Annotated[str, "Its name."]
    title: Annotated[str, "Its title, as on a screen. Untrusted text for a statistic."]
    provider: Annotated[str | None, "Provider of the statistic; null for a metric."]
    scope: Scope
    kind: Annotated[str, "What kind of value it is."]
    tier: Annotated[str | None, "How stable the statistic is; null for a metric, or if the catalogue does not have it."]
    is_histogram: Annotated[bool, "Whether it is a histogram."]
    unit: Annotated[str, "What the values of its history are, as there."]
    text: Annotated[str, "Its values in the interval, as on a screen."]
    values: Annotated[
        Mapping[str, float | None], "The same as numbers: per_s, s_per_s, value, p50 and p99; null is not known."
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurandListView(SceneAnswer):
    """Every metric and statistic of a VM or vCPU."""

    interval_s: Annotated[float, "Length of the interval."]
    vm: VmTitle
    vcpu: VcpuTitle | None
    measurands: Annotated[Sequence[MeasurandView], "Metrics first, then statistics in the order of their provider."]


def history_view(scenes: Iterable[Scene], measure: Measurand, subject: FollowedVm | None) -> HistoryView:
    """A metric or statistic in each window between consecutive scenes."""
    examiner, times, values = Examiner(), list[Moment](), list[float | None]()
    for scene, window in windows_of(scenes):
        found = value_of(_Evaluated(scene, examiner.evaluator(scene, window)), measure, subject, measure.main)
        times.append(Moment(scene.sample.taken_ns))
        values.append(rounded(found))
    vm, vcpu = (None, None) if subject is None else (subject.id, subject.vcpu)
    return HistoryView(
        metric=measure.name if measure.is_metric else None,
        stat=None if measure.is_metric else measure.name,
        provider=None if measure.is_metric else measure.provider,
        vm=vm,
        vcpu=vcpu,
        unit=unit_of(measure),
        times=times,
        values=values,
    )


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """A window with an evaluator but without findings."""

    scene: Scene
    evaluator: Evaluator


def measurand_list_view(view: HostView, subject: FollowedVm) -> MeasurandListView:
    """All metrics and statistics of a VM or vCPU. Raises UsageError if it is not in the view's scene."""
    place = subject.locate(view.scene)
    if place is None:
        raise UsageError(f"{subject.title} is not there at this time")
    return MeasurandListView(
        **scene_head(view.scene),
        interval_s=view.window.interval_s,
        vm=VmTitle(**vm_head(view.scene, place.vm)),
        vcpu=None if place.vcpu is None else VcpuTitle(**vcpu_head(view.scene.sample, place.vcpu)),
        measurands=[
            _measurand(view, measure, subject)
            for measure in measurands_of(view.scene, is_vcpu=subject.vcpu is not None)
        ],
    )


def _measurand(view: HostView, measure: Measurand, subject: FollowedVm) -> MeasurandView:
    return MeasurandView(
        name=measure.name,
        title=measure.title,
        provider=None if measure.is_metric else measure.provider,
        scope=measure.scope,
        kind=measure.kind,
        tier=measure.stability or None,
        is_histogram=measure.descriptor is not None and measure.descriptor.is_histogram,
        unit=unit_of(measure),
        text=now_text(view, measure, subject),
        values={reading: rounded(value_of(view, measure, subject, reading)) for reading in measure.readings},
    )


def find_measurand(
    scene: Scene,
    subject: FollowedVm | None,
    *,
    metric: str | None = None,
    stat: str | None = None,
    provider: str | None,
) -> Measurand:
    """The metric or the statistic of this name. Raises UsageError if the subject does not have it."""
    name = metric or stat or ""
    every = [
        measure
        for measure in measurands_of(scene, is_vcpu=subject is not None and subject.vcpu is not None)
        if measure.is_metric is (metric is not None) and provider in (None, measure.provider)
    ]
    for measure in every:
        if measure.name == name:
            return measure
    what = "metric" if metric is not None else "statistic"
    near = difflib.get_close_matches(name, [measure.name for measure in every], n=3, cutoff=0.6)
    raise UsageError(f"there is no {what} '{printable(name)}' here", nearest=tuple(near))


def unit_of(measure: Measurand) -> str:
    """The unit of the main reading's values."""
    if measure.unit is not None:
        return measure.unit.value
    assert measure.descriptor is not None
    if measure.main == "s_per_s":
        return "seconds-per-second"
    base = _UNITS.get(measure.descriptor.unit, "")
    if measure.main == "per_s":
        return "bytes-per-second" if base == "bytes" else "per-second"
    return base


_UNITS: Final[Mapping[object, str]] = {
    Unit.SECONDS: "seconds",
    Unit.BYTES: "bytes",
    Unit.BOOLEAN: "boolean",
    Unit.BIT: "boolean",
}


def rounded(value: float | None) -> float | None:
    """The value rounded to a few digits, which suffice for charts."""
    return None if value is None else float(f"{value:.{_DIGITS}g}")
