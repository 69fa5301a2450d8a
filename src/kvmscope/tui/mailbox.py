"""Passes news from the reading thread to the screen."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from .feed import Deliver, News


class Mailbox:
    """Keeps news in order until they are taken or forwarded."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._kept: list[Sequence[News]] = []
        self._deliver: Deliver | None = None

    def put(self, news: Sequence[News]) -> None:
        """Add a delivery; called on the reading thread."""
        with self._changed:
            if self._deliver is not None:
                self._deliver(news)
            else:
                self._kept.append(news)
                self._changed.notify()

    def take(self, wait_s: float) -> Sequence[News]:
        """The news so far; if there are none, wait at most ``wait_s`` for the first."""
        with self._changed:
            self._changed.wait_for(lambda: self._kept, wait_s)
            kept, self._kept = self._kept, []
        return [each for news in kept for each in news]

    def forward(self, deliver: Deliver) -> None:
        """Hand over the kept news, and all later ones as they come."""
        with self._changed:
            self._deliver = deliver
            kept, self._kept = self._kept, []
            for news in kept:
                deliver(news)
