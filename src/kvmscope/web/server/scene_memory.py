"""The scenes of the last hour in memory, evenly spaced, as many as fit.

Counts only increase, so the difference of two scenes includes everything between them: if scenes are dropped, charts
become coarser, but no value is lost.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from ...errors import RecordingError
from ...scene import Scene
from ...store.replay import EARLY, SceneMoment

KEPT_S: Final = 3600.0
MEMORY_BYTES: Final = 128 * 1024**2
MEMORY: Final = "memory"
"""The ``part`` of a ``SceneMoment`` whose scene is in this memory."""


class SceneMemory:
    """Keeps scenes for ``kept_s`` seconds in at most ``most_bytes``; for any thread. ``damage`` is always empty."""

    can_grow = True

    def __init__(self, *, kept_s: float = KEPT_S, most_bytes: int = MEMORY_BYTES) -> None:
        self._kept_ns = round(kept_s * 1e9)
        self._most_bytes = most_bytes
        self._step_ns = 0
        self._scenes: dict[int, Scene] = {}
        self._lock = threading.Lock()
        self.damage: list[RecordingError] = []

    def add(self, scene: Scene) -> None:
        """Add a scene, unless it is too close to the last kept one."""
        taken_ns = scene.sample.taken_ns
        with self._lock:
            last_ns = next(reversed(self._scenes), None)
            while last_ns is not None and taken_ns < last_ns:  # the clock was set back
                del self._scenes[last_ns]
                last_ns = next(reversed(self._scenes), None)
            if last_ns is not None and taken_ns - last_ns < self._step_ns * (1 - EARLY):
                return
            self._scenes[taken_ns] = _own(scene)
            while taken_ns - next(iter(self._scenes)) > self._kept_ns:
                del self._scenes[next(iter(self._scenes))]
            self._thin()

    def moments(self) -> Sequence[SceneMoment]:
        with self._lock:
            return [SceneMoment.of(scene, MEMORY) for scene in self._scenes.values()]

    def scene(self, moment: SceneMoment) -> Scene:
        """The scene of a moment. Raises RecordingError if it is no longer kept."""
        with self._lock:
            found = self._scenes.get(moment.taken_ns)
        if found is None:
            raise RecordingError("this scene has been deleted", path=MEMORY)
        return found

    def _thin(self) -> None:
        """Drop every second scene until the rest fits."""
        while len(self._scenes) > 2 and sum(map(_size, self._scenes.values())) > self._most_bytes:
            times = list(self._scenes)
            self._step_ns = 2 * max(self._step_ns, (times[-1] - times[0]) // (len(times) - 1))
            for taken_ns in times[1::2]:
                del self._scenes[taken_ns]


def _own(scene: Scene) -> Scene:
    """A copy of the scene: sources reuse their buffers, and blocks cache values derived from them."""
    blocks = tuple(replace(block, values=block.values.copy()) for block in scene.sample.blocks)
    return replace(scene, sample=replace(scene.sample, blocks=blocks))


def _size(scene: Scene) -> int:
    return sum(block.values.nbytes for block in scene.sample.blocks)
