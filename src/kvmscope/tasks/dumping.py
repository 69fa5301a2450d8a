"""The scenes to dump: of this host, or of a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ..collect import SceneHost
from ..errors import RecordingError
from ..scene import Scene
from ..store.places import open_place
from ..store.replay import readable_moments
from ..store.spans import all_spans
from ..store.times import choose_times


def live_scenes(open_it: Callable[[], SceneHost], interval_s: float, count: int) -> Iterator[tuple[Scene, bool]]:
    """Scenes of this host, and whether each is the first."""
    with open_it() as host:
        yield host.look(), True
        for _ in range(count - 1):
            yield host.look_after(interval_s), False


def recorded_scenes(
    place: str,
    between: tuple[str, str] | None,
    interval_s: float | None,
    note_damage: Callable[[Iterable[Exception]], None],
) -> Iterator[tuple[Scene, bool]]:
    """Scenes of a recording, and whether each is the first of its boot and source; at the end, damage is noted. Raises
    UsageError, RecordingError if nothing can be read."""
    series = open_place(place)
    damaged: dict[str, RecordingError] = {}
    has_any = False
    for span in all_spans(series, choose_times(readable_moments(series), None, between)):
        is_first = True
        for moment in (span if interval_s is None else span.every(interval_s)).moments:
            if moment.part in damaged:
                continue
            try:
                scene = series.scene(moment)
            except RecordingError as error:
                damaged[moment.part] = error
                continue
            yield scene, is_first
            is_first, has_any = False, True
    if damaged and not has_any:
        raise next(iter(damaged.values()))
    note_damage([*series.damage, *damaged.values()])
