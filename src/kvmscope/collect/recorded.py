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
    """A recording with the interface of a host: the next look is the next scene. It does not wait or read the clock."""

    def __init__(
        self,
        series: SceneSeries,
        moments: Sequence[SceneMoment],
        *,
        is_span: bool = False,
        looks_at_each: bool = False,
    ) -> None:
        """``moments``: of the available scenes. ``is_span``: they are one interval, whatever its length.
        ``looks_at_each``: an interval is from one scene to the next, whatever length is requested.
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
        """The schemas of the last look."""
        scene = self._scene or self._series.scene(self._moments[0])
        return tuple(block.schema for block in scene.sample.blocks)

    @property
    def now_s(self) -> float:
        return self._moments[max(0, self._place)].boottime_ns / 1e9

    def wait_for_more(self) -> bool:
        return self._place + 1 < len(self._moments)

    @property
    def damage(self) -> Sequence[RecordingError]:
        """The damage found in the recording so far."""
        return self._series.damage

    @property
    def series(self) -> SceneSeries:
        """The series from which scenes are read."""
        return self._series

    @property
    def moments(self) -> Sequence[SceneMoment]:
        """The moments of the available scenes."""
        return self._moments

    def ends(self, first: Scene) -> Sequence[Scene]:
        last = self._moments[-1]
        return (first,) if last.is_same(SceneMoment.of(first)) else (first, self._series.scene(last))

    def look(self) -> Scene:
        """The next scene. Raises UsageError if there is none, RecordingError."""
        return self._look_at(self._place + 1)

    def look_after(self, interval_s: float) -> Scene:
        """The next scene that is this many seconds after the last look, or the last one of the recording."""
        return self._look_at(self._place_after(self._place, interval_s))

    def path(self, interval_s: float) -> list[SceneMoment]:
        """The moments of the scenes that ``look_after`` would still return, after the last look."""
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
    """A recording to which a recorder may still append. At its end this waits for the next scene; if the recorder
    writes none for longer than expected, the recording is over.
    """

    def wait_for_more(self) -> bool:
        self._wait_for_scene(after_s=0.0)
        return super().wait_for_more()

    def look_after(self, interval_s: float) -> Scene:
        """The next scene that is this many seconds after the last look; an earlier one if the recorder ends before."""
        self._wait_for_scene(after_s=interval_s * (1 - EARLY))
        return super().look_after(interval_s)

    def _wait_for_scene(self, *, after_s: float) -> None:
        """Wait for a scene after the last look and at least ``after_s`` after it, or until none is expected."""
        while not (super().wait_for_more() and self._moments[-1].boottime_ns / 1e9 >= self.now_s + after_s):
            if self._grow():
                continue
            if not is_written(self._moments, time.time_ns()):
                return
            time.sleep(LOOK_AGAIN_S)

    def _grow(self) -> bool:
        """Add new scenes that form a window with the earlier ones; returns whether there were any."""
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
    """Open a recording, or a file with a scene: a host whose looks are the recorded scenes, in their order.

    Raises RecordingError if there is no readable recording, or damage has left no scene;
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
