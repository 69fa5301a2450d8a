"""Spans of a recording, each of one boot, host and source, as sequences of scenes that are read lazily.

Comparisons and charts of a long time use scenes evenly spread over it. Counts lose nothing by that, since the
difference of two scenes includes everything in between.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from ..errors import UsageError
from ..scene import Scene
from .replay import EARLY, SceneMoment, SceneSeries, TimeChoice, holes, moments_of


class SceneSpan(Sequence[Scene]):
    """Scenes of one boot and source in order, each read on access and not cached.

    ``moments``: those of the scenes.
    """

    def __init__(self, series: SceneSeries, moments: Sequence[SceneMoment]) -> None:
        self._series = series
        self.moments = moments

    def spread(self, most: int) -> SceneSpan:
        """At most ``most`` scenes spread evenly over the same time, including the first and the last."""
        return SceneSpan(self._series, spread(self.moments, most))

    def every(self, interval_s: float) -> SceneSpan:
        """The scenes at least this far apart (minus 5 %), including the first."""
        kept: list[SceneMoment] = []
        for moment in self.moments:
            if not kept or moment.boottime_ns - kept[-1].boottime_ns >= interval_s * (1 - EARLY) * 1e9:
                kept.append(moment)
        return SceneSpan(self._series, kept)

    def __len__(self) -> int:
        return len(self.moments)

    def __iter__(self) -> Iterator[Scene]:
        return map(self._series.scene, self.moments)

    @overload
    def __getitem__(self, index: int) -> Scene: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Scene]: ...
    def __getitem__(self, index: int | slice) -> Scene | Sequence[Scene]:
        if isinstance(index, slice):
            return SceneSpan(self._series, self.moments[index])
        return self._series.scene(self.moments[index])


@dataclass(frozen=True, slots=True)
class HostSpans:
    """The longest span of each host, and the number of other scenes, which are of other boots or sources."""

    spans: tuple[SceneSpan, ...]
    left_out: int


def open_spans(series: SceneSeries, times: TimeChoice, hosts: Sequence[str] = ()) -> HostSpans:
    """The longest span of each host within these times; only of ``hosts`` if given.

    A host is named by its host name or by a prefix of its opaque id. Raises UsageError if there is no such scene.
    """
    spans = all_spans(series, times)
    longest: dict[str, SceneSpan] = {}
    for span in spans:
        scene = span[0]
        host = scene.origin.host if scene.origin else ""
        if hosts and not any(_is_called(scene, name) for name in hosts):
            continue
        if host not in longest or len(span) > len(longest[host]):
            longest[host] = span
    if not longest:
        raise UsageError(f"the recording has no scene of {', '.join(hosts)}")
    return HostSpans(tuple(longest.values()), sum(map(len, spans)) - sum(map(len, longest.values())))


def all_spans(series: SceneSeries, times: TimeChoice) -> list[SceneSpan]:
    """Every span within these times. Raises UsageError if there is none."""
    moments = moments_of(series.moments(), times)
    if not moments:
        raise UsageError("the recording has no scene at this time")
    return [SceneSpan(series, run) for run in runs(moments)]


def runs(moments: Sequence[SceneMoment]) -> list[Sequence[SceneMoment]]:
    """The moments, split wherever one cannot make a window with the previous one."""
    found: list[list[SceneMoment]] = []
    for moment in moments:
        if found and moment.follows(found[-1][-1]):
            found[-1].append(moment)
        else:
            found.append([moment])
    return list(found)


def stretches(moments: Sequence[SceneMoment]) -> list[tuple[SceneMoment, SceneMoment]]:
    """The first and the last moment of each period of scenes without a break."""
    found: list[tuple[SceneMoment, SceneMoment]] = []
    for run in runs(moments):
        breaks = holes(run)
        firsts = [run[0], *(after for _, after in breaks)]
        lasts = [*(before for before, _ in breaks), run[-1]]
        found += zip(firsts, lasts, strict=True)
    return found


def spread(moments: Sequence[SceneMoment], most: int) -> Sequence[SceneMoment]:
    """At most ``most`` (2 or more) of the moments of one run, spread evenly over their time, with the first and the
    last."""
    if len(moments) <= most:
        return moments
    times_ns = [moment.boottime_ns for moment in moments]
    begin, end = times_ns[0], times_ns[-1]
    wanted = (begin + (end - begin) * step // (most - 1) for step in range(most))
    return [moments[place] for place in sorted({bisect_left(times_ns, time_ns) for time_ns in wanted})]


def _is_called(scene: Scene, name: str) -> bool:
    origin = scene.origin.host if scene.origin else ""
    return bool(name) and (name == scene.machine.hostname.value or origin.startswith(name))
