"""The data behind the API: the watched host, and its past or a recording."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import UsageError
from ...scene import Scene
from ...view.heat import HeatListView, heat_list_view
from ...view.histories import HistoryView, MetricTableView, find_measurand, history_view
from ...view.subjects import FollowedVm, follow
from ...view.timeline import TimelineView
from ...view.values import Moment
from ...view.watch import HostView
from .archive import SceneArchive
from .history import MetricHistory
from .monitor import HostMonitor


class ApiHost:
    """``monitor`` and ``history``: those of the live host; None if only a recording is served.

    ``recording``: the place of the recording; None without one.
    """

    def __init__(
        self,
        archive: SceneArchive,
        *,
        monitor: HostMonitor | None = None,
        history: MetricHistory | None = None,
        recording: str | None = None,
    ) -> None:
        self.archive = archive
        self.monitor = monitor
        self._history = history
        self._recording = recording

    def view(self, query: Mapping[str, str]) -> HostView:
        """The last interval, or the one at the requested time. Raises SourceError, UsageError, RecordingError."""
        if self.monitor is None or "at" in query or "host" in query:
            return self.archive.view_at(query.get("host"), query.get("at"))
        return self.monitor.last_view

    def scene_now(self, query: Mapping[str, str]) -> Scene:
        """A new read for this request, or the scene at the requested time."""
        if self.monitor is None or "at" in query or "host" in query:
            return self.view(query).scene
        return self.monitor.read().scene

    def subject(self, query: Mapping[str, str]) -> FollowedVm | None:
        """The requested VM or vCPU, looked up at the end of the requested time. Raises UsageError."""
        return follow(self.view(_at_end(query)).scene, query["vm"]) if "vm" in query else None

    def history(self, query: Mapping[str, str]) -> HistoryView:
        """A metric or stat over time. Raises SourceError, UsageError, RecordingError."""
        if ("metric" in query) is ("stat" in query):
            raise UsageError("a history needs one metric or one stat: give one of these parameters")
        subject = self.subject(query)
        is_of_vcpu = subject is not None and subject.vcpu is not None
        metric, vm = query.get("metric"), None if subject is None else subject.id
        if metric is not None and metric in MetricHistory().metrics and not is_of_vcpu:
            return self._metrics(query).of(metric, vm)
        measure = find_measurand(
            self.view(_at_end(query)).scene,
            subject,
            metric=metric,
            stat=query.get("stat"),
            provider=query.get("provider"),
        )
        with self.archive.scenes(*_span(query)) as scenes:
            return history_view(scenes, measure, subject)

    def metric_table(self, query: Mapping[str, str]) -> MetricTableView:
        """The metrics that ``status`` shows over time. Raises SourceError, UsageError, RecordingError."""
        subject = self.subject(query)
        if subject is not None and subject.vcpu is not None:
            raise UsageError("this is available for a VM; for a vCPU, ask for the history of one metric at a time")
        return self._metrics(query).table(None if subject is None else subject.id)

    def heat(self, query: Mapping[str, str]) -> HeatListView:
        """Histograms over time. Raises SourceError, UsageError, RecordingError."""
        subject = self.subject(query)
        with self.archive.scenes(*_span(query)) as scenes:
            return heat_list_view(scenes, subject, query.get("stat"), query.get("provider"))

    def timeline(self) -> TimelineView:
        """The times that can be viewed. Raises RecordingError."""
        live = self._live_host
        start_ns = self.archive.start_ns
        return TimelineView(
            live=self.monitor is not None,
            recording=self._recording,
            start=None if start_ns is None else Moment(start_ns),
            hosts=[host.timeline(is_live=host.id == live) for host in self.archive.hosts()],
            damage=[str(error) for error in self.archive.damage],
        )

    @property
    def _live_host(self) -> str | None:
        if self.monitor is None or self.monitor.last is None:
            return None
        origin = self.monitor.last_view.scene.sample.origin
        return origin.host if origin else ""

    def _metrics(self, query: Mapping[str, str]) -> MetricHistory:
        if self._history is not None and not {"since", "until", "host", "at"} & set(query):
            return self._history
        return self.archive.metric_history(*_span(query))


def _at_end(query: Mapping[str, str]) -> Mapping[str, str]:
    return {**query, "at": query["until"]} if "until" in query else query


def _span(query: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    return query.get("host"), query.get("since"), query.get("until")
