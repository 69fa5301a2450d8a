"""A recording with the interface of a host."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ..errors import KvmscopeError, RecordingError, UsageError
from ..scene import Scene
from ..schema import Schema
from ..store.growth import LOOK_AGAIN_S, is_written, place_in
from ..store.replay import EARLY, SceneMoment, SceneSeries, readable_moments
from .host import SceneHost


class RecordedHost(SceneHost):
    """A recording, looked at as a host is: the next look is the next scene. It neither waits nor knows the time."""

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
        self._moments = list(moments)
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

    def wait_for_more(self) -> bool:
        return self._place + 1 < len(self._moments)

    @property
    def damage(self) -> Sequence[RecordingError]:
        """What of the recording could not be read so far."""
        return self._series.damage

    @property
    def series(self) -> SceneSeries:
        """What the scenes are read from."""
        return self._series

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
        return self._look_at(self._place_after(self._place, interval_s))

    def path(self, interval_s: float) -> list[SceneMoment]:
        """The moments of the looks that ``look_after`` would still give, after that of the last look."""
        place, found = self._place, list[SceneMoment]()
        while place + 1 < len(self._moments):
            place = self._place_after(place, interval_s)
            found.append(self._moments[place])
        return found

    def _place_after(self, place: int, interval_s: float) -> int:
        due_s = self._moments[max(0, place)].boottime_ns / 1e9 + interval_s * (1 - EARLY)
        place += 1
        while place + 1 < len(self._moments) and self._moments[place].boottime_ns / 1e9 < due_s:
            place += 1
        return place

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


class GrowingRecording(RecordedHost):
    """A recording that a recorder may be appending to. At its end the next scene is waited for, until the recorder has
    written none for longer than it should: then the recording is over.
    """

    def wait_for_more(self) -> bool:
        self._wait_for_scene(after_s=0.0)
        return super().wait_for_more()

    def look_after(self, interval_s: float) -> Scene:
        """The next scene that is this many seconds after the last; an earlier one if the recorder ends before."""
        self._wait_for_scene(after_s=interval_s * (1 - EARLY))
        return super().look_after(interval_s)

    def _wait_for_scene(self, *, after_s: float) -> None:
        """Wait until there is a scene after the last look, and so many seconds after it; or until none is expected."""
        while not (super().wait_for_more() and self._moments[-1].boottime_ns / 1e9 >= self.now_s + after_s):
            if self._grow():
                continue
            if not is_written(self._moments, time.time_ns()):
                return
            time.sleep(LOOK_AGAIN_S)

    def _grow(self) -> bool:
        """Take what was added, as far as it makes a window with what was before; whether there was any."""
        try:
            moments = self._series.moments()
        except KvmscopeError:  # its directory is gone
            return False
        last = self._moments[-1]
        added = moments[place_in(moments, last, len(self._moments) - 1) + 1 :] if moments else ()
        for moment in added:
            if not moment.follows(self._moments[-1]):
                break
            self._moments.append(moment)
        return self._moments[-1] is not last


def open_recording(path: str | Path) -> RecordedHost:
    """Open a recording, or a file with a scene: a host whose looks are the scenes that were recorded, in their order.

    Raises RecordingError if there is none that can be read, or damage has left none,
    UsageError if it has no scenes or ``path`` is not a path.
    """
    from ..store.recording import open_series

    if not isinstance(path, str | Path) or not str(path):
        raise UsageError(f"path: expected the path of a recording, as text or Path, found {path!r}")
    series = open_series(str(path))
    moments = readable_moments(series)
    if not moments:
        raise UsageError(f"the recording {path} has no scenes")
    return RecordedHost(series, moments)
