"""A recording, read on its own thread: at the requested place, or continuously while it plays.

A recording that may still be growing is checked every second: its time line grows, and a view at its end follows the
new scenes.

A place is shown after the intervals before it were read: as many as a history has, of the same boot and source. So
findings, events and sparklines are those that the live host would have shown at that time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final

from ..errors import KvmscopeError, UsageError
from ..store.cursor import place_at, place_beside
from ..store.growth import is_written, place_in
from ..store.replay import EARLY, LookPlan, SceneMoment, SceneSeries, TimeChoice, choose, passed_ns
from ..view.events import EventWatch
from ..view.values import Moment
from ..view.watch import Watch
from .feed import Arrival, Controls, Deliver, Failure, Loss, News, Position, prepare

_BEFORE: Final = 60
"""Number of intervals that are read before the requested place."""

_LEAVE_S: Final = 2.0
_LOOK_AGAIN_S: Final = 1.0
"""Maximum time between checks of a recording that may grow."""


class Player(Controls):
    """Shows ``series`` from the moment ``at`` on; a step is ``interval_s``. Playback shows each interval for its
    recorded length, at most ``interval_s``. ``can_grow``: a recorder may be appending to the series.
    """

    def __init__(
        self,
        series: SceneSeries,
        moments: Sequence[SceneMoment],
        at: int,
        interval_s: float,
        *,
        can_grow: bool = False,
    ) -> None:
        self._series = series
        self._interval_s = interval_s
        self._can_grow = can_grow
        self._look_again_s = min(interval_s, _LOOK_AGAIN_S) if can_grow else None
        self._wanted: tuple[str, ...] = ()
        self._lock = threading.Condition()
        # The attributes below are accessed with the lock held.
        self._moments = moments
        self._follows = can_grow and at == len(moments) - 1
        self._target: int | None = at
        self._place = at
        self._is_playing = False
        self._is_stopped = False
        # These belong to the thread.
        self._watch, self._events = Watch(), EventWatch()
        self._deliver: Deliver = _nowhere
        self._thread = threading.Thread(target=self._run, name="player", daemon=True)

    def start(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._thread.start()

    def stop(self) -> None:
        with self._lock:
            self._is_stopped = True
            self._lock.notify()
        if self._thread.is_alive():
            self._thread.join(_LEAVE_S)

    def want(self, metrics: Sequence[str]) -> None:
        self._wanted = tuple(metrics)

    @property
    def position(self) -> Position:
        with self._lock:
            moments, place = self._moments, self._place
            is_playing, is_live = self._is_playing, self._follows and is_written(moments, time.time_ns())
        first, now, last = (Moment(moments[each].taken_ns) for each in (0, place, -1))
        return Position(place, len(moments), first, now, last, is_playing, is_live)

    # --- keys ---------------------------------------------------------------------------------------------------------

    def step(self, intervals: int) -> None:
        with self._lock:
            place = self._place if self._target is None else self._target
            for _ in range(abs(intervals)):
                place = self._beside(place, 1 if intervals > 0 else -1)
            self._seek(place)

    def go_to(self, share: float) -> None:
        with self._lock:
            begin, end = self._moments[0].taken_ns, self._moments[-1].taken_ns
            self._seek(place_at(self._moments, begin + share * (end - begin)))

    def toggle(self) -> None:
        with self._lock:
            self._is_playing = not self._is_playing
            self._lock.notify()

    def _seek(self, place: int) -> None:
        with self._lock:
            self._target = place
            self._is_playing = False
            self._follows = self._can_grow and place == len(self._moments) - 1
            self._lock.notify()

    def _beside(self, place: int, direction: int) -> int:
        return place_beside(self._moments, place, self._interval_s, direction)

    # --- on the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._is_stopped:
                target = self._next()
                if target is not None:
                    self._show(target)
                elif not self._is_stopped:
                    self._grow()
        except BaseException as error:  # any error: the screen must not continue as if nothing had happened
            self._deliver([Failure(error)])

    def _next(self) -> int | None:
        """Wait, and return the place to show next; None at the end, or if it is time to check for new scenes."""
        with self._lock:
            while not self._is_stopped:
                if self._target is not None:
                    target, self._target = self._target, None
                    return target
                if self._is_playing and not self._lock.wait(self._interval_s):
                    if self._place == len(self._moments) - 1:
                        self._is_playing = False
                        self._follows = self._can_grow
                        self._deliver([])
                    else:
                        return self._beside(self._place, 1)
                elif not self._is_playing and not self._lock.wait(self._look_again_s):
                    return None
            return None

    def _grow(self) -> None:
        """Update the scenes that a recorder added and that its ring removed; show the newest if the view follows it."""
        try:
            moments = self._series.moments()
        except KvmscopeError:  # its directory is gone: what was read can still be shown
            return
        with self._lock:
            if not moments:
                return
            self._place = place_in(moments, self._moments[self._place], self._place)
            if self._target is not None:
                self._target = place_in(moments, self._moments[self._target], self._target)
            self._moments = moments
            place = self._place if self._follows and self._target is None else len(moments) - 1
        if len(moments) - 1 - place > _BEFORE:
            self._show(len(moments) - 1)
        elif (following := self._following(place)) is not None:
            self._show(following)
        else:
            self._deliver([])  # to redraw the time line

    def _following(self, place: int) -> int | None:
        """The place one interval after ``place``; None if there is none yet."""
        beside = self._beside(place, 1)
        passed = passed_ns(self._moments[place], self._moments[beside])
        return beside if passed >= self._interval_s * (1 - EARLY) * 1e9 else None

    def _show(self, target: int) -> None:
        try:
            news = self._step_to(target) if target == self._beside(self._place, 1) else None
            news = news or self._read_before(target)
        except KvmscopeError as error:
            self._watch = Watch()
            news = [Loss(Moment(self._moments[target].taken_ns), str(error))]
        with self._lock:
            self._place = target
        self._deliver(news)

    def _step_to(self, target: int) -> list[News]:
        """The news of the next interval; empty if it does not follow the shown one."""
        moment = self._moments[target]
        if self._watch.is_new or not moment.follows(self._moments[self._place]):
            return []
        return self._arrivals([moment], begins=False)

    def _read_before(self, target: int) -> list[News]:
        """The news of the intervals up to the target."""
        self._watch, self._events = Watch(), EventWatch()
        plan = LookPlan((self._interval_s,) * _BEFORE, is_one_window=False)
        try:
            path = choose(self._moments[: target + 1], plan, TimeChoice())
        except UsageError:  # no scene precedes it: show it with the interval after it
            after = self._beside(target, 1)
            if after == target or not self._moments[after].follows(self._moments[target]):
                raise
            path = [self._moments[target], self._moments[after]]
        return self._arrivals(path, begins=True)

    def _arrivals(self, path: Sequence[SceneMoment], *, begins: bool) -> list[News]:
        news: list[News] = []
        for moment in path:
            view = self._watch.add(self._series.scene(moment))
            if view is not None:
                news.append(Arrival(view, self._events.add(view), begins=begins and not news))
        if news and isinstance(news[-1], Arrival):
            prepare(news[-1].view, self._wanted)
        return news


def _nowhere(news: Sequence[News]) -> None:
    del news
