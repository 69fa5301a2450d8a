"""The views of a replay: of the interval at a place, or of every interval from there on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

from ..errors import KvmscopeError
from ..store.cursor import ReplayCursor
from ..store.growth import LOOK_AGAIN_S, is_written, place_in
from ..store.replay import SceneMoment, SceneSeries
from ..units import rfc3339
from ..view.screen import StatusScreen
from ..view.text import Line, Style, styled
from ..view.watch import HostView, Watch

_KEYS = "←→ step  ↑↓ ten  space play  +- speed  g time  q quit"
_BEFORE = 10
"""Number of intervals judged before the shown one, so that its findings are those of that time."""


def views_from(series: SceneSeries, cursor: ReplayCursor) -> Iterator[HostView]:
    """The view of every interval from the cursor's place on; the cursor moves along."""
    watch, last = Watch(), None
    while True:
        moment = cursor.moments[cursor.place]
        if last is not None and not moment.follows(last):
            watch = Watch()  # the boot or source changed
        view, last = watch.add(series.scene(moment)), moment
        if view is not None:
            yield view
        before = cursor.place
        cursor.step(1)
        if cursor.place == before:
            return


class ReplayScreen:
    """The screen of status at the place of a cursor, updated with what a recorder adds."""

    def __init__(self, series: SceneSeries, cursor: ReplayCursor, screen: StatusScreen) -> None:
        self._series = series
        self._cursor = cursor
        self._screen = screen
        self._shown: tuple[SceneMoment, HostView | None] | None = None

    def lines(self, width: int, height: int) -> list[Line]:
        """The screen, and below it the position in the recording."""
        room = height - 2
        lines = [styled("no interval ends here: it is the first scene of its boot or source")]
        view = self._view()
        if view is not None:
            lines = list(self._screen.lines(self._screen.overview(view), width=width, height=room))[:room]
        lines += [styled("")] * (room - len(lines))
        return [*lines, styled(_state(self._cursor), Style.HEAD)]

    @property
    def pause_s(self) -> float | None:
        """How long the screen stays if no key is pressed; None: without end."""
        cursor = self._cursor
        if cursor.is_playing and cursor.typed is None and not cursor.follows:
            return cursor.wait_s
        return LOOK_AGAIN_S if self._series.can_grow else None

    def go_on(self, key: str | None) -> None:
        """Handle a key, or None: the end of a pause. The cursor is updated with the recording first."""
        cursor = self._cursor
        self._follow_growth()
        if key is not None:
            cursor.press(key)
        elif cursor.is_playing and cursor.typed is None:
            cursor.play()

    def _follow_growth(self) -> None:
        """Update the cursor with scenes that a recorder added or its ring deleted, and with whether it is still
        growing."""
        if not self._series.can_grow:
            return
        cursor = self._cursor
        with suppress(KvmscopeError):  # the directory is gone: scenes already read can still be shown
            moments = self._series.moments()
            if moments:
                cursor.place = place_in(moments, cursor.moments[cursor.place], cursor.place)
                cursor.moments = moments
        cursor.is_growing = is_written(cursor.moments, time.time_ns())

    def _view(self) -> HostView | None:
        """The interval that ends at the cursor's place; None at the first scene of a boot or source."""
        moment = self._cursor.moments[self._cursor.place]
        if self._shown is None or not self._shown[0].is_same(moment):
            watch, view = Watch(), None
            for place in self._cursor.before(_BEFORE):
                view = watch.add(self._series.scene(self._cursor.moments[place]))
            self._shown = moment, view
        return self._shown[1]


def _state(cursor: ReplayCursor) -> str:
    if cursor.typed is not None:
        return f"go to (14:05, 14:05:09, 2026-11-26T14:05:09Z or -5m): {cursor.typed}█"
    mode = "live" if cursor.follows else f"playing × {cursor.speed:g}" if cursor.is_playing else "stopped"
    at = rfc3339(cursor.moments[cursor.place].taken_ns)
    return f"{at}  {cursor.place + 1}/{len(cursor.moments)}  {mode}  {cursor.note or _KEYS}"
