"""Views of consecutive intervals, with a progress line on the terminal."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager

from ..collect import SceneHost
from ..console.progress import reading_progress
from ..scene import Scene
from ..view.subjects import FollowedVm
from ..view.watch import HostView

_SHORTEST_S = 0.001


def read_views(
    host: SceneHost, interval_s: float, *, first: Scene, count: int | None = None, keeps_ended: bool = False
) -> Iterator[HostView]:
    """The view of each interval after a first scene, for ``count`` intervals or without end. A recording may end
    earlier.

    A terminal shows the progress, up to the end if there is one, else up to the first view. Without VMs, ``count``
    intervals are as short as possible.
    """
    if count is not None and not len(first.sample.vms):
        interval_s = _SHORTEST_S
    views = host.watch(interval_s, first=first, keeps_ended=keeps_ended)
    for number in itertools.count() if count is None else range(count):
        with _waiting(number, interval_s, count):
            view = next(views, None)
        if view is None:
            return
        yield view


def glance(
    host: SceneHost, interval_s: float, first: Scene | None = None, vm: FollowedVm | None = None
) -> tuple[HostView, list[str]]:
    """One interval, read in two halves: a rule fires only if its condition held in both. A recording may have only one
    half.

    If the followed VM ended in the second half, the view is of the first half; the notes say so.
    """
    *before, last = read_views(host, interval_s / 2, first=first or host.look(), count=2)
    if not before:
        return last, []
    if vm is not None and vm.locate(last.scene) is None and vm.locate(before[0].scene) is not None:
        return before[0], [f"{vm.title} ended: its values until then are shown"]
    return last.since(before[0]), []


def _waiting(number: int, interval_s: float, count: int | None) -> AbstractContextManager[None]:
    if count is None and number:
        return contextlib.nullcontext()
    left_s = interval_s * ((1 if count is None else count) - number)
    return reading_progress(left_s)
