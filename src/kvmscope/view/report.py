"""A report of a time span: the content of its page or text, as plain values. ``report_build`` makes it.

Every series has one value for each of ``times``, which are the ends of the intervals; unknown values are None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from ..catalog.findings import Severity
from ..catalog.metrics import MetricUnit
from ..sample import VmId
from .heat import HeatMap
from .host import HostFacts
from .remedies import FindingRemedy
from .values import Answer, Moment, VmTitle


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportMetric:
    """A metric that the report shows."""

    name: Annotated[str, "Its name in the catalogue."]
    title: Annotated[str, "Its title on a screen."]
    unit: MetricUnit
    help: Annotated[str, "What it is."]
    good: Annotated[str, "Which values are good."]
    bad: Annotated[str, "Which values are bad."]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSeries:
    """One metric over time."""

    metric: Annotated[str, "Name of the metric."]
    values: Annotated[Sequence[float | None], "One value for each interval."]
    mean: Annotated[float | None, "Mean of the known values."]
    most: Annotated[float | None, "The largest."]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApicvTrack:
    """A state of interrupt acceleration, or an inhibit reason, over time."""

    name: Annotated[str, "active, not supported, …, or the name of an inhibit reason."]
    is_reason: Annotated[bool, "Whether it is a reason, and not a state."]
    vms: Annotated[Sequence[int], "Number of VMs in it at the end of each interval."]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApicvSpan:
    """A time in which a VM's verdict was the same."""

    begin: Annotated[Moment, "When it was first seen."]
    end: Annotated[Moment, "When it was last seen."]
    state: Annotated[str, "The state."]
    reasons: Annotated[Sequence[str], "Names of the inhibit reasons."]


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingSpan:
    """A time in which a rule fired for a VM or vCPU."""

    vm: Annotated[VmId, "The VM."]
    name: Annotated[str, "Its name. Untrusted text."]
    vcpu: Annotated[int | None, "Id of the vCPU; null if it is of the whole VM."]
    begin: Annotated[Moment, "End of the interval in which it began."]
    end: Annotated[Moment | None, "End of the interval in which it ended; null if it holds at the end."]
    cost_cpus: Annotated[float | None, "The most CPUs that it cost in an interval; null if the rule gives no cost."]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRule:
    """The findings of one rule over the whole time."""

    rule: Annotated[str, "The rule's slug."]
    severity: Severity
    title: Annotated[str, "Its title."]
    explanation: Annotated[str, "Its impact."]
    remedies: Sequence[FindingRemedy]
    vms: Annotated[int, "Number of VMs."]
    spans: Annotated[Sequence[FindingSpan], "When, the earliest first; not more than a few hundred."]
    more_spans: Annotated[int, "Number of further spans."]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportEvent:
    """One event."""

    time: Moment
    kind: Annotated[str, "The kind of event."]
    name: Annotated[str, "Of which VM, fit for a terminal; or empty."]
    text: Annotated[str, "What happened."]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportVm(VmTitle):
    """One VM."""

    vcpus: Annotated[int, "Number of vCPUs."]
    first_seen: Moment
    last_seen: Moment
    has_ended: Annotated[bool, "Whether the last scene does not have it."]
    means: Annotated[Sequence[float | None], "Mean of each metric of the table."]
    apicv: Annotated[Sequence[ApicvSpan], "Verdicts on its interrupt acceleration, in their order."]
    rules: Annotated[Sequence[str], "Slugs of the rules that fired for it."]
    times: Annotated[Sequence[Moment], "Ends of the intervals of its series: empty if it has a row in the table only."]
    series: Sequence[ReportSeries]
    heats: Sequence[HeatMap]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportGap:
    """Something that could not be read."""

    reason: Annotated[str, "Why. Untrusted text where it quotes something."]
    scenes: Annotated[int, "Number of scenes of the report with this reason."]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportView(Answer):
    """The answer of ``report``."""

    place: Annotated[str, "The recording."]
    begin: Annotated[Moment, "The first scene."]
    end: Annotated[Moment, "The last scene."]
    simulated: Annotated[bool, "Whether a simulated host stands behind the numbers, and not a kernel."]
    source: Annotated[str, "Name of the source that was read."]
    host: HostFacts
    interval_s: Annotated[float, "Mean length of an interval."]
    vm_count: Annotated[int, "Number of VMs in the last scene."]
    vcpu_count: Annotated[int, "Number of vCPUs in the last scene."]
    metrics: Annotated[Sequence[ReportMetric], "Metrics of the table of VMs, and of all series."]
    times: Annotated[Sequence[Moment], "Ends of the intervals."]
    series: Annotated[Sequence[ReportSeries], "All VMs together."]
    heats: Annotated[Sequence[HeatMap], "All VMs together."]
    apicv: Annotated[Sequence[ApicvTrack], "Number of VMs by state and by reason."]
    rules: Annotated[Sequence[ReportRule], "What was found, the most urgent first."]
    events: Annotated[Sequence[ReportEvent], "What happened, in order."]
    more_events: Annotated[int, "Number of further events."]
    vms: Annotated[Sequence[ReportVm], "Those with findings first, then those with the most exits."]
    gaps: Annotated[Sequence[ReportGap], "What could not be read, the most frequent first."]
