"""The position of a replay in its recording, and what each key does. Pure: the caller reads keys and waits.

A key is one character, or ``left``, ``right``, ``up``, ``down``, ``home``, ``end``, ``enter``, ``escape`` or
``backspace``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import UsageError
from .replay import EARLY, SceneMoment, last_until, passed_ns

_LEAP = 10
_SLOWEST, _FASTEST = 1 / 8, 64.0


def place_at(moments: Sequence[SceneMoment], time_ns: float) -> int:
    """The index of the last moment up to a time, else of the first."""
    return last_until(moments, time_ns) or 0


def place_beside(moments: Sequence[SceneMoment], place: int, interval_s: float, direction: int) -> int:
    """The moment an interval after another (1) or before it (-1), or the last or first one."""
    wanted_ns = interval_s * (1 - EARLY) * 1e9
    found = place + direction
    while 0 <= found < len(moments) and abs(passed_ns(moments[place], moments[found])) < wanted_ns:
        found += direction
    return min(max(found, 0), len(moments) - 1)


@dataclass
class ReplayCursor:
    """``place``: index of the shown moment. ``typed``: the time that is being typed, or None.

    ``parse_time``: parses a time to CLOCK_REALTIME nanoseconds; raises UsageError. ``note``: why a time was refused.
    ``is_growing``: a recorder is adding moments, so playing continues at the end. ``follows``: playing has reached the
    end.
    """

    moments: Sequence[SceneMoment]
    interval_s: float
    parse_time: Callable[[str], int]
    place: int = 0
    speed: float = 1.0
    is_playing: bool = True
    has_ended: bool = False
    typed: str | None = None
    note: str = ""
    is_growing: bool = False
    follows: bool = False

    def press(self, key: str) -> None:
        """Handle a key. Unknown keys do nothing."""
        self.note = ""
        if self.typed is not None:
            self._type(key)
            return
        steps = {"right": 1, "left": -1, "up": _LEAP, "down": -_LEAP}
        if key in steps:
            self.is_playing = self.follows = False
            self.step(steps[key])
        elif key in ("home", "end"):
            self.place = 0 if key == "home" else len(self.moments) - 1
            self.is_playing = self.follows = key == "end" and self.is_growing
        elif key == " ":
            self.is_playing, self.follows = not self.is_playing, False
        elif key in "+-" and key:
            self.speed = min(_FASTEST, max(_SLOWEST, self.speed * (2 if key == "+" else 0.5)))
        elif key == "g":
            self.typed = ""
        elif key in ("q", "escape"):
            self.has_ended = True

    def step(self, intervals: int) -> None:
        """Move forward or back by whole intervals."""
        for _ in range(abs(intervals)):
            self.place = self.neighbour(self.place, 1 if intervals > 0 else -1)

    def play(self) -> None:
        """Move forward by one interval, or to the end if following a recorder. At the end playing stops, unless the
        recording is growing.
        """
        begin = self.place
        self._go_on()
        before = begin
        while self.follows and self.place != before:
            before = self.place
            self._go_on()
        if self.place == begin:
            self.is_playing = self.follows = self.is_growing

    def _go_on(self) -> None:
        """Move forward by one interval. A shorter one counts only at the end of a recording that is not growing."""
        beside = self.neighbour(self.place, 1)
        is_whole = passed_ns(self.moments[self.place], self.moments[beside]) >= self.interval_s * (1 - EARLY) * 1e9
        if not self.is_growing or is_whole:
            self.place = beside

    @property
    def wait_s(self) -> float:
        """How long a moment is shown while it plays."""
        return self.interval_s / self.speed

    def neighbour(self, place: int, direction: int) -> int:
        """The moment an interval after another (1) or before it (-1), or the last or first one."""
        return place_beside(self.moments, place, self.interval_s, direction)

    def before(self, intervals: int) -> list[int]:
        """Up to this number of moments before ``place``, an interval apart and of the same boot and source; then
        ``place``."""
        places = [self.place]
        while len(places) <= intervals and places[0] > 0:
            earlier = self.neighbour(places[0], -1)
            if not self.moments[places[0]].follows(self.moments[earlier]):
                break
            places.insert(0, earlier)
        return places

    def _type(self, key: str) -> None:
        assert self.typed is not None
        if key == "enter":
            text, self.typed = self.typed, None
            self._go_to(text)
        elif key == "escape":
            self.typed = None
        elif key == "backspace":
            self.typed = self.typed[:-1]
        elif len(key) == 1 and key.isprintable():
            self.typed += key

    def _go_to(self, text: str) -> None:
        if not text:
            return
        try:
            time_ns = self.parse_time(text)
        except UsageError as error:
            self.note = str(error)
            return
        self.is_playing = self.follows = False
        self.place = place_at(self.moments, time_ns)
