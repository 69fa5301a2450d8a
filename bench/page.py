"""The page of ``serve`` in headless Chromium over loopback, with a simulated host of 12 VMs and an hour of history.

First contentful paint is what the browser reports, from the request on: the fastest and the median of some openings,
each in a profile of its own. Charts: the time until the lines of all metrics are drawn. Bytes are those that went over
the wire, without the answers of the API.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from browser import SimulatedSource, chromium
from loads import Load, simulated_scenes
from playwright.sync_api import Browser

from bench.result import Row
from kvmscope.collect import Host
from kvmscope.export.exposition import ExportOptions
from kvmscope.view.watch import Watch
from kvmscope.web.server.api_host import ApiHost
from kvmscope.web.server.app import make_app
from kvmscope.web.server.archive import SceneArchive
from kvmscope.web.server.intervals import IntervalLog
from kvmscope.web.server.listen import ListenAddress, open_sockets
from kvmscope.web.server.monitor import HostMonitor
from kvmscope.web.server.server import HttpServer

_INTERVALS: Final = 720
_STEP_S: Final = 5.0
_OPENINGS: Final = 7
_LOAD: Final = Load(vms=12)
_DRAWN: Final = "document.querySelectorAll('#charts canvas').length"


def bench() -> Sequence[Row]:
    with _served() as address, chromium() as browser:
        found = [_open(browser, address) for _ in range(_OPENINGS)]
    paints, charts, sizes = zip(*found, strict=True)
    return [
        _at_most("first contentful paint with an hour of charts", paints, 500),
        Row("until the charts are drawn", f"{min(charts):.0f} ms, median {median(charts):.0f} ms"),
        Row("what is loaded before data", f"{sizes[0] / 1000:.1f} kB", "≤ 100 kB", sizes[0] <= 100_000),
    ]


@contextmanager
def _served() -> Iterator[str]:
    log = IntervalLog()
    _fill(log)
    host = Host(SimulatedSource(_LOAD), {}, machine=_LOAD.machine)
    monitor = HostMonitor(host, interval_s=_STEP_S, on_view=log.add)
    (socket,) = sockets = open_sockets([ListenAddress("127.0.0.1", 0)])
    api = ApiHost(SceneArchive(log.memory, _STEP_S), monitor=monitor, history=log.history)
    server = HttpServer(make_app(api, ExportOptions(), hub=log.hub), sockets)
    monitor.start()
    server.start()
    try:
        while monitor.last is None:
            time.sleep(0.1)
        yield f"http://127.0.0.1:{socket.getsockname()[1]}/"
    finally:
        server.close()
        monitor.close()


def _fill(log: IntervalLog) -> None:
    """An hour of intervals that end now."""
    watch, begin_ns = Watch(), time.time_ns() - round(_INTERVALS * _STEP_S * 1e9)
    for number, scene in enumerate(simulated_scenes(_INTERVALS + 1, step_s=_STEP_S, load=_LOAD)):
        taken_ns = begin_ns + round(number * _STEP_S * 1e9)
        view = watch.add(replace(scene, sample=replace(scene.sample, taken_ns=taken_ns)))
        if view is not None:
            log.add(view)


def _open(browser: Browser, address: str) -> tuple[float, float, int]:
    """Milliseconds to the first contentful paint and to the last chart, and bytes."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(address)
    while page.evaluate(_DRAWN) < page.evaluate("document.querySelectorAll('#charts section').length"):
        time.sleep(0.01)
    drawn: float = page.evaluate("performance.now()")
    paint: float = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    entries: Any = page.evaluate(
        "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
        ".map((each) => [each.name, each.transferSize])"
    )
    context.close()
    return paint, drawn, sum(size for name, size in entries if "/api/" not in name)


def _at_most(what: str, ms: Sequence[float], limit_ms: float) -> Row:
    text = f"{min(ms):.0f} ms, median {median(ms):.0f} ms"
    return Row(what, text, f"≤ {limit_ms:g} ms", min(ms) <= limit_ms)
