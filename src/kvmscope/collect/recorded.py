"""A recording, looked at as a host is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import RecordingError, UsageError
from ..scene import Scene
from ..schema import Schema
from ..store.replay import EARLY, SceneMoment, SceneSeries
from .host import SceneHost


class RecordedHost(SceneHost):
    """A recording, looked at as a host is: the next look is the next scene. Nothing here waits or knows the time."""

    def __init__(
        self,
        series: SceneSeries,
        moments: Sequence[SceneMoment],
        *,
        is_span: bool = False,
        looks_at_each: bool = False,
    ) -> None:
        """``moments``: what can be looked at. ``is_span``: they are the interval, however long that is.
        ``looks_at_each``: an interval is from one to the next, however long it is asked to be.
        """
        self._series = series
        self._moments = moments
        self._is_span = is_span
        self._looks_at_each = looks_at_each
        self._place = -1
        self._scene: Scene | None = None
        self.why_not = {}

    @property
    def source(self) -> str:
        return self._moments[max(0, self._place)].source

    @property
    def schemas(self) -> tuple[Schema, ...]:
        """Those of the last look."""
        scene = self._scene or self._series.scene(self._moments[0])
        return tuple(block.schema for block in scene.sample.blocks)

    @property
    def now_s(self) -> float:
        return self._moments[max(0, self._place)].boottime_ns / 1e9

    @property
    def has_more(self) -> bool:
        return self._place + 1 < len(self._moments)

    @property
    def damage(self) -> Sequence[RecordingError]:
        """What of the recording could not be read so far."""
        return self._series.damage

    @property
    def moments(self) -> Sequence[SceneMoment]:
        """When the scenes were taken that can be looked at."""
        return self._moments

    def ends(self, first: Scene) -> Sequence[Scene]:
        last = self._moments[-1]
        return (first,) if last.is_same(SceneMoment.of(first)) else (first, self._series.scene(last))

    def look(self) -> Scene:
        """The next scene. Raises UsageError if there is none, RecordingError."""
        return self._look_at(self._place + 1)

    def look_after(self, interval_s: float) -> Scene:
        """The next scene that is this many seconds after the last, or the last that there is."""
        due_s = self.now_s + interval_s * (1 - EARLY)
        place = self._place + 1
        while place + 1 < len(self._moments) and self._moments[place].boottime_ns / 1e9 < due_s:
            place += 1
        return self._look_at(place)

    def interval_s(self, asked_s: float) -> float:
        if not self._is_span:
            return 0.0 if self._looks_at_each else asked_s
        return (self._moments[-1].boottime_ns - self._moments[0].boottime_ns) / 1e9

    def close(self) -> None:
        self._scene = None

    def _look_at(self, place: int) -> Scene:
        if place >= len(self._moments):
            raise UsageError("the recording has no more scenes")
        self._place = place
        self._scene = self._series.scene(self._moments[place])
        return self._scene


def open_recording(path: str | Path) -> RecordedHost:
    """Open a recording, or a file with a scene: a host whose looks are the scenes that were recorded, in their order.

    Raises RecordingError if there is none that can be read, UsageError if it has no scenes.
    """
    from ..store.recording import open_series

    series = open_series(str(path))
    moments = series.moments()
    if not moments:
        raise UsageError(f"the recording {path} has no scenes")
    return RecordedHost(series, moments)
