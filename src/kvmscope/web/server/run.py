"""The whole server: its sockets, the watched host, the kept data, and access control.

The order matters: sockets and the host are opened with the privileges of the start, then all privileges are dropped,
and only then threads start and requests are answered.
"""

from __future__ import annotations

import codecs
import importlib
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from ...catalog.caveats import load_caveats
from ...catalog.findings import load_findings
from ...catalog.groups import load_groups
from ...catalog.inhibits import load_inhibits
from ...catalog.metrics import load_metrics
from ...catalog.stats import load_stats
from ...collect.host import SceneHost
from ...errors import UsageError
from ...export.exposition import ExportOptions
from ...export.otlp import load_what_writing_needs
from ...linux.namespaces import why_processes_are_hidden
from ...store.places import PlaceChoice, open_place
from ...store.replay import SceneSeries, TimeChoice, within
from ...view.summary import host_summary
from ...view.watch import HostView, Watch
from ..page.assets import load_assets
from ..page.render import render_page
from .api_host import ApiHost
from .app import make_app
from .archive import MergedSeries, SceneArchive
from .connections import ConnectionBounds
from .intervals import IntervalLog
from .listen import ListenAddress, VsockAddress, open_sockets, socket_url, systemd_sockets
from .monitor import HostMonitor
from .openapi import openapi
from .otlp_push import OtlpPusher
from .privileges import NEEDED, drop_privileges
from .server import HttpServer
from .tls import RotatingContext
from .web_config import WatchedConfig, WebConfig

_MODULES: Final = ("anyio._backends._asyncio", "uvicorn.lifespan.off", "uvicorn.loops.auto", "uvicorn.loops.asyncio")
"""Modules that anyio and uvicorn import when they serve the first request."""

