"""Reads intervals, and follows the VM that was chosen at the beginning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..analysis.window import Window
from ..collect import SceneHost
from ..scene import Scene
from ..view.subjects import FollowedVm

_STEP_S = 0.5
"""How often to check a followed VM: it is seen until at most this long before its end."""


@dataclass(frozen=True)
class Interval:
    """An interval as read. ``scene``: the last one with the followed VM. ``window``: ends with that scene; None if the
    VM ended before a second scene. ``has_ended``: the VM ended in this interval."""

    scene: Scene
    window: Window | None
    has_ended: bool = False

    def notes(self, followed: FollowedVm | None) -> list[str]:
        """Notes on a followed VM that ended."""
        if not self.has_ended or followed is None:
            return []
        if self.window is None:
            return [f"{followed.title} ended during the interval: its state at the beginning is shown"]
        return [f"{followed.title} ended: its values until then are shown"]


def read_interval(host: SceneHost, first: Scene, interval_s: float, followed: FollowedVm | None = None) -> Interval:
    """Read the interval that begins with ``first``. It is cut short if the followed VM ends."""
    deadline_s, last = host.now_s + interval_s, first
    while True:
        remaining_s = deadline_s - host.now_s
        scene = host.look_after(max(0.0, remaining_s if followed is None else min(remaining_s, _STEP_S)))
        if followed is not None and followed.locate(scene) is None:
            return Interval(last, None if last is first else Window(first, last), has_ended=True)
        last = scene
        if host.now_s >= deadline_s or not host.wait_for_more():
            return Interval(scene, Window(first, scene))


def iter_intervals(host: SceneHost, first: Scene, interval_s: float, followed: FollowedVm | None) -> Iterator[Interval]:
    """Consecutive intervals, until the followed VM ends or a recording is over."""
    while True:
        interval = read_interval(host, first, interval_s, followed)
        yield interval
        if interval.has_ended or not host.wait_for_more():
            return
        first = interval.scene
