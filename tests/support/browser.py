"""A real Chromium, driven by playwright, and a simulated host that is served to it.

A tab fails its test if the page logs an error, breaks its content security policy, or asks for anything that is not
from its server.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any, Final

import pytest
from loads import Load
from playwright.sync_api import Browser, Page, Response, ViewportSize, sync_playwright

from kvmscope.collect import Host
from kvmscope.export.exposition import ExportOptions
from kvmscope.lab.simulate_plan import plan
from kvmscope.lab.simulated_kvm import SimulatedKvm
from kvmscope.sample import Sample
from kvmscope.schema import Schema, Scope
from kvmscope.store.recording import open_series
from kvmscope.store.replay import TimeChoice
from kvmscope.web.server.api_host import ApiHost
from kvmscope.web.server.app import make_app
from kvmscope.web.server.archive import SceneArchive
from kvmscope.web.server.listen import ListenAddress, open_sockets
from kvmscope.web.server.run import MonitorServer, ServedRecording, ServerPlan
from kvmscope.web.server.server import HttpServer

PHONE: Final[ViewportSize] = {"width": 390, "height": 844}
DESKTOP: Final[ViewportSize] = {"width": 1280, "height": 900}
DEADLINE_MS: Final = 30_000
_SWITCHES: Final = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
_WATCH_POLICY: Final = """
window.policyViolations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  policyViolations.push(event.violatedDirective + " " + event.blockedURI));
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; skips the test where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("Chromium is not installed: Debian's package chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_SWITCHES))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Tab:
    """A page that is open, and what it did that it must not do. ``is_lost``: the server may be away."""

    page: Page
    base: str
    faults: list[str] = field(default_factory=list)
    is_lost: bool = False

    def open(self, place: str = "") -> None:
        """Open a place of the page, once its script has shown it."""
        self.page.goto(self.base + place)
        self.page.wait_for_selector("body[data-ready]")

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def wait(self, expression: str) -> None:
        """Until it is true. playwright's own way to wait for it breaks the policy of the page."""
        deadline = time.monotonic() + DEADLINE_MS / 1000
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, expression
            time.sleep(0.02)

    def faults_of_accessibility(self) -> list[str]:
        """What axe finds that is serious or critical: rule, elements and what is wrong."""
        self.page.evaluate(_axe())
        found: Any = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{each['id']}: {node['html'][:120]}: {node['failureSummary']}"
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]

    def check(self) -> None:
        """Fail for what must not have happened."""
        assert self.page.evaluate("window.policyViolations") == []
        assert self.faults == []


@contextmanager
def tab(browser: Browser, base: str, viewport: ViewportSize = DESKTOP, scheme: Any = "light") -> Iterator[Tab]:
    """A tab of its own; checked at the end."""
    context = browser.new_context(viewport=viewport, color_scheme=scheme)
    context.add_init_script(_WATCH_POLICY)
    page = context.new_page()
    page.set_default_timeout(DEADLINE_MS)
    found = Tab(page, base)
    page.on("pageerror", lambda error: found.faults.append(f"error: {error}"))
    page.on("console", lambda message: _note_message(found, message.type, message.text))
    page.on("request", lambda request: _note_address(found, request.url))
    page.on("response", lambda response: _note_answer(found, response))
    try:
        yield found
        found.check()
    finally:
        context.close()


def _note_message(found: Tab, kind: str, text: str) -> None:
    if kind in ("error", "warning") and not (found.is_lost and "Failed to load" in text):
        found.faults.append(f"{kind} on the console: {text}")


def _note_address(found: Tab, address: str) -> None:
    if not address.startswith(found.base):
        found.faults.append(f"a request elsewhere: {address}")


def _note_answer(found: Tab, response: Response) -> None:
    if response.status >= 400:
        found.faults.append(f"status {response.status}: {response.url}")


@cache
def _axe() -> str:
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


class SimulatedSource:
    """A simulated host, read at the time that it is. ``answers``: reads wait while it is not set."""

    name = "test"

    def __init__(self, load: Load) -> None:
        self._load = load
        self._host = SimulatedKvm(plan(vms=load.vms, vcpus=load.vcpus, seed=0), 0)
        self._began_s = time.monotonic() - 1000.0
        self.answers = threading.Event()
        self.answers.set()

    @property
    def schemas(self) -> tuple[Schema, ...]:
        return tuple(block.schema for block in self.read().blocks)

    def read(self) -> Sample:
        self.answers.wait()
        at_s = time.monotonic() - self._began_s
        sample = self._load.scene(at_s, {scope: self._host.words(scope, at_s) for scope in Scope}).sample
        return replace(sample, taken_ns=time.time_ns(), monotonic_ns=time.monotonic_ns())

    def close(self) -> None:
        self.answers.set()


@contextmanager
def simulated_server(
    load: Load | None = None, *, port: int = 0, interval_s: float = 0.5, recording: str | None = None
) -> Iterator[str]:
    """The address of a server of a simulated host, and of a recording beside it."""
    source = SimulatedSource(load or Load(vms=6))
    host = Host(source, {}, machine=(load or Load()).machine)
    kept = None if recording is None else ServedRecording(recording, open_series(recording), TimeChoice())
    server = MonitorServer(_plan(port, interval_s), on_error=_refuse, recording=kept)
    try:
        server.open(lambda: host)
        _wait_for_interval(server)
        yield _address(server)
    finally:
        server.close()


@contextmanager
def recording_server(place: str, times: TimeChoice | None = None) -> Iterator[str]:
    """The address of a server of a recording alone."""
    (socket,) = sockets = open_sockets([ListenAddress("127.0.0.1", 0)])
    api = ApiHost(SceneArchive(open_series(place), 1.0, times), recording=place)
    server = HttpServer(make_app(api, ExportOptions()), sockets)
    server.start()
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}/"
    finally:
        server.close()


def _wait_for_interval(server: MonitorServer) -> None:
    """Until there are numbers to show."""
    assert server.monitor is not None
    deadline = time.monotonic() + DEADLINE_MS / 1000
    while server.monitor.last is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _plan(port: int, interval_s: float) -> ServerPlan:
    return ServerPlan((ListenAddress("127.0.0.1", port),), interval_s, ExportOptions())


def _address(server: MonitorServer) -> str:
    found = re.search(r"http://\S+/", " ".join(server.notes))
    assert found is not None
    return found[0]


def _refuse(error: Exception) -> None:
    raise error
