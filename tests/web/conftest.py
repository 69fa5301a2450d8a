"""A server over samples made by hand or over a recording, on a port of loopback."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from crafted import Crafted, ListSource

from kvmscope.collect import Host
from kvmscope.export.exposition import ExportOptions
from kvmscope.sample import Sample
from kvmscope.store.recording import open_series
from kvmscope.web.server.api_host import ApiHost
from kvmscope.web.server.app import make_app
from kvmscope.web.server.archive import SceneArchive
from kvmscope.web.server.connections import ConnectionBounds
from kvmscope.web.server.intervals import IntervalLog
from kvmscope.web.server.listen import ListenAddress, open_sockets
from kvmscope.web.server.monitor import HostMonitor
from kvmscope.web.server.server import HttpServer


@dataclass(frozen=True)
class HttpAnswer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(frozen=True)
class ServedHost:
    """``source``: what the host is read by; of a recording neither this nor ``monitor``."""

    port: int
    monitor: Any
    source: Any

    def get(self, path: str, method: str = "GET", **headers: str) -> HttpAnswer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
            response = connection.getresponse()
            return HttpAnswer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()


Serve = Callable[..., ServedHost]


@pytest.fixture
def serve(crafted: Crafted) -> Iterator[Serve]:
    """Serves a host that yields these samples, the last of them again and again."""
    with ExitStack() as ends:

        def start(
            samples: Sequence[Sample] = (crafted.before, crafted.after),
            *,
            source: Any = None,
            options: ExportOptions | None = None,
            interval_s: float = 3600.0,
            bounds: ConnectionBounds | None = None,
        ) -> ServedHost:
            source = source or ListSource(samples)
            log = IntervalLog()
            host = Host(source, {}, machine=crafted.machine)
            monitor = HostMonitor(host, interval_s=interval_s, on_view=log.add)
            (socket,) = sockets = open_sockets([ListenAddress("127.0.0.1", 0)])
            archive = SceneArchive(log.memory, 1.0)
            api = ApiHost(archive, monitor=monitor, history=log.history)
            app = make_app(api, options or ExportOptions(), hub=log.hub)
            server = HttpServer(app, sockets, bounds=bounds)
            monitor.start()
            ends.callback(monitor.close)
            server.start()
            ends.callback(server.close)
            return ServedHost(socket.getsockname()[1], monitor, source)

        yield start


@pytest.fixture
def serve_recording() -> Iterator[Callable[[str], ServedHost]]:
    """Serves a recording alone."""
    with ExitStack() as ends:

        def start(place: str) -> ServedHost:
            (socket,) = sockets = open_sockets([ListenAddress("127.0.0.1", 0)])
            api = ApiHost(SceneArchive(open_series(place), 1.0), recording=place)
            server = HttpServer(make_app(api, ExportOptions()), sockets)
            server.start()
            ends.callback(server.close)
            return ServedHost(socket.getsockname()[1], None, None)

        yield start
