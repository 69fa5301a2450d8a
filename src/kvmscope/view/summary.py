"""The summary of a host for the web page at each interval: the busiest VMs, totals, and findings by rule.

Its size does not grow with the host: the page requests the rest from ``overview``, ``apicv`` and ``doctor``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from ..analysis.apicv import State
from ..catalog.findings import Severity
from ..catalog.metrics import Metric, MetricUnit, load_metrics
from ..sample import VmId
from .findings import RuleTotal
from .host import HostFacts, host_facts
from .overview import HostTotal
from .values import Answer, SceneAnswer, scene_head, vm_head
from .watch import HostView

MOST_VMS: Final = 30
_BUSIEST: Final = "exits_per_s"
_DIGITS: Final = 4

SummaryMetrics = Annotated[
    Mapping[str, float | None], "Metrics that status shows by name, to four digits; null is not known."
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryVm:
    """One VM in a line."""

    id: Annotated[VmId, "Identifies the VM as long as it lives."]
    name: Annotated[str, "Its name. Untrusted text."]
    vmm: Annotated[str | None, "The program that is its VMM. Untrusted text."]
    vcpus: Annotated[int, "Number of vCPUs."]
    apicv: State
    silent_s: Annotated[float | None, "Seconds for which its VMM has not answered; null if it answers."]
    findings: Annotated[int, "Number of findings."]
    metrics: SummaryMetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRule:
    """The findings of one rule."""

    rule: Annotated[str, "The rule's slug."]
    severity: Annotated[Severity, "How bad it is."]
    title: Annotated[str, "The rule's title."]
    findings: Annotated[int, "Number of findings."]
    cost_cpus: Annotated[float | None, "About how many CPUs they cost."]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSummary(SceneAnswer):
    """A host in an interval, as far as a page shows it without further requests."""

    interval_s: Annotated[float, "Length of the interval."]
    host: HostFacts
    vms_total: Annotated[int, "Number of VMs."]
    vcpus_total: Annotated[int, "Number of vCPUs."]
    total: SummaryMetrics
    vms: Annotated[Sequence[SummaryVm], f"The VMs with the most exits, at most {MOST_VMS}."]
    rules: Annotated[Sequence[SummaryRule], "What is wrong by rule, the most urgent first."]
    gaps: Annotated[int, "Number of things that could not be read."]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricTitle:
    """The title and unit of a metric."""

    name: Annotated[str, "Its name."]
    title: Annotated[str, "Its title, as on a screen."]
    unit: Annotated[MetricUnit, "What it counts."]
    help: Annotated[str, "What it is."]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricTitles(Answer):
    """The metrics of a summary and of the history, in the order of their columns."""

    metrics: Annotated[Sequence[MetricTitle], "Each metric."]


def shown_metrics() -> tuple[Metric, ...]:
    """The metrics that status shows as columns."""
    return tuple(metric for metric in load_metrics() if metric.column)


def metric_titles() -> MetricTitles:
    return MetricTitles(
        metrics=[
            MetricTitle(name=metric.name, title=metric.title, unit=metric.unit, help=metric.help)
            for metric in shown_metrics()
        ]
    )


def host_summary(view: HostView) -> HostSummary:
    """The summary of a view."""
    overview, scene = view.overview, view.scene
    names = [metric.name for metric in shown_metrics()]
    report = view.report()
    return HostSummary(
        **scene_head(scene),
        interval_s=overview.interval_s,
        host=host_facts(scene.machine),
        vms_total=len(overview.vms),
        vcpus_total=len(scene.sample.vcpus),
        total=_rounded(overview.total, names),
        vms=[_vm(view, row) for row in overview.vms.largest_first(_BUSIEST)[:MOST_VMS]],
        rules=[_rule(total) for total in report.by_rule],
        gaps=len(scene.sample.gaps),
    )


def _vm(view: HostView, row: int) -> SummaryVm:
    head = vm_head(view.scene, row)
    metrics = {metric.name: view.overview.vms.column(metric.name)[row] for metric in shown_metrics()}
    rows = view.scene.sample.vcpus_of_vm[row]
    return SummaryVm(
        id=head["id"],
        name=head["name"],
        vmm=head["vmm"],
        vcpus=rows.stop - rows.start,
        apicv=view.verdicts.vms[row].state,
        silent_s=head["silent_s"],
        findings=sum(1 for finding in view.judgement.findings if finding.vm == head["id"]),
        metrics={name: _short(value) for name, value in metrics.items()},
    )


def _rule(total: RuleTotal) -> SummaryRule:
    return SummaryRule(
        rule=total.rule,
        severity=total.severity,
        title=total.title,
        findings=total.findings,
        cost_cpus=_short(total.cost_cpus),
    )


def _rounded(total: HostTotal, names: Sequence[str]) -> dict[str, float | None]:
    return {name: _short(total.metrics[name]) for name in names}


def _short(value: float | None) -> float | None:
    """The value rounded to a few digits, to keep small what every page receives at every interval."""
    return None if value is None else float(f"{value:.{_DIGITS}g}")