_LOADERS: Final[tuple[Callable[[], object], ...]] = (
    load_assets,
    openapi,
    load_caveats,
    load_findings,
    load_groups,
    load_inhibits,
    load_metrics,
    load_stats,
    partial(codecs.lookup, "ascii"),
    partial(codecs.lookup, "idna"),
    *(partial(importlib.import_module, name) for name in _MODULES),
)
"""Functions that read files of the package or of Python on their first call. Python loads a codec when a file is first
opened with it, and files of VMMs are opened after privileges were dropped."""


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """The data to serve, the addresses, and the allowed clients. ``addresses``: unused with ``from_systemd``.
    ``user``: None for the default.

    ``otlp``: URL of a collector that metrics are pushed to. ``allowed_hosts``: further names of this server.
    """

    addresses: tuple[ListenAddress | VsockAddress, ...]
    interval_s: float
    options: ExportOptions
    config_file: Path | None = None
    from_systemd: bool = False
    is_insecure: bool = False
    user: str | None = None
    otlp: str | None = None
    allowed_hosts: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether clients on other hosts may be served without authentication."""
        return self.is_insecure or self.from_systemd


@dataclass(frozen=True, slots=True)
class ServedRecording:
    """A recording to serve, limited to these times."""

    place: str
    series: SceneSeries
    times: TimeChoice


def whole_recording(place: str) -> ServedRecording:
    """All of a recording. Raises UsageError, RecordingError, Unavailable without pyarrow."""
    return ServedRecording(place, open_place(place), TimeChoice())


def recording_to_serve(choice: PlaceChoice, source: str) -> ServedRecording:
    """A recording at the requested times. Raises as ``whole_recording``, and UsageError if there is no such time."""
    series, moments, times = choice.open(source)
    if not moments:
        raise UsageError("the recording has no scenes")
    within(moments, times)
    return ServedRecording(choice.place, series, times)


class MonitorServer:
    """A server from ``open`` to ``close``. ``notes``: messages for the person who starts it."""

    def __init__(
        self, plan: ServerPlan, on_error: Callable[[UsageError], None], *, recording: ServedRecording | None = None
    ) -> None:
        """Raises UsageError for a plan that is invalid, or that serves other hosts without authentication."""
        self._plan = plan
        self._tls: RotatingContext | None = None
        self._has_started = False
        self._config: WatchedConfig | None = None
        if plan.config_file is not None:
            self._config = WatchedConfig(plan.config_file, on_error=on_error, check=self._check)
        if self._current.tls is not None:
            self._tls = RotatingContext.of(lambda: self._current.tls)
        self._has_started = True
        self._check(self._current)
        self._recording = recording
        self._log = IntervalLog()
        self._monitor: HostMonitor | None = None
        self._server: HttpServer | None = None
        self._pusher: OtlpPusher | None = None
        self._sockets: list[socket.socket] = []
        self.notes: list[str] = []

    @property
    def monitor(self) -> HostMonitor | None:
        """The monitor of the host; None before ``open`` and for a recording alone."""
        return self._monitor

    @property
    def done(self) -> threading.Event:
        """Set when the server has ended."""
        assert self._server is not None
        return self._server.done

    def open(self, open_host: Callable[[], SceneHost] | None) -> None:
        """Open sockets and host, drop all privileges, and serve. ``open_host``: None to serve the recording alone.

        Raises SourceError, UsageError, RecordingError.
        """
        self._sockets = systemd_sockets() if self._plan.from_systemd else open_sockets(self._plan.addresses)
        if self._plan.from_systemd and self._plan.addresses:
            self.notes.append("--web.systemd-socket is given, so the addresses of --web.listen-address are not used")
        host = None if open_host is None else open_host()
        if host is not None:
            self._monitor = HostMonitor(host, interval_s=self._plan.interval_s, on_view=self._log.add)
        self._load_everything(host)
        self._drop_rights(host)
        archive = self._open_archive()
        app = make_app(
            ApiHost(
                archive,
                monitor=self._monitor,
                history=None if self._monitor is None else self._log.history,
                recording=None if self._recording is None else self._recording.place,
            ),
            self._plan.options,
            hub=None if self._monitor is None else self._log.hub,
            config=None if self._config is None else lambda: self._current,
            is_local=not self._plan.is_open,
            allowed_hosts=self._plan.allowed_hosts,
        )
        bounds = ConnectionBounds(allowed_names=self._allowed_names)
        self._server = HttpServer(app, self._sockets, tls=self._tls, bounds=bounds)
        if self._monitor is not None:
            self._monitor.start()
        self._server.start()
        if self._plan.otlp is not None and self._monitor is not None:
            self._pusher = OtlpPusher(self._monitor, self._plan.options, self._plan.otlp)
            self._pusher.start()
        scheme = "http" if self._tls is None else "https"
        self.notes += [f"serving at {socket_url(scheme, each)}" for each in self._sockets]

    def _load_everything(self, host: SceneHost | None) -> None:
        """Load all that requests and intervals need, as the next user may be unable to read Python's library."""
        for load in _LOADERS:
            load()
        if self._plan.otlp is not None:
            load_what_writing_needs()
        self._read_recording()
        with suppress(UsageError):  # no interval has passed yet
            view = self._recorded_view() if host is None else _first_view(host)
            render_page(None if view is None else host_summary(view))

    def _recorded_view(self) -> HostView | None:
        kept = self._recording
        if kept is None:
            return None
        return SceneArchive(kept.series, self._plan.interval_s, kept.times).view_at(None, None)

    def _drop_rights(self, host: SceneHost | None) -> None:
        source = "recording" if host is None else host.source
        if source not in NEEDED:
            self.notes.append(f"it is not known which rights source {source} needs for every read, so none are dropped")
            return
        user = drop_privileges(self._plan.user, keep=NEEDED[source])
        names = " and ".join(sorted(f"CAP_{capability.name}" for capability in NEEDED[source]))
        if user is not None and names:
            self.notes.append(f"running as user {user}, with {names} alone: source {source} needs them for every read")
        elif user is not None:
            self.notes.append(f"running as user {user} without capabilities")
        hidden = why_processes_are_hidden()
        if host is not None and hidden is not None:
            self.notes.append(f"VMs of other users have process ids instead of names: {hidden[0]}")

    def _open_archive(self) -> SceneArchive:
        """The archive, after a check that this user can read it. Raises RecordingError."""
        kept = self._recording
        if kept is None:
            return SceneArchive(self._log.memory, self._plan.interval_s)
        self._read_recording()
        if self._monitor is None:
            return SceneArchive(kept.series, self._plan.interval_s, kept.times)
        return SceneArchive(MergedSeries(self._log.memory, kept.series), self._plan.interval_s)

    def _read_recording(self) -> None:
        """Read the last scene of the recording, if there is one. Raises RecordingError."""
        if self._recording is not None:
            moments = self._recording.series.moments()
            if moments:
                self._recording.series.scene(moments[-1])

    def close(self) -> None:
        if self._pusher is not None:
            self._pusher.close()
        if self._server is not None:
            self._server.close()
        for each in self._sockets:
            each.close()
        if self._monitor is not None:
            self._monitor.close()

    def _check(self, config: WebConfig) -> None:
        """Raises UsageError for a web configuration that admits anybody, or that a running server cannot adopt."""
        if self._has_started and (config.tls is None) != (self._tls is None):
            raise UsageError("TLS can be turned on or off only when the server starts: restart it")
        _refuse_open_doors(self._plan, config)

    @property
    def _current(self) -> WebConfig:
        return WebConfig() if self._config is None else self._config.current

    def _allowed_names(self) -> frozenset[str]:
        tls = self._current.tls
        return frozenset() if tls is None else tls.client_allowed_sans


def _first_view(host: SceneHost) -> HostView | None:
    """The view of the time between two reads. Raises UsageError if no time has passed."""
    watch = Watch()
    watch.add(host.look())
    return watch.add(host.look())


def _refuse_open_doors(plan: ServerPlan, config: WebConfig) -> None:
    """Raises UsageError if clients of other hosts need neither a password nor a certificate."""
    if plan.is_open or config.knows_clients:
        return
    for address in plan.addresses:
        if not address.is_loopback:
            raise UsageError(
                f"other hosts can reach {address}: use --web.config.file with basic_auth_users or client certificates, "
                "--web.systemd-socket, or --insecure"
            )
