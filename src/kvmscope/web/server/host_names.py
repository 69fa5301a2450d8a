"""Check of the ``Host`` header for a server that only programs of its host can reach.

After a web page is loaded, its owner can make its host name resolve to 127.0.0.1 (DNS rebinding). The browser then
regards this server as of the page's origin, and lets the page's scripts read it. The browser sends the page's name as
``Host``, so a request for a name other than this host's own is refused. IP addresses are safe: such a page has a name.
Source: RFC 9110, 7.2 (Host), 15.5.20 (421 Misdirected Request); RFC 6761, 6.3 (localhost).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import Final

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ...errors import UsageError
from .web_config import ConfigSource

_HOST: Final = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:]*))(?::[0-9]*)?")
_NAME: Final = re.compile(r"(?=.{1,253}\Z)[0-9a-z_-]{1,63}(?:\.[0-9a-z_-]{1,63})*")
_REFUSAL: Final = (
    "This server answers requests for {own}, and this one is for {name}.\n"
    "Start it with --allowed-host NAME for another name of its own, or have a proxy send `Host: localhost`.\n"
)


def parse_host_name(text: str) -> str:
    """A name that clients use for this server, in the form that ``HostNameGuard`` compares. Raises UsageError."""
    name = text.lower().removesuffix(".")
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{text!r:.100} is not a name of a host such as node1.example: letters, digits, dots and hyphens, "
            "without scheme or port; other letters in the form that begins with xn--"
        )
    return name


class HostNameGuard:
    """ASGI middleware that refuses requests for other host names.

    ``allowed``: further names, from ``parse_host_name``. Without any, a server that requires authentication accepts
    every name.
    """

    def __init__(self, app: ASGIApp, config: ConfigSource | None, allowed: Collection[str] = ()) -> None:
        self._app = app
        self._config = config
        self._allowed = frozenset(allowed)
        self._refusal = _REFUSAL.format(own=", ".join(["localhost", *allowed, "addresses"]), name="{name}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (self._allowed or not self._knows_clients):
            names = [value.decode("latin-1") for header, value in scope["headers"] if header == b"host"]
            foreign = next((name for name in names if not is_own_name(name, self._allowed)), None)
            if foreign is not None:
                await PlainTextResponse(self._refusal.format(name=ascii(foreign)), 421)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    @property
    def _knows_clients(self) -> bool:
        return self._config is not None and self._config().knows_clients


def is_own_name(host: str, allowed: Collection[str] = ()) -> bool:
    """Whether the value of a ``Host`` header is localhost, an IP address or an allowed name, with or without a port."""
    found = _HOST.fullmatch(host.strip())
    if found is None:
        return False
    name = (found[1] or found[2] or "").lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost") or name in allowed:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
