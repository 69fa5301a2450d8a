"""Makes a report of consecutive scenes in one pass, which keeps numbers but no scenes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ..analysis.apicv import State
from ..analysis.findings import Finding, Key, urgency
from ..catalog.findings import Rule
from ..catalog.metrics import Metric, load_metrics
from ..errors import UsageError
from ..sample import VmId
from ..scene import Scene
from .events import EventWatch, HostEvent
from .host import host_facts
from .remedies import Parties, remedy_views
from .report import (
    ApicvSpan,
    ApicvTrack,
    FindingSpan,
    ReportEvent,
    ReportGap,
    ReportMetric,
    ReportRule,
    ReportSeries,
    ReportView,
    ReportVm,
)
from .report_heat import HeatCollector
from .values import Moment, VmHead, vm_head
from .watch import HostView, Watch

MOST_SCENES: Final = 121
"""Maximum number of scenes that are read from a recording: 120 intervals."""
MOST_DETAILED: Final = 100
"""Maximum number of VMs with their own charts; the others have a row in the table."""

_OF_VMS: Final = ("exits_per_s", "vmm_returns_per_s", "halt_poll_cpus", "injections_per_s")
"""Metrics that are charted for each VM."""
_VM_POINTS: Final = 60
_MOST_EVENTS: Final = 500
_MOST_SPANS: Final = 300
_MOST_GAPS: Final = 20


def report_view(place: str, scenes: Iterable[Scene]) -> ReportView:
    """The report of scenes of one boot and source. Raises UsageError if they make no interval."""
    builder = _Builder()
    for scene in scenes:
        builder.add(scene)
    if not builder.times:
        raise UsageError(f"{place} has no two scenes of one boot and source in this time")
    return builder.view(place)


@dataclass
class _VmRecord:
    """The data kept for one VM. ``first``: number of its first interval; ``values``: by metric, one per interval."""

    head: VmHead
    vcpus: int
    first: int
    first_seen: Moment
    last_seen: Moment
    values: dict[str, list[float | None]] = field(default_factory=dict)
    apicv: list[ApicvSpan] = field(default_factory=list)

    def mean(self, metric: str) -> float | None:
        return _mean(self.values[metric])


@dataclass
class _OpenSpan:
    """A finding that has not ended."""

    finding: Finding
    name: str
    begin: Moment
    cost_cpus: float | None
    end: Moment | None = None


class _Builder:
    def __init__(self) -> None:
        self._watch = Watch()
        self._events = EventWatch()
        self._metrics: list[Metric] = [metric for metric in load_metrics() if metric.column]
        self._first: Scene | None = None
        self._last: HostView | None = None
        self.times: list[Moment] = []
        self._total: dict[str, list[float | None]] = {metric.name: [] for metric in self._metrics}
        self._vms: dict[VmId, _VmRecord] = {}
        self._tracks: dict[tuple[bool, str], Counter[int]] = {}
        self._spans: dict[str, list[_OpenSpan]] = {}
        self._parties: dict[VmId, Parties] = {}
        self._open: dict[Key, _OpenSpan] = {}
        self._rules: dict[str, Rule] = {}
        self._happened: list[HostEvent] = []
        self._gaps: Counter[str] = Counter()
        self._heats = HeatCollector()

    def add(self, scene: Scene) -> None:
        self._first = self._first or scene
        self._gaps.update({gap.reason for gap in scene.sample.gaps})
        view = self._watch.add(scene)
        if view is None:
            return
        number = len(self.times)
        self._last = view
        self.times.append(Moment(scene.sample.taken_ns))
        self._add_values(view, number)
        self._add_verdicts(view, number)
        self._add_findings(view)
        self._happened += self._events.add(view)
        self._heats.add(view.window)

    def _add_values(self, view: HostView, number: int) -> None:
        overview, time = view.overview, self.times[-1]
        for name, values in self._total.items():
            values.append(overview.total.metrics[name])
        ids = overview.vms.ids
        columns = {metric.name: overview.vms.column(metric.name) for metric in self._metrics}
        for row, vm in enumerate(ids):
            record = self._vms.get(vm)
            if record is None:
                record = self._vms[vm] = self._record(view.scene, row, number, time)
            record.last_seen = time
            for name, column in columns.items():
                record.values[name].append(column[row])

    def _record(self, scene: Scene, row: int, number: int, time: Moment) -> _VmRecord:
        rows = scene.sample.vcpus_of_vm[row]
        begin = time if number else Moment(self._first.sample.taken_ns if self._first else time.ns)
        record = _VmRecord(vm_head(scene, row), rows.stop - rows.start, number, begin, time)
        record.values = {metric.name: [] for metric in self._metrics}
        return record

    def _add_verdicts(self, view: HostView, number: int) -> None:
        time = self.times[-1]
        for verdict in view.verdicts.vms:
            reasons = tuple(reason.name for reason in verdict.reasons)
            state = verdict.state.value
            for key in ((False, state), *((True, reason) for reason in reasons if verdict.state is State.INHIBITED)):
                self._tracks.setdefault(key, Counter())[number] += 1
            spans = self._vms[verdict.id].apicv
            is_same = bool(spans) and (spans[-1].state, spans[-1].reasons) == (state, reasons)
            begin = spans.pop().begin if is_same else time
            spans.append(ApicvSpan(begin=begin, end=time, state=state, reasons=reasons))

    def _add_findings(self, view: HostView) -> None:
        time, now = self.times[-1], {finding.key: finding for finding in view.judgement.findings}
        self._parties |= view.log.parties
        for key in self._open.keys() - now.keys():
            self._open.pop(key).end = time
        for key, finding in now.items():
            span = self._open.get(key)
            if span is None:
                name = view.log.names.get(finding.vm, str(finding.vm))
                span = self._open[key] = _OpenSpan(finding, name, time, finding.cost_cpus)
                self._rules[finding.rule.slug] = finding.rule
                self._spans.setdefault(finding.rule.slug, []).append(span)
            span.cost_cpus = max(filter(None, (span.cost_cpus, finding.cost_cpus)), default=span.cost_cpus)

    def view(self, place: str) -> ReportView:
        assert self._first is not None
        assert self._last is not None
        scene, sample = self._last.scene, self._last.scene.sample
        return ReportView(
            place=place,
            begin=Moment(self._first.sample.taken_ns),
            end=self.times[-1],
            simulated=sample.simulated,
            source=sample.source,
            host=host_facts(scene.machine),
            interval_s=(sample.monotonic_ns - self._first.sample.monotonic_ns) / 1e9 / len(self.times),
            vm_count=len(sample.vms),
            vcpu_count=len(sample.vcpus),
            metrics=tuple(map(_metric_view, self._metrics)),
            times=tuple(self.times),
            series=tuple(_series(name, values) for name, values in self._total.items()),
            heats=self._heats.of_host(self.times),
            apicv=tuple(self._track(*key) for key in sorted(self._tracks)),
            rules=tuple(map(self._rule, sorted(self._rules.values(), key=self._urgency))),
            events=tuple(map(_event_view, self._happened[:_MOST_EVENTS])),
            more_events=max(0, len(self._happened) - _MOST_EVENTS),
            vms=self._vm_views(set(sample.vms.id.tolist())),
            gaps=tuple(ReportGap(reason=r, scenes=count) for r, count in self._gaps.most_common(_MOST_GAPS)),
        )

    def _track(self, is_reason: bool, name: str) -> ApicvTrack:
        found = self._tracks[is_reason, name]
        return ApicvTrack(name=name, is_reason=is_reason, vms=tuple(found[place] for place in range(len(self.times))))

    def _urgency(self, rule: Rule) -> tuple[bool, float, int]:
        costs = [span.cost_cpus for span in self._spans[rule.slug] if span.cost_cpus is not None]
        return urgency(rule, sum(costs) if costs else None)

    def _rule(self, rule: Rule) -> ReportRule:
        spans = self._spans[rule.slug]
        return ReportRule(
            rule=rule.slug,
            severity=rule.severity,
            title=rule.title,
            explanation=rule.explanation,
            remedies=remedy_views(rule.remedies, [self._parties.get(span.finding.vm, ()) for span in spans]),
            vms=len({span.finding.vm for span in spans}),
            spans=tuple(map(_span_view, spans[:_MOST_SPANS])),
            more_spans=max(0, len(spans) - _MOST_SPANS),
        )

    def _vm_views(self, there: set[int]) -> tuple[ReportVm, ...]:
        fired: dict[VmId, dict[str, None]] = {}
        for slug in self._rules:
            for span in self._spans[slug]:
                fired.setdefault(span.finding.vm, {})[slug] = None
        order = sorted(self._vms, key=lambda vm: (vm not in fired, -(self._vms[vm].mean("exits_per_s") or 0.0)))
        return tuple(
            self._vm(vm, tuple(fired.get(vm, ())), vm.value not in there, is_detailed=place < MOST_DETAILED)
            for place, vm in enumerate(order)
        )

    def _vm(self, vm: VmId, rules: tuple[str, ...], has_ended: bool, *, is_detailed: bool) -> ReportVm:
        record = self._vms[vm]
        times = self.times[record.first : record.first + len(record.values["exits_per_s"])]
        fold = max(1, math.ceil(len(times) / _VM_POINTS))
        names = _OF_VMS if is_detailed else ()
        return ReportVm(
            **record.head,
            vcpus=record.vcpus,
            first_seen=record.first_seen,
            last_seen=record.last_seen,
            has_ended=has_ended,
            means=tuple(record.mean(metric.name) for metric in self._metrics),
            apicv=tuple(record.apicv),
            rules=rules,
            times=tuple(_ends(times, fold)) if is_detailed else (),
            series=tuple(_series(name, _folded(record.values[name], fold)) for name in names),
            heats=self._heats.of_vm(vm, self.times) if is_detailed else (),
        )


def _metric_view(metric: Metric) -> ReportMetric:
    return ReportMetric(
        name=metric.name, title=metric.title, unit=metric.unit, help=metric.help, good=metric.good, bad=metric.bad
    )


def _event_view(event: HostEvent) -> ReportEvent:
    return ReportEvent(time=event.time, kind=event.kind.value, name=event.name, text=event.text)


def _span_view(span: _OpenSpan) -> FindingSpan:
    return FindingSpan(
        vm=span.finding.vm,
        name=span.name,
        vcpu=span.finding.vcpu,
        begin=span.begin,
        end=span.end,
        cost_cpus=span.cost_cpus,
    )


def _series(metric: str, values: Sequence[float | None]) -> ReportSeries:
    known = [value for value in values if value is not None]
    return ReportSeries(metric=metric, values=tuple(values), mean=_mean(values), most=max(known, default=None))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _folded(values: Sequence[float | None], fold: int) -> list[float | None]:
    """The means of ``fold`` consecutive values each."""
    return [_mean(values[first : first + fold]) for first in range(0, len(values), fold)]


def _ends(times: Sequence[Moment], fold: int) -> list[Moment]:
    return [times[min(first + fold, len(times)) - 1] for first in range(0, len(times), fold)]
