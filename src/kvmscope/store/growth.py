"""A recording that may still be growing: the current index of a scene, and whether its recorder is running. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .cursor import place_at
from .replay import SceneMoment

LOOK_AGAIN_S: Final = 0.5
"""How often to check a followed recording: files are listed, and appended data is read."""

_LATE_INTERVALS, _LATE_S = 3, 2.0
"""A recorder that wrote nothing for this many intervals and this many seconds is not running."""


def place_in(moments: Sequence[SceneMoment], moment: SceneMoment, before: int) -> int:
    """The index of a moment whose index was ``before``. A ring may have deleted earlier moments or this one: then the
    index of the last moment up to its time.
    """
    if before < len(moments) and moments[before].is_same(moment):
        return before
    for now in range(len(moments) - 1, -1, -1):
        if moments[now].is_same(moment):
            return now
    return place_at(moments, moment.taken_ns)


def is_written(moments: Sequence[SceneMoment], now_ns: int) -> bool:
    """Whether the last scene is recent enough for a running recorder, by CLOCK_REALTIME."""
    usual_ns = moments[-1].taken_ns - moments[-2].taken_ns if len(moments) > 1 else 0
    return abs(now_ns - moments[-1].taken_ns) < _LATE_INTERVALS * max(usual_ns, 0) + _LATE_S * 1e9
