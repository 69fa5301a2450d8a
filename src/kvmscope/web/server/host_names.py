"""Which names a server answers to that only programs of its host can reach.

A web page of any origin can have its own name resolve to 127.0.0.1 once it is loaded (DNS rebinding). To the browser,
what is there is then of the page's origin, and its scripts may read it. The browser sends the page's name as ``Host``,
so a request for a name that is not this host's own is refused. No such page has a number of an address as its name.
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
    """A name that clients have for this server, as ``HostNameGuard`` compares it. Raises UsageError."""
    name = text.lower().removesuffix(".")
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{text!r:.100} is not a name of a host such as node1.example: letters, digits, dots and hyphens, "
            "without scheme or port; other letters in the form that begins with xn--"
        )
    return name


class HostNameGuard:
    """An ASGI application around another one: refuses names of others.

    ``allowed``: further names, by ``parse_host_name``. Without any, a server whose clients have to say who they are
    has whatever name they use.
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
    """Whether the value of a header ``Host`` is localhost, an address or one of these names, with or without a port."""
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
