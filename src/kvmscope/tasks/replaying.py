"""The views of a replay: of the interval at a place, and of every interval from a place on."""

from __future__ import annotations

from collections.abc import Iterator

from ..store.cursor import ReplayCursor
from ..store.replay import SceneSeries
from ..view.watch import HostView, Watch

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
