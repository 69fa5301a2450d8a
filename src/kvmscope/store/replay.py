"""Chooses the scenes of a recording that a command looks at: those of a live host at that time. Pure.

Rule: without a time, a command sees the end of a recording; ``at`` a time, what it would have shown then; ``between``
two times, all of it as one window, or as consecutive windows for commands that judge each. An episode shows the time of
its findings; commands that judge each window see all of it up to then.
All chosen scenes are of the boot and source of the last one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from ..errors import RecordingError, UsageError
from ..units import rfc3339

if TYPE_CHECKING:
    from ..scene import Scene  # numpy: not needed to parse a command line

EARLY = 0.05
"""A scene may end an interval by this part of the interval too early."""

MS_NS = 10**6
"""The resolution of times that users type."""

_HOLE_STEPS, _HOLE_NS = 10, 60 * 10**9
_MOST_BETWEEN = 256
"""Limit for scenes that are read between two times if a VM is followed."""


@dataclass(frozen=True, slots=True)
class SceneMoment:
    """The time, host, boot and source of a scene, and its place in the recording."""

    taken_ns: int
    boottime_ns: int
    boot: str | None
    source: str
    simulated: bool
    part: str = ""
    place: int = 0
    host: str | None = None

    @classmethod
    def of(cls, scene: Scene, part: str = "", place: int = 0) -> SceneMoment:
        sample = scene.sample
        host, boot = (sample.origin.host, sample.origin.boot) if sample.origin else (None, None)
        return cls(sample.taken_ns, sample.monotonic_ns, boot, sample.source, sample.simulated, part, place, host)

    def is_same(self, other: SceneMoment) -> bool:
        """Whether both are of the same scene, even if its place has changed."""
        return (self.taken_ns, self.boottime_ns, self.boot) == (other.taken_ns, other.boottime_ns, other.boot)

    def follows(self, other: SceneMoment) -> bool:
        """Whether the two scenes can make a window."""
        mine = (self.host, self.boot, self.source, self.simulated)
        its = (other.host, other.boot, other.source, other.simulated)
        return mine == its and self.boottime_ns > other.boottime_ns


def passed_ns(before: SceneMoment, after: SceneMoment) -> int:
    """The time from one moment to another: within a boot by CLOCK_BOOTTIME, since the wall clock can be set."""
    if _is_one_boot(before, after):
        return after.boottime_ns - before.boottime_ns
    return after.taken_ns - before.taken_ns


def last_until(moments: Sequence[SceneMoment], time_ns: float) -> int | None:
    """The index of the latest moment up to a time; None if all are later. A time that occurred twice, since the wall
    clock was set back, is the second one.
    """
    places = [place for place, moment in enumerate(moments) if moment.taken_ns <= time_ns]
    return max(places, key=lambda place: (moments[place].taken_ns, place), default=None)


class SceneSeries(Protocol):
    """Scenes at known moments: a recording, or a file."""

    damage: list[RecordingError]

    @property
    def can_grow(self) -> bool:
        """Whether ``moments`` may return more later, and is cheap to call again."""

    def moments(self) -> Sequence[SceneMoment]: ...

    def scene(self, moment: SceneMoment) -> Scene: ...


def readable_moments(series: SceneSeries) -> Sequence[SceneMoment]:
    """The moment of each scene. Raises RecordingError if damage has left none, unlike for an empty recording."""
    moments = series.moments()
    if not moments and series.damage:
        raise series.damage[0]
    return moments


@dataclass(frozen=True, slots=True)
class LookPlan:
    """The looks of a command.

    ``steps_s``: seconds from each look to the next. ``goes_on``: repeat the last step until the end (--watch).
    ``is_one_window``: the looks are parts of one window of any length. ``follows``: it follows a VM, and checks in
    between whether the VM exists. ``whole_episode``: it looks at each scene of an episode if no time is given.
    """

    steps_s: tuple[float, ...] = ()
    goes_on: bool = False
    is_one_window: bool = True
    follows: bool = False
    whole_episode: bool = False


@dataclass(frozen=True, slots=True)
class TimeChoice:
    """A time of a recording, CLOCK_REALTIME nanoseconds. ``since_ns`` and ``until_ns`` are both given, or none is.

    An end includes the whole of its millisecond, since outputs have no more digits.
    """

    at_ns: int | None = None
    since_ns: int | None = None
    until_ns: int | None = None

    @property
    def is_span(self) -> bool:
        return self.since_ns is not None


def choose(moments: Sequence[SceneMoment], plan: LookPlan, times: TimeChoice) -> list[SceneMoment]:
    """The moments that a command looks at, in order. Raises UsageError if there are too few."""
    if not moments:
        raise UsageError("the recording has no scenes")
    chosen = _one_origin(within(moments, times, goes_on=plan.goes_on))
    if times.is_span:
        chosen = _of_span(chosen, plan)
    elif not plan.goes_on:
        chosen = _backward(chosen, plan)
    if len(chosen) < 1 + bool(plan.steps_s):
        raise UsageError("the recording has one scene at this time, and an interval needs two; name another time")
    return chosen


def moments_of(moments: Sequence[SceneMoment], times: TimeChoice, *, goes_on: bool = False) -> list[SceneMoment]:
    """The moments of a time choice. ``goes_on``: from ``at`` on instead of up to it."""
    if times.at_ns is not None:
        return _since(moments, times.at_ns) if goes_on else _until(moments, times.at_ns)
    return [
        moment
        for moment in moments
        if (times.since_ns is None or moment.taken_ns >= times.since_ns)
        and (times.until_ns is None or moment.taken_ns // MS_NS <= times.until_ns // MS_NS)
    ]


def _since(moments: Sequence[SceneMoment], time_ns: int) -> list[SceneMoment]:
    """The moments from a time on, including later ones at earlier times after the wall clock was set back."""
    found: list[SceneMoment] = []
    for moment in moments:
        if moment.taken_ns >= time_ns or (found and moment.follows(found[-1])):
            found.append(moment)
    return found


def _until(moments: Sequence[SceneMoment], time_ns: int) -> list[SceneMoment]:
    """The moments up to a time, without those of the same boot after the wall clock was set back."""
    found = [moment for moment in moments if moment.taken_ns // MS_NS <= time_ns // MS_NS]
    its = [place for place, moment in enumerate(found) if _is_one_boot(moment, found[-1])]
    last = last_until([found[place] for place in its], time_ns + MS_NS)
    return found if last is None else found[: its[last] + 1]


def _is_one_boot(moment: SceneMoment, other: SceneMoment) -> bool:
    return (moment.host, moment.boot) == (other.host, other.boot)


def within(moments: Sequence[SceneMoment], times: TimeChoice, *, goes_on: bool = False) -> list[SceneMoment]:
    """The moments of a time choice, as of ``moments_of``. Raises UsageError if there are none."""
    found = moments_of(moments, times, goes_on=goes_on)
    if not found:
        raise UsageError(
            f"the recording has no scene at this time; it begins {_date(moments[0])}, ends {_date(moments[-1])}"
        )
    return found


def _date(moment: SceneMoment) -> str:
    return rfc3339(moment.taken_ns, has_ms=False)


def _one_origin(moments: Sequence[SceneMoment]) -> list[SceneMoment]:
    """The longest tail of the moments in which each can make a window with the previous one."""
    first = len(moments) - 1
    while first and moments[first].follows(moments[first - 1]):
        first -= 1
    return list(moments[first:])


def omissions(moments: Sequence[SceneMoment], plan: LookPlan, times: TimeChoice) -> list[str]:
    """What a command does not show of the requested time, and why. For times for which ``choose`` returned moments."""
    if not (times.is_span or plan.goes_on):
        return _other_hosts(moments)
    asked = within(moments, times, goes_on=plan.goes_on)
    shown = _one_origin(asked)
    found = [f"nothing was recorded from {_date(a)} to {_date(b)}" for a, b in holes(shown)]
    if len(shown) < len(asked):
        last = asked[len(asked) - len(shown) - 1]
        found.insert(0, f"only the time from {_date(shown[0])} on is shown: {_parting(last, shown[0])}")
    return found


def _other_hosts(moments: Sequence[SceneMoment]) -> list[str]:
    hosts = len({moment.host for moment in moments})
    return [f"the recording has {hosts} hosts, and one of them is shown"] if hosts > 1 else []


def _parting(last: SceneMoment, first: SceneMoment) -> str:
    """Why two consecutive scenes cannot make an interval."""
    if last.host != first.host:
        return "the scenes before it are of another host; the recording has several"
    if last.boot != first.boot:
        return f"the host was restarted after {_date(last)}, and counts began again at 0"
    if (last.source, last.simulated) != (first.source, first.simulated):
        sources = f"{last.source} until {_date(last)}, and by {first.source} then"
        return f"the host was read by {sources}; counts of two sources cannot be compared"
    return f"the scene before it has a later time since boot ({_date(last)})"


def holes(moments: Sequence[SceneMoment]) -> list[tuple[SceneMoment, SceneMoment]]:
    """The scenes around each hole: a time without scenes that is much longer than the usual distance of two, and than a
    minute.

    ``moments``: of one boot and source.
    """
    pairs = list(pairwise(moments))
    if not pairs:
        return []
    from statistics import median  # imported late: 5 ms of each start

    usual_ns = median(b.boottime_ns - a.boottime_ns for a, b in pairs)
    least_ns = max(_HOLE_STEPS * usual_ns, _HOLE_NS)
    return [(a, b) for a, b in pairs if b.boottime_ns - a.boottime_ns > least_ns]


def _of_span(moments: list[SceneMoment], plan: LookPlan) -> list[SceneMoment]:
    if not plan.steps_s:
        return moments[-1:]
    if plan.goes_on or not plan.is_one_window:
        return moments
    if plan.follows:
        every = max(1, len(moments) // _MOST_BETWEEN)
        return [*moments[:-1:every], moments[-1]]
    begin, end = moments[0].boottime_ns, moments[-1].boottime_ns
    at, total, places = 0.0, sum(plan.steps_s), [0]
    for step_s in plan.steps_s[:-1]:
        at += step_s
        places.append(bisect_left(moments, begin + (end - begin) * at / total, key=lambda moment: moment.boottime_ns))
    return [moments[place] for place in sorted({*places, len(moments) - 1})]


def _backward(moments: list[SceneMoment], plan: LookPlan) -> list[SceneMoment]:
    """The last moment, and before it one for each step, at least that far apart; with ``follows`` also all between
    them."""
    path = [len(moments) - 1]
    for step_s in reversed(plan.steps_s):
        latest_ns = moments[path[-1]].boottime_ns - round(step_s * (1 - EARLY) * 1e9)
        place = bisect_right(moments, latest_ns, hi=path[-1], key=lambda moment: moment.boottime_ns) - 1
        if place < 0:
            break
        path.append(place)
    if len(path) <= len(plan.steps_s) and path[-1] > 0:
        path.append(0)  # a shorter interval than requested, at the beginning
    return moments[path[-1] :] if plan.follows else [moments[place] for place in reversed(path)]
