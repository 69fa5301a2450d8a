"""A recording that may still be written: where a scene is by now, and whether its recorder is at work. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .cursor import place_at
from .replay import SceneMoment

LOOK_AGAIN_S: Final = 0.5
"""How often a recording that is followed is looked at: files are listed, and what was appended is read."""

_LATE_INTERVALS, _LATE_S = 3, 2.0
"""A recorder that has written nothing for so many of its intervals and so many seconds is not at work."""


def place_in(moments: Sequence[SceneMoment], moment: SceneMoment, before: int) -> int:
    """Where a moment is that was at place ``before``. A ring may have deleted others before it, or it: then it is the
    last one until its time.
    """
    if before < len(moments) and moments[before].is_same(moment):
        return before
    for now in range(len(moments) - 1, -1, -1):
        if moments[now].is_same(moment):
            return now
    return place_at(moments, moment.taken_ns)


def is_written(moments: Sequence[SceneMoment], now_ns: int) -> bool:
    """Whether the last scene came when it was due, by CLOCK_REALTIME."""
    usual_ns = moments[-1].taken_ns - moments[-2].taken_ns if len(moments) > 1 else 0
    return abs(now_ns - moments[-1].taken_ns) < _LATE_INTERVALS * max(usual_ns, 0) + _LATE_S * 1e9
