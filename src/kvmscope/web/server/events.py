"""Server-sent events: every page gets the same bytes at each interval, and a slow page gets only the newest.

Source: WHATWG HTML, Server-sent events.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

MOST_CLIENTS: Final = 100
_PING_S: Final = 15.0
_PING: Final = b": ping\n\n"
_RETRY: Final = b"retry: 2000\n\n"


class EventHub:
    """Sends each message to every client. Everything except ``publish`` runs in the loop's thread."""

    def __init__(self, most_clients: int = MOST_CLIENTS) -> None:
        self._most = most_clients
        self._queues: set[asyncio.Queue[bytes]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last: bytes | None = None

    @property
    def has_room(self) -> bool:
        return len(self._queues) < self._most

    def publish(self, data: str) -> None:
        """Send a message of one line. Any thread may call this."""
        message = b"data: " + data.encode() + b"\n\n"
        self._last = message
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._hand_out, message)

    async def messages(self) -> AsyncIterator[bytes]:
        """The messages for one client: the last one, and then each new one."""
        self._loop = asyncio.get_running_loop()
        with self._queue() as queue:
            yield _RETRY
            if self._last is not None:
                yield self._last
            while True:
                try:
                    yield await asyncio.wait_for(queue.get(), _PING_S)
                except TimeoutError:
                    yield _PING

    @contextmanager
    def _queue(self) -> Iterator[asyncio.Queue[bytes]]:
        queue: asyncio.Queue[bytes] = asyncio.Queue(maxsize=1)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)

    def _hand_out(self, message: bytes) -> None:
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()  # the client has not read the last message: replace it by the newest
            queue.put_nowait(message)
