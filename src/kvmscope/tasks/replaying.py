"""The views of a replay: of the interval at a place, and of every interval from a place on."""

from __future__ import annotations

from collections.abc import Iterator

from ..store.cursor import ReplayCursor
from ..store.replay import SceneSeries
from ..units import rfc3339
from ..view.screen import StatusScreen
from ..view.text import Line, Style, styled
from ..view.watch import HostView, Watch

_KEYS = "←→ step  ↑↓ ten  space play  +- speed  g time  q quit"
_BEFORE = 10
"""Intervals that are judged before the one that is shown, so that its findings are those of the time."""


def view_at(series: SceneSeries, cursor: ReplayCursor) -> HostView | None:
    """The interval that ends at the cursor's place; None at the first scene of a boot or source."""
    watch, view = Watch(), None
    for place in cursor.before(_BEFORE):
        view = watch.add(series.scene(cursor.moments[place]))
    return view


def views_from(series: SceneSeries, cursor: ReplayCursor) -> Iterator[HostView]:
    """The view of every interval from the cursor's place on; the cursor goes with them."""
    watch, last = Watch(), None
    while True:
        moment = cursor.moments[cursor.place]
        if last is not None and not moment.follows(last):
            watch = Watch()  # of another boot or source
        view, last = watch.add(series.scene(moment)), moment
        if view is not None:
            yield view
        before = cursor.place
        cursor.step(1)
        if cursor.place == before:
            return


def replay_lines(
    series: SceneSeries, cursor: ReplayCursor, screen: StatusScreen, width: int, height: int
) -> list[Line]:
    """The screen of status at the cursor's place, and where that is."""
    room = height - 2
    lines = [styled("no interval ends here: it is the first scene of its boot or source")]
    view = view_at(series, cursor)
    if view is not None:
        lines = list(screen.lines(screen.overview(view), width=width, height=room))[:room]
    lines += [styled("")] * (room - len(lines))
    return [*lines, styled(_state(cursor), Style.HEAD)]


def _state(cursor: ReplayCursor) -> str:
    if cursor.typed is not None:
        return f"go to (14:05, 14:05:09, 2026-11-26T14:05:09Z or -5m): {cursor.typed}█"
    mode = f"playing × {cursor.speed:g}" if cursor.is_playing else "stopped"
    at = rfc3339(cursor.moments[cursor.place].taken_ns)
    return f"{at}  {cursor.place + 1}/{len(cursor.moments)}  {mode}  {cursor.note or _KEYS}"
