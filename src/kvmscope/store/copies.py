"""Parts of recordings with the same scenes: copies made under another name. Pure.

Rule: of two parts with a common scene, one is read and the other is left out as a whole. The part that covers more time
is kept, else the one with more scenes, else the first. No recorder writes a scene to two parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import RecordingError

SceneKey = tuple[str | None, str | None, int, int]
"""The unique key of a scene: host, boot, CLOCK_BOOTTIME, CLOCK_REALTIME."""


@dataclass(frozen=True, slots=True)
class PartSpan:
    """A segment, a journal, or a file with scenes. ``path``: its name in messages. ``begin_ns``, ``end_ns``:
    CLOCK_REALTIME of its first and last scene. ``keys``: returns the keys of its scenes; called only if needed.
    """

    path: str
    host: str | None
    begin_ns: int
    end_ns: int
    keys: Callable[[], Sequence[SceneKey]]


def find_copies(parts: Sequence[PartSpan]) -> dict[int, RecordingError]:
    """The places of the parts that are left out, and why."""
    found: dict[int, RecordingError] = {}
    for group in _at_one_time(parts):
        keys = {place: parts[place].keys() for place in group}
        has: dict[SceneKey, int] = {}
        for place in sorted(group, key=lambda place: (*_worth(keys[place]), place)):
            other = next((has[key] for key in keys[place] if key in has), None)
            if other is None:
                has.update(dict.fromkeys(keys[place], place))
            else:
                reason = f"it has scenes that {parts[other].path} has too, and is left out: each is read once"
                found[place] = RecordingError(reason, path=parts[place].path)
    return found


def _worth(keys: Sequence[SceneKey]) -> tuple[int, int]:
    """The sort key that decides which of two parts is kept."""
    times = [boottime_ns for _, _, boottime_ns, _ in keys]
    return min(times, default=0) - max(times, default=0), -len(keys)


def _at_one_time(parts: Sequence[PartSpan]) -> Iterator[list[int]]:
    """Groups of indexes of parts of one host whose times overlap."""
    group: list[int] = []
    host, until_ns = None, 0
    order = sorted(range(len(parts)), key=lambda place: (parts[place].host or "", parts[place].begin_ns))
    for place in order:
        part = parts[place]
        if group and (part.host != host or part.begin_ns > until_ns):
            if len(group) > 1:
                yield group
            group, until_ns = [], 0
        group.append(place)
        host, until_ns = part.host, max(until_ns, part.end_ns)
    if len(group) > 1:
        yield group
