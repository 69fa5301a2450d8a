"""The scenes of the last hour in memory, at even distances, as many as there is room for.

Counts only go up, so the difference of two scenes has all that happened in between: where scenes are left out, charts
are coarser, and no value is lost.
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
"""The part, in ``SceneMoment``, of scenes that are here."""


class SceneMemory:
    """Remembers scenes for ``kept_s`` seconds in at most ``most_bytes``; for any thread. ``damage``: there is none."""

    can_grow = True

    def __init__(self, *, kept_s: float = KEPT_S, most_bytes: int = MEMORY_BYTES) -> None:
        self._kept_ns = round(kept_s * 1e9)
        self._most_bytes = most_bytes
        self._step_ns = 0
        self._scenes: dict[int, Scene] = {}
        self._lock = threading.Lock()
        self.damage: list[RecordingError] = []

    def add(self, scene: Scene) -> None:
        """One more scene, which is kept unless the last one that is kept is too near."""
        taken_ns = scene.sample.taken_ns
        with self._lock:
            last_ns = next(reversed(self._scenes), None)
            while last_ns is not None and taken_ns < last_ns:  # somebody has set the clock back
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
        """The scene of a moment. Raises RecordingError if it is not kept any more."""
        with self._lock:
            found = self._scenes.get(moment.taken_ns)
        if found is None:
            raise RecordingError("this scene has been deleted", path=MEMORY)
        return found

    def _thin(self) -> None:
        """Leave out every second scene until there is room."""
        while len(self._scenes) > 2 and sum(map(_size, self._scenes.values())) > self._most_bytes:
            times = list(self._scenes)
            self._step_ns = 2 * max(self._step_ns, (times[-1] - times[0]) // (len(times) - 1))
            for taken_ns in times[1::2]:
                del self._scenes[taken_ns]


def _own(scene: Scene) -> Scene:
    """The scene with memory of its own: sources use theirs again, and blocks keep what was worked out of them."""
    blocks = tuple(replace(block, values=block.values.copy()) for block in scene.sample.blocks)
    return replace(scene, sample=replace(scene.sample, blocks=blocks))


def _size(scene: Scene) -> int:
    return sum(block.values.nbytes for block in scene.sample.blocks)
