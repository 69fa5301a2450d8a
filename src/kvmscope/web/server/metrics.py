"""``/metrics``: one read of the host for each scrape, in the format that the client requests.

If the host cannot be read, ``kvmscope_up`` is 0, with status 200, as in other exporters for Prometheus.
"""

from __future__ import annotations

import time

from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ...errors import SourceError
from ...export.exposition import SCRAPE_DURATION, UP, ExportOptions, expose, own_number
from ...export.negotiation import negotiate
from ...export.series import Series
from .compression import GZIP_HEADERS, accepts_gzip, gzipped
from .limits import RequestSlots, SlotResponse
from .monitor import HostMonitor


class MetricsEndpoint:
    """Answers scrapes. ``slots``: limit of concurrent scrapes; further ones are refused with status 503."""

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
        body, headers = form.write(series), {"Vary": "Accept-Encoding"}
        if accepts_gzip(request.headers.get("accept-encoding", "")):
            body, headers = gzipped(body), GZIP_HEADERS
        pieces = iterate_in_threadpool(body)
        return SlotResponse(self._slots, pieces, headers=headers, media_type=form.content_type)

    def _series(self) -> tuple[Series, ...]:
        began = time.monotonic()
        try:
            series = expose(self._monitor.read(), self._options)
        except SourceError:
            series = ()
        taken_s = time.monotonic() - began
        return (own_number(UP, int(bool(series))), own_number(SCRAPE_DURATION, taken_s), *series)
