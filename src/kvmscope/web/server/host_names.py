"""Which names a server answers to that only programs of its host can reach.

A web page of any origin can have its own name resolve to 127.0.0.1 once it is loaded (DNS rebinding). To the browser,
what is there is then of the page's origin, and its scripts may read it. The browser sends the page's name as ``Host``,
so a request for a name that is not this host's own is refused. No such page has a number of an address as its name.
Source: RFC 9110, 7.2 (Host), 15.5.20 (421 Misdirected Request); RFC 6761, 6.3 (localhost).
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from .web_config import ConfigSource

_HOST: Final = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:]*))(?::[0-9]*)?")
_REFUSAL: Final = (
    "This server answers requests for localhost or for an address, and this one is for {name}.\n"
    "Behind a proxy, have the proxy send `Host: localhost`.\n"
)


class HostNameGuard:
    """An ASGI application around another one: refuses names of others, unless clients have to say who they are."""

    def __init__(self, app: ASGIApp, config: ConfigSource | None) -> None:
        self._app = app
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not (self._config is not None and self._config().knows_clients):
            names = [value.decode("latin-1") for header, value in scope["headers"] if header == b"host"]
            foreign = next((name for name in names if not is_own_name(name)), None)
            if foreign is not None:
                await PlainTextResponse(_REFUSAL.format(name=ascii(foreign)), 421)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def is_own_name(host: str) -> bool:
    """Whether the value of a header ``Host`` is localhost or an address, with or without a port."""
    found = _HOST.fullmatch(host.strip())
    if found is None:
        return False
    name = (found[1] or found[2] or "").lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
