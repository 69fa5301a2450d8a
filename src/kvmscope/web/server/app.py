"""The routes of the server, as an ASGI application."""

from __future__ import annotations

import html
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from ...export.exposition import ExportOptions
from .limits import RequestSlots
from .metrics import MetricsEndpoint
from .monitor import HostMonitor

_SCRAPES_AT_ONCE: Final = 4
_READ_ONLY: Final = ["GET", "HEAD"]


def make_app(monitor: HostMonitor, options: ExportOptions) -> Starlette:
    """Everything that the server answers."""
    metrics = MetricsEndpoint(monitor, options, RequestSlots(_SCRAPES_AT_ONCE))
    return Starlette(
        routes=[
            Route("/", _landing_page, methods=_READ_ONLY),
            Route("/metrics", metrics.__call__, methods=_READ_ONLY),
            Route("/-/healthy", _healthy, methods=_READ_ONLY),
        ]
    )


async def _healthy(_request: Request) -> Response:
    """Whether the server answers; whether the host can be read is in ``kvmscope_up``."""
    return PlainTextResponse("kvmscope is healthy.\n")


async def _landing_page(request: Request) -> Response:
    title = html.escape("kvmscope")
    links = '<li><a href="metrics">Metrics</a></li><li><a href="-/healthy">Health</a></li>'
    return HTMLResponse(
        f'<!doctype html><html lang="en"><title>{title}</title><h1>{title}</h1><ul>{links}</ul></html>\n'
    )
