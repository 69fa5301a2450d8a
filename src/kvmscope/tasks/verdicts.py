"""The verdict on interrupt acceleration, for one moment or for consecutive intervals."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from ..collect import SceneHost
from ..console.progress import reading_progress
from ..view.apicv import ApicvView, apicv_view
from ..view.subjects import follow
from .following import iter_intervals


def verdicts(
    host: SceneHost, vm: str | None, interval_s: float | None, *, with_what_if: bool
) -> Iterator[tuple[ApicvView | None, list[str]]]:
    """One view, or one for each interval without end, until the chosen VM ends. Each comes with notes on a VM that
    ended; the last may have no view.
    """
    scene = host.look()
    followed = None if vm is None else follow(scene, vm)
    subject = None if followed is None else followed.locate(scene)
    if interval_s is None:
        yield apicv_view(scene, with_what_if=with_what_if, subject=subject), []
        return
    intervals = iter_intervals(host, scene, interval_s, followed)
    with reading_progress(interval_s):
        first = next(intervals)
    for number, interval in enumerate(itertools.chain([first], intervals)):
        view = None
        if number == 0 or interval.window is not None:
            subject = None if followed is None else followed.locate(interval.scene)
            view = apicv_view(interval.scene, interval.window, with_what_if=with_what_if, subject=subject)
        yield view, interval.notes(followed)
