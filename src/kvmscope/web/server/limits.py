"""Limits on concurrent requests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class RequestSlots:
    """A number of slots, taken and released from any thread without waiting."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take a slot; false if none is free."""
        with self._lock:
            if self._free <= 0:
                return False
            self._free -= 1
            return True

    def give_back(self) -> None:
        with self._lock:
            self._free += 1


class RequestQueue:
    """Lets a number of requests run at once and a number of others wait for their turn. For one event loop."""

    def __init__(self, at_once: int, *, waiting: int) -> None:
        self._turns = asyncio.Semaphore(at_once)
        self._free = at_once + waiting

    @property
    def has_room(self) -> bool:
        return self._free > 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and hold it. The caller checks before that there is room."""
        self._free -= 1
        try:
            async with self._turns:
                yield
        finally:
            self._free += 1


class SlotResponse(StreamingResponse):
    """A streamed response that releases its slot at its end, even if the client disconnects before it begins."""

    def __init__(self, slots: RequestSlots, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._slots = slots

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._slots.give_back()
