"""Bounds on what clients can hold at once."""

from __future__ import annotations

import threading


class RequestSlots:
    """A number of places, taken and given back from any thread; nobody waits for one."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether there was a free place."""
        with self._lock:
            if self._free <= 0:
                return False
            self._free -= 1
            return True

    def give_back(self) -> None:
        with self._lock:
            self._free += 1
