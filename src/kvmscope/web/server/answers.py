"""The answers of ``/api/v1``: a table of paths, each with its parameters and the view that its JSON contains.

An answer that needs an interval uses the last watched one, or the one at the requested time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from ...catalog.findings import load_findings
from ...store.times import TIME_FORMS
from ...view.apicv import ApicvView, apicv_view
from ...view.doctor import DoctorReport
from ...view.explain import ExplainContext, ExplanationView, HostWindow, explanation_view
from ...view.heat import HeatListView
from ...view.histogram import HistogramListView, HistogramView, histogram_list_view, histogram_view
from ...view.histories import HistoryView, MeasurandListView, MetricTableView, measurand_list_view
from ...view.listing import VmListView, vm_list_view
from ...view.overview import Overview, of_one_vm
from ...view.reading import ReadingView, reading_view, stat_query
from ...view.rules import RuleList, rule_list
from ...view.subjects import find_subject
from ...view.summary import HostSummary, MetricTitles, host_summary, metric_titles
from ...view.timeline import TimelineView
from ...view.values import Answer
from .api_host import ApiHost

PREFIX: Final = "/api/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemView(Answer):
    """Why a request was not answered."""

    error: Annotated[str, "The kind of error; a heading of docs/reference/messages.md."]
    message: Annotated[str, "What is wrong."]


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """A parameter of a request."""

    name: str
    text: str
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """One path: its function, and the view that its JSON contains."""

    path: str
    text: str
    view: Any
    answer: Callable[[ApiHost, Mapping[str, str]], object]
    parameters: tuple[QueryParameter, ...] = field(default=())


_VM: Final = QueryParameter("vm", "A VM, or VM/VCPU, by name, id, UUID or pid.")
_NEEDS_VM: Final = QueryParameter("vm", _VM.text, is_required=True)
_STAT: Final = QueryParameter("stat", "The histogram.")
_PROVIDER: Final = QueryParameter("provider", "The provider of the stat, where several have one of this name.")
_HOST: Final = QueryParameter("host", "The host, by its name or opaque id, of those in /timeline; else the newest.")
_AT: Final = QueryParameter("at", f"The state at this time, instead of now: {TIME_FORMS}.")
_THEN: Final = (_AT, _HOST)
_SPAN: Final = (
    QueryParameter("since", f"From this time on: {TIME_FORMS}. Else an hour before the end."),
    QueryParameter("until", "To this time; else now, or the time at which a recording is shown at first."),
    _HOST,
)

Query = Mapping[str, str]


def _summary(host: ApiHost, query: Query) -> HostSummary:
    return host_summary(host.view(query))


def _overview(host: ApiHost, query: Query) -> Overview:
    overview, subject = host.view(query).overview, host.subject(query)
    return overview if subject is None else of_one_vm(overview, subject.id)


def _apicv(host: ApiHost, query: Query) -> ApicvView:
    view = host.view(query)
    subject = find_subject(view.scene, query["vm"]) if "vm" in query else None
    return apicv_view(view.scene, view.window, subject=subject, with_what_if=query.get("what_if") == "true")


def _doctor(host: ApiHost, query: Query) -> DoctorReport:
    return host.view(query).report(host.subject(query), rule=query.get("rule"))


def _vms(host: ApiHost, query: Query) -> VmListView:
    return vm_list_view(host.view(query).scene)


def _read(host: ApiHost, query: Query) -> ReadingView:
    scene = host.scene_now(query)
    stats = [query["stat"]] if "stat" in query else []
    return reading_view(scene, stat_query(scene, query.get("vm"), stats, query.get("provider")))


def _hist(host: ApiHost, query: Query) -> HistogramView | HistogramListView:
    view = host.view(query)
    subject = find_subject(view.scene, query["vm"])
    if "stat" not in query:
        return histogram_list_view(view.scene, subject, query.get("provider"))
    window = view.window if query.get("interval") == "last" else None
    return histogram_view(view.scene, subject, query["stat"], query.get("provider"), window=window)


def _stats(host: ApiHost, query: Query) -> MeasurandListView:
    subject = host.subject(query)
    assert subject is not None  # the parameter is required
    return measurand_list_view(host.view(query), subject)


def _explain(host: ApiHost, query: Query) -> ExplanationView:
    view = host.view(query)
    return explanation_view(ExplainContext(view.scene.machine, HostWindow(view.scene, view.window)), query["name"])


ANSWERS: Final = (
    ApiAnswer("/summary", "The host as the page shows it.", HostSummary, _summary, _THEN),
    ApiAnswer("/status", "The host, or one VM, with every metric.", Overview, _overview, (_VM, *_THEN)),
    ApiAnswer(
        "/apicv",
        "Whether interrupts are accelerated, and why not.",
        ApicvView,
        _apicv,
        (_VM, QueryParameter("what_if", "true: also predict the state with APICv or AVIC on."), *_THEN),
    ),
    ApiAnswer(
        "/doctor",
        "What is wrong, with evidence and remedies.",
        DoctorReport,
        _doctor,
        (_VM, QueryParameter("rule", "Only this rule."), *_THEN),
    ),
    ApiAnswer("/rules", "The rules of doctor.", RuleList, lambda _host, _query: rule_list(load_findings())),
    ApiAnswer("/vms", "The VMs.", VmListView, _vms, _THEN),
    ApiAnswer(
        "/read",
        "Raw values, read for this request.",
        ReadingView,
        _read,
        (_VM, QueryParameter("stat", "A stat, or a pattern such as pf_*."), _PROVIDER, *_THEN),
    ),
    ApiAnswer(
        "/hist",
        "A histogram of a VM or vCPU; without stat, those that there are.",
        HistogramView | HistogramListView,
        _hist,
        (
            _NEEDS_VM,
            _STAT,
            _PROVIDER,
            QueryParameter(
                "interval", "last: only what was added in the last interval; by default all since creation."
            ),
            *_THEN,
        ),
    ),
    ApiAnswer(
        "/stats",
        "Every metric and statistic of a VM or vCPU, with its values in the interval.",
        MeasurandListView,
        _stats,
        (_NEEDS_VM, *_THEN),
    ),
    ApiAnswer(
        "/explain",
        "What a statistic, metric, rule, reason, caveat or group means on this host.",
        ExplanationView,
        _explain,
        (QueryParameter("name", "Its name; PROVIDER.NAME for a statistic of one provider.", is_required=True), *_THEN),
    ),
    ApiAnswer(
        "/history",
        "A metric or a statistic over time, by default the last hour.",
        HistoryView,
        lambda host, query: host.history(query),
        (
            QueryParameter("metric", "The metric."),
            QueryParameter("stat", "The statistic; either this or metric is needed."),
            _PROVIDER,
            _VM,
            *_SPAN,
        ),
    ),
    ApiAnswer(
        "/histories",
        "All metrics that are kept, of the host or of a VM, over time.",
        MetricTableView,
        lambda host, query: host.metric_table(query),
        (_VM, *_SPAN),
    ),
    ApiAnswer(
        "/heat",
        "Histograms over time, by default the last hour: values by interval and bucket.",
        HeatListView,
        lambda host, query: host.heat(query),
        (_VM, _STAT, _PROVIDER, *_SPAN),
    ),
    ApiAnswer(
        "/timeline",
        "The times for which there is data, by host.",
        TimelineView,
        lambda host, _query: host.timeline(),
    ),
    ApiAnswer("/metrics", "The metrics that are kept and shown.", MetricTitles, lambda _host, _query: metric_titles()),
)
"""Every path that answers with JSON."""
