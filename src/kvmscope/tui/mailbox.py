"""News on their way from the thread that reads to the screen."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from .feed import Deliver, News


class Mailbox:
    """Keeps news in their order until somebody takes them, or has them forwarded."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._kept: list[Sequence[News]] = []
        self._deliver: Deliver | None = None

    def put(self, news: Sequence[News]) -> None:
        """One more delivery, from the thread that reads."""
        with self._changed:
            if self._deliver is not None:
                self._deliver(news)
            else:
                self._kept.append(news)
                self._changed.notify()

    def take(self, wait_s: float) -> Sequence[News]:
        """What has come until now; waits so long at most for the first of it."""
        with self._changed:
            self._changed.wait_for(lambda: self._kept, wait_s)
            kept, self._kept = self._kept, []
        return [each for news in kept for each in news]

    def forward(self, deliver: Deliver) -> None:
        """Hand over what is kept, and from now on what comes."""
        with self._changed:
            self._deliver = deliver
            kept, self._kept = self._kept, []
            for news in kept:
                deliver(news)
