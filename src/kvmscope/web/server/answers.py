"""What ``/api/v1`` answers: a table of paths, each with the view that its JSON is of and its parameters.

What needs an interval is of the last one that was watched; raw values are read for the request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from ...catalog.findings import load_findings
from ...errors import UsageError
from ...sample import VmId
from ...scene import Scene
from ...view.apicv import ApicvView, apicv_view
from ...view.doctor import DoctorReport
from ...view.histogram import HistogramListView, HistogramView, histogram_list_view, histogram_view
from ...view.listing import VmListView, vm_list_view
from ...view.overview import Overview, of_one_vm
from ...view.reading import ReadingView, reading_view, stat_query
from ...view.rules import RuleList, rule_list
from ...view.subjects import find_subject, follow
from ...view.summary import HostSummary, MetricTitles, host_summary, metric_titles
from ...view.values import Answer
from ...view.watch import HostView
from .history import MetricHistory, MetricHistoryView
from .monitor import HostMonitor

PREFIX: Final = "/api/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemView(Answer):
    """Why a request was not answered."""

    error: Annotated[str, "The kind of error; a heading of docs/messages.md."]
    message: Annotated[str, "What is wrong."]


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """A parameter of a request."""

    name: str
    text: str
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """One path: what it gives, and the view that its JSON is of."""

    path: str
    text: str
    view: Any
    answer: Callable[[ApiHost, Mapping[str, str]], object]
    parameters: tuple[QueryParameter, ...] = field(default=())


class ApiHost:
    """What answers are made of."""

    def __init__(self, monitor: HostMonitor, history: MetricHistory) -> None:
        self.monitor = monitor
        self.history = history

    @property
    def view(self) -> HostView:
        """The last interval. Raises SourceError if there is none yet."""
        return self.monitor.last_view

    @property
    def scene(self) -> Scene:
        return self.view.scene

    def vm(self, text: str) -> VmId:
        return follow(self.scene, text).id


_VM: Final = QueryParameter("vm", "A VM, or VM/VCPU, by name, id, UUID or pid.")
_NEEDS_VM: Final = QueryParameter("vm", _VM.text, is_required=True)
_PROVIDER: Final = QueryParameter("provider", "The provider of the stat, where several have one of this name.")


def _overview(host: ApiHost, query: Mapping[str, str]) -> Overview:
    overview = host.view.overview
    return of_one_vm(overview, host.vm(query["vm"])) if "vm" in query else overview


def _apicv(host: ApiHost, query: Mapping[str, str]) -> ApicvView:
    subject = find_subject(host.scene, query["vm"]) if "vm" in query else None
    return apicv_view(host.scene, host.view.window, subject=subject, with_what_if=query.get("what_if") == "true")


def _doctor(host: ApiHost, query: Mapping[str, str]) -> DoctorReport:
    vm = follow(host.scene, query["vm"]) if "vm" in query else None
    return host.view.report(vm, rule=query.get("rule"))


def _read(host: ApiHost, query: Mapping[str, str]) -> ReadingView:
    scene = host.monitor.read().scene
    stats = [query["stat"]] if "stat" in query else []
    return reading_view(scene, stat_query(scene, query.get("vm"), stats, query.get("provider")))


def _hist(host: ApiHost, query: Mapping[str, str]) -> HistogramView | HistogramListView:
    subject = find_subject(host.scene, query["vm"])
    if "stat" not in query:
        return histogram_list_view(host.scene, subject, query.get("provider"))
    window = host.view.window if query.get("interval") == "last" else None
    return histogram_view(host.scene, subject, query["stat"], query.get("provider"), window=window)


def _history(host: ApiHost, query: Mapping[str, str]) -> MetricHistoryView:
    metric = query["metric"]
    if metric not in host.history.metrics:
        raise UsageError(f"no history is kept of {metric!r}; there are {', '.join(host.history.metrics)}")
    return host.history.of(metric, host.vm(query["vm"]) if "vm" in query else None)


ANSWERS: Final = (
    ApiAnswer("/summary", "The host as the page shows it.", HostSummary, lambda host, _: host_summary(host.view)),
    ApiAnswer("/status", "The host, or one VM, with every metric.", Overview, _overview, (_VM,)),
    ApiAnswer(
        "/apicv",
        "Whether interrupts are accelerated, and why not.",
        ApicvView,
        _apicv,
        (_VM, QueryParameter("what_if", "true: also what would be with APICv or AVIC on.")),
    ),
    ApiAnswer(
        "/doctor",
        "What is wrong, with evidence and remedies.",
        DoctorReport,
        _doctor,
        (_VM, QueryParameter("rule", "Only this rule.")),
    ),
    ApiAnswer("/rules", "The rules of doctor.", RuleList, lambda _host, _query: rule_list(load_findings())),
    ApiAnswer("/vms", "The VMs.", VmListView, lambda host, _: vm_list_view(host.scene)),
    ApiAnswer(
        "/read",
        "Raw values, read for this request.",
        ReadingView,
        _read,
        (_VM, QueryParameter("stat", "A stat, or a pattern such as pf_*."), _PROVIDER),
    ),
    ApiAnswer(
        "/hist",
        "A histogram of a VM or vCPU; without stat, those that there are.",
        HistogramView | HistogramListView,
        _hist,
        (
            _NEEDS_VM,
            QueryParameter("stat", "The histogram."),
            _PROVIDER,
            QueryParameter("interval", "last: what was added in the last interval; else all since creation."),
        ),
    ),
    ApiAnswer(
        "/history",
        "A metric over the last hour.",
        MetricHistoryView,
        _history,
        (QueryParameter("metric", "The metric.", is_required=True), _VM),
    ),
    ApiAnswer("/metrics", "The metrics that are kept and shown.", MetricTitles, lambda _host, _query: metric_titles()),
)
"""Every path that answers with JSON."""
