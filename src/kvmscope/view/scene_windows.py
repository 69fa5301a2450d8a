"""Windows between consecutive scenes, where they can make one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from ..analysis.window import Window
from ..errors import UsageError
from ..scene import Scene


def windows_of(scenes: Iterable[Scene]) -> Iterator[tuple[Scene, Window]]:
    """The window between each scene and the one before it, with the scene that ends it.

    Two scenes of which the second is of another boot or source make none.
    """
    for before, scene in pairwise(scenes):
        try:
            window = Window(before, scene)
        except UsageError:
            continue
        yield scene, window
