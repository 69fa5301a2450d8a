"""The last scenes in memory, limited by time and size.

Rule: only data as read is held. Values that others computed from a scene are not kept with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..sample import Block, I64Array, U64Array
from ..scene import Scene

_BYTES_OF_A_ROW = 200


class SceneRing:
    """Holds the scenes of the last ``span_s`` seconds, fewer if their total size exceeds ``size_bytes``."""

    def __init__(self, span_s: float, size_bytes: int) -> None:
        self._span_ns = round(span_s * 1e9)
        self._most_bytes = size_bytes
        self._scenes: deque[tuple[Scene, int]] = deque()
        self.size_bytes = 0

    def add(self, scene: Scene) -> None:
        size = scene_bytes(scene)
        self._scenes.append((_as_read(scene), size))
        self.size_bytes += size
        oldest_ns = scene.sample.monotonic_ns - self._span_ns
        while self._scenes and (
            self.size_bytes > self._most_bytes or self._scenes[0][0].sample.monotonic_ns < oldest_ns
        ):
            self.size_bytes -= self._scenes.popleft()[1]

    def take(self) -> Iterator[Scene]:
        """Remove and return all scenes, oldest first."""
        while self._scenes:
            scene, size = self._scenes.popleft()
            self.size_bytes -= size
            yield scene

    def __len__(self) -> int:
        return len(self._scenes)


def _as_read(scene: Scene) -> Scene:
    """The scene without the columns that were copied to judge it."""
    blocks = tuple(Block(block.schema, block.values, block.rows) for block in scene.sample.blocks)
    return replace(scene, sample=replace(scene.sample, blocks=blocks))


def scene_bytes(scene: Scene) -> int:
    """The approximate memory of a scene: the arrays that its columns are views of, each once, and its rows."""
    sample = scene.sample
    arrays = [part for block in sample.blocks for part in (block.values, block.rows)]
    owners = {id(owner): owner.nbytes for owner in map(_owner, arrays)}
    return sum(owners.values()) + _BYTES_OF_A_ROW * (len(sample.vms) + len(sample.vcpus))


def _owner(array: U64Array | I64Array) -> U64Array | I64Array:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
