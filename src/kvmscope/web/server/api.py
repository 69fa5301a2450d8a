"""``/api/v1`` over HTTP: the answers as JSON, their OpenAPI description, and the summary of each interval as events.

Read-only. An error is an object with the kind of error and the message that the command line would print.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from ...errors import KvmscopeError, RecordingError, SourceError, UsageError
from ...view.jsonout import dump, to_value
from .answers import ANSWERS, PREFIX, ApiAnswer, ProblemView
from .api_host import ApiHost
from .events import EventHub
from .limits import RequestQueue
from .openapi import openapi

_AT_ONCE: Final = 8
_WAITING: Final = 256
"""Maximum number of waiting requests: enough for about fifty pages that open at once."""
_JSON: Final = "application/json"


def api_routes(host: ApiHost, hub: EventHub | None) -> list[BaseRoute]:
    """The paths below ``/api/v1``. ``hub``: None if there is no event stream."""
    queue = RequestQueue(_AT_ONCE, waiting=_WAITING)
    description = dump(openapi())

    async def describe(_request: Request) -> Response:
        return Response(description, media_type=_JSON)

    async def stream(request: Request) -> Response:
        if hub is None:
            return _problem(404, "usage", "this server shows a recording: there are no live events")
        if not hub.has_room:
            return _problem(503, "too-many-clients", "this server already serves as many pages as it can")
        return StreamingResponse(hub.messages(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    return [
        *(Route(PREFIX + each.path, _endpoint(each, host, queue), methods=["GET", "HEAD"]) for each in ANSWERS),
        Route(f"{PREFIX}/openapi.json", describe, methods=["GET", "HEAD"]),
        Route(f"{PREFIX}/events", stream, methods=["GET"]),
    ]


def _endpoint(path: ApiAnswer, host: ApiHost, queue: RequestQueue) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            query = _query(path, request)
        except UsageError as error:
            return _problem(400, error.slug, str(error))
        if not queue.has_room:
            return _problem(503, "too-many-requests", "too many requests at once")
        async with queue.turn():
            return await run_in_threadpool(_answer, path, host, query)

    return endpoint


def _answer(path: ApiAnswer, host: ApiHost, query: Mapping[str, str]) -> Response:
    try:
        body = dump(to_value(path.answer(host, query)), one_line=True)
    except (UsageError, RecordingError) as error:
        return _problem(404, error.slug, str(error))
    except SourceError as error:
        return _problem(503, error.slug, str(error))
    except KvmscopeError as error:
        return _problem(500, error.slug, str(error))
    return Response(body, media_type=_JSON, headers={"Cache-Control": "no-store"})


def _query(path: ApiAnswer, request: Request) -> dict[str, str]:
    """The parameters of a request, each once. Raises UsageError for an unknown one, which may be misspelled."""
    known = {parameter.name for parameter in path.parameters}
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known or name in found:
            raise UsageError(f"parameter {name!r} is {'given twice' if name in found else 'not known'}")
        if not value:
            raise UsageError(f"parameter {name!r} is empty")
        found[name] = value
    missing = [parameter.name for parameter in path.parameters if parameter.is_required and parameter.name not in found]
    if missing:
        raise UsageError(f"parameter {missing[0]!r} is missing")
    return found


def _problem(status: int, error: str, message: str) -> Response:
    body = dump(to_value(ProblemView(error=error, message=message)), one_line=True)
    return Response(body, status, media_type=_JSON)
