"""``/metrics``: one read of the host for each scrape, in the format that the client asks for.

A host that cannot be read is an answer too: ``kvmscope_up`` is 0, with status 200, as Prometheus' exporters have it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from ...errors import SourceError
from ...export.exposition import SCRAPE_DURATION, UP, ExportOptions, expose, own_number
from ...export.negotiation import MetricsFormat, negotiate
from ...export.series import Series
from .limits import RequestSlots
from .monitor import HostMonitor


class MetricsEndpoint:
    """Answers scrapes. ``slots``: how many scrapes may be under way at once; one more is refused with status 503."""

    def __init__(self, monitor: HostMonitor, options: ExportOptions, slots: RequestSlots) -> None:
        self._monitor = monitor
        self._options = options
        self._slots = slots

    async def __call__(self, request: Request) -> Response:
        form = negotiate(request.headers.get("accept", ""))
        if not self._slots.take():
            return PlainTextResponse("too many scrapes at once\n", 503, {"Retry-After": "1"})
        try:
            series = await run_in_threadpool(self._series)
        except BaseException:
            self._slots.give_back()
            raise
        return StreamingResponse(iterate_in_threadpool(self._body(series, form)), media_type=form.content_type)

    def _series(self) -> tuple[Series, ...]:
        began = time.monotonic()
        try:
            series = expose(self._monitor.read(), self._options)
        except SourceError:
            series = ()
        taken_s = time.monotonic() - began
        return (own_number(UP, int(bool(series))), own_number(SCRAPE_DURATION, taken_s), *series)

    def _body(self, series: tuple[Series, ...], form: MetricsFormat) -> Iterator[bytes]:
        try:
            yield from form.write(series)
        finally:
            self._slots.give_back()
