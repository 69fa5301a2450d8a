"""Server-sent events: every page gets the same bytes at each interval, and a slow page only the newest of them.

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
    """Hands each message to every client. All but ``publish`` runs in the loop's thread."""

    def __init__(self, most_clients: int = MOST_CLIENTS) -> None:
        self._most = most_clients
        self._queues: set[asyncio.Queue[bytes]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last: bytes | None = None

    @property
    def has_room(self) -> bool:
        return len(self._queues) < self._most

    def publish(self, data: str) -> None:
        """A message of one line, from any thread."""
        message = b"data: " + data.encode() + b"\n\n"
        self._last = message
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._hand_out, message)

    async def messages(self) -> AsyncIterator[bytes]:
        """What one client is sent: the last message, and then each new one."""
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
                queue.get_nowait()  # it has not read the last one: the newest will do
            queue.put_nowait(message)
