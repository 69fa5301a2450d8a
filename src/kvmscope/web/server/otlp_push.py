"""Pushes the data of a scrape to a collector at a steady interval, in its own thread.

Nothing is queued: counts are cumulative, so the next push includes the data of a failed one.
"""

from __future__ import annotations

import sys
import threading
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from ...errors import SourceError, UsageError
from ...export.exposition import ExportOptions, expose
from ...export.otlp import CONTENT_TYPE, write_otlp
from .monitor import HostMonitor

EVERY_S: Final = 15.0
_PATIENCE_S: Final = 10.0
_PATH: Final = "/v1/metrics"


def collector_url(text: str) -> str:
    """The URL for metrics at a collector. Raises UsageError if the text is not an HTTP URL."""
    try:
        parts = urlsplit(text)
        is_right = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right:
        raise UsageError(f"{text!r} is not a URL such as http://127.0.0.1:4318")
    return urlunsplit(parts._replace(path=_PATH)) if parts.path in ("", "/") else text


class OtlpPusher:
    """Pushes from ``start`` to ``close``. ``error``: why the last push failed; None if it succeeded."""

    def __init__(self, monitor: HostMonitor, options: ExportOptions, url: str, *, every_s: float = EVERY_S) -> None:
        self._monitor = monitor
        self._options = options
        self._url = url
        self._every_s = every_s
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kvmscope-otlp", daemon=True)
        self.error: str | None = None

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ending.set()
        self._thread.join(_PATIENCE_S)

    def push(self) -> None:
        """Read the host and send it once. Raises SourceError, or OSError if the collector did not accept the data."""
        reading = self._monitor.read()
        scene = reading.scene
        body = write_otlp(expose(reading, self._options), scene.machine, scene.origin, now_ns=scene.sample.taken_ns)
        request = urllib.request.Request(self._url, body, {"Content-Type": CONTENT_TYPE})
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:
            if answer.status != HTTPStatus.OK:
                raise OSError(f"the collector answered {answer.status}")

    def _run(self) -> None:
        while not self._ending.wait(self._every_s):
            try:
                self.push()
                self.error = None
            except (SourceError, OSError) as error:
                if self.error is None:
                    sys.stderr.write(f"OTLP to {self._url}: {error}\n")
                self.error = str(error)
