"""The routes of the server, as an ASGI application."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...errors import RecordingError, SourceError, UsageError
from ...export.exposition import ExportOptions
from ...view.summary import host_summary
from ...view.watch import HostView
from ..page.assets import load_assets
from ..page.render import SECURITY_HEADERS, render_page
from .api import api_routes
from .api_host import ApiHost
from .auth import AccessGuard
from .events import EventHub
from .host_names import HostNameGuard
from .limits import RequestSlots
from .metrics import MetricsEndpoint
from .web_config import ConfigSource

_SCRAPES_AT_ONCE: Final = 4
_READ_ONLY: Final = ["GET", "HEAD"]


def make_app(
    host: ApiHost,
    options: ExportOptions,
    *,
    hub: EventHub | None = None,
    config: ConfigSource | None = None,
    is_local: bool = False,
    allowed_hosts: Collection[str] = (),
) -> Starlette:
    """All routes of the server. ``hub``: None if no host is watched. ``config``: access control; without it, every
    client is allowed. ``is_local``: only programs of this host can connect, so unless ``config`` requires
    authentication, the ``Host`` header must name this host. ``allowed_hosts``: further allowed names; without any, a
    server that is not local accepts every name."""
    guards = [Middleware(SecurityHeaders)]
    if is_local or allowed_hosts:
        guards.append(Middleware(HostNameGuard, config=config, allowed=allowed_hosts))
    if config is not None:
        guards.append(Middleware(AccessGuard, config=config))
    return Starlette(
        routes=[
            Route("/", PageEndpoint(host).__call__, methods=_READ_ONLY),
            Route("/assets/{name}", _asset, methods=_READ_ONLY),
            Route("/metrics", _metrics(host, options), methods=_READ_ONLY),
            Route("/-/healthy", _healthy, methods=_READ_ONLY),
            *api_routes(host, hub),
        ],
        middleware=guards,
    )


def _metrics(host: ApiHost, options: ExportOptions) -> Callable[[Request], Awaitable[Response]]:
    if host.monitor is None:
        return _no_metrics
    return MetricsEndpoint(host.monitor, options, RequestSlots(_SCRAPES_AT_ONCE)).__call__


async def _no_metrics(_request: Request) -> Response:
    return PlainTextResponse("This server shows a recording: there are no live metrics.\n", 404)


class PageEndpoint:
    """The page, which contains the last interval. It is made once per interval, however many clients open it."""

    def __init__(self, host: ApiHost) -> None:
        self._host = host
        self._made: tuple[object, str] | None = None

    async def __call__(self, _request: Request) -> Response:
        view = await run_in_threadpool(self._view)
        if self._made is None or self._made[0] is not view:
            self._made = (view, await run_in_threadpool(self._page, view))
        return HTMLResponse(self._made[1], headers={"Cache-Control": "no-store"})

    def _view(self) -> HostView | None:
        try:
            return self._host.view({})
        except (SourceError, UsageError, RecordingError):
            return None

    def _page(self, view: HostView | None) -> str:
        summary = None if view is None else host_summary(view)
        return render_page(summary, is_live=self._host.monitor is not None)


class SecurityHeaders:
    """Adds the headers of ``page.render`` to every response, unless the web configuration sets others."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message.get("headers", ())}
                added = [pair for pair in self._headers if pair[0] not in there]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        await self._app(scope, receive, send_with_headers)


async def _asset(request: Request) -> Response:
    asset = load_assets().get(request.path_params["name"])
    if asset is None:
        return PlainTextResponse("Not Found", 404)
    headers = {"ETag": asset.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == asset.tag:
        return Response(status_code=304, headers=headers)
    headers["Content-Type"] = asset.media_type
    if accepts_gzip(request.headers.get("accept-encoding", "")):
        return Response(asset.packed, headers={**headers, "Content-Encoding": "gzip"})
    return Response(asset.content, headers=headers)


def accepts_gzip(accepted: str) -> bool:
    """Whether a client accepts gzip, by its Accept-Encoding header."""
    for part in accepted.lower().split(","):
        name, *parameters = (word.strip() for word in part.split(";"))
        if name == "gzip":
            return not any(re.fullmatch(r"q\s*=\s*0(\.0*)?", each) for each in parameters)
    return False


async def _healthy(_request: Request) -> Response:
    """Shows that the server answers; ``kvmscope_up`` shows whether the host can be read."""
    return PlainTextResponse("kvmscope is healthy.\n")
