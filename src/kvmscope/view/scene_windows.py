"""Windows between consecutive scenes of one boot and source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from ..analysis.window import Window
from ..errors import UsageError
from ..scene import Scene


def windows_of(scenes: Iterable[Scene]) -> Iterator[tuple[Scene, Window]]:
    """The window between each scene and the one before it, with the scene that ends it.

    If the second of two scenes is of another boot or source, they form no window.
    """
    for before, scene in pairwise(scenes):
        try:
            window = Window(before, scene)
        except UsageError:
            continue
        yield scene, window
