"""Connections with deadlines: a client that is slow, silent or gone does not block others.

uvicorn waits without end for the rest of a request and for a client to read. Here a request must arrive within
``HEAD_S``, and a client that reads nothing of a response for ``READ_S`` is disconnected. Beyond ``MOST_CONNECTIONS``,
the connection that has been idle for longest is closed; if all wait for responses, a new one is refused with status
503.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .tls import alternative_names

HEAD_S: Final = 10.0
READ_S: Final = 30.0
MOST_CONNECTIONS: Final = 512

_TOO_MANY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\n"
    b"Content-Length: 32\r\nConnection: close\r\n\r\nThere are too many connections.\n"
)

AllowedNames = Callable[[], frozenset[str]]


class ConnectionBounds:
    """The connections of one server. ``idle``: connections that wait for a request, the oldest first."""

    def __init__(
        self,
        *,
        most: int = MOST_CONNECTIONS,
        head_s: float = HEAD_S,
        read_s: float = READ_S,
        allowed_names: AllowedNames = frozenset,
    ) -> None:
        self.most = most
        self.head_s = head_s
        self.read_s = read_s
        self.allowed_names = allowed_names
        self.idle: OrderedDict[GuardedProtocol, None] = OrderedDict()
        self._open: set[GuardedProtocol] = set()

    @property
    def count(self) -> int:
        """Number of connections that were not asked to close."""
        return len(self._open)

    def protocol(self, *arguments: Any, **options: Any) -> GuardedProtocol:
        """Create the protocol of a connection; uvicorn calls this for each."""
        return GuardedProtocol(self, *arguments, **options)

    def add(self, connection: GuardedProtocol) -> None:
        """Add a connection. Hundreds may come before one that was asked to close is gone, so each is asked once."""
        self._open.add(connection)
        self.idle[connection] = None
        if self.count > self.most:
            oldest, _ = self.idle.popitem(last=False)
            self._open.discard(oldest)
            if oldest is connection:
                oldest.refuse()
            else:
                oldest.abort()

    def remove(self, connection: GuardedProtocol) -> None:
        self._open.discard(connection)
        self.idle.pop(connection, None)


class GuardedProtocol(H11Protocol):
    """One connection with deadlines."""

    def __init__(self, bounds: ConnectionBounds, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._bounds = bounds
        self._deadline: asyncio.TimerHandle | None = None
        self._read_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._bounds.add(self)
        allowed = self._bounds.allowed_names()
        secured = transport.get_extra_info("ssl_object")
        if allowed and secured is not None and not allowed & alternative_names(secured.getpeercert()):
            self.abort()
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._bounds.remove(self)
        self._cancel()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_waiting:
            self._wait_for_head()
        else:
            self._cancel()
            self._bounds.idle.pop(self, None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and self._is_waiting:
            self._bounds.idle[self] = None

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._read_deadline is None:
            self._read_deadline = self.loop.call_later(self._bounds.read_s, self.abort)

    def resume_writing(self) -> None:
        if self._read_deadline is not None:
            self._read_deadline.cancel()
            self._read_deadline = None
        super().resume_writing()

    def refuse(self) -> None:
        """Respond with status 503, as too many connections wait for responses, and close."""
        self.transport.write(_TOO_MANY)
        self.transport.close()

    def abort(self) -> None:
        """Close at once; unsent data is lost."""
        self.transport.abort()

    @property
    def _is_waiting(self) -> bool:
        """Whether it waits for a whole request, including its body."""
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    def _wait_for_head(self) -> None:
        if self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self._bounds.head_s, self.abort)

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
