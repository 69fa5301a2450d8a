"""The past that the server can show: scenes in memory, and older ones from a recording.

A recording may grow while it is read here; one thread reads it at a time. Rule: a past time is shown by the intervals
that lead up to it, so findings are those that the live host would have shown then.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Final, Generic, TypeVar

from ...errors import RecordingError, Unavailable, UsageError
from ...host.text import printable
from ...scene import Scene
from ...store.cursor import place_beside
from ...store.replay import LookPlan, SceneMoment, SceneSeries, TimeChoice, choose, moments_of
from ...store.spans import stretches
from ...store.times import parse_time
from ...view.heat import MOST_COLUMNS
from ...view.timeline import TimelineHost, TimelineStretch
from ...view.values import Moment
from ...view.watch import HostView, Watch
from .history import MetricHistory
from .scene_memory import MEMORY, SceneMemory

MOST_SCENES: Final = MOST_COLUMNS + 1
"""Scenes that are read for a history. Their differences cover everything between them."""

_PATIENCE_S: Final = 10.0
FRESH_S: Final = 2.0
_HOUR_NS: Final = 3600 * 10**9
_JUDGED: Final = 12
"""Intervals before a time from which its findings are judged."""
_MOST_STRETCHES: Final = 300
_VIEWS_KEPT, _HISTORIES_KEPT = 4, 4

T = TypeVar("T")


class MergedSeries:
    """Scenes in memory, and scenes of a recording that are older or of other hosts."""

    can_grow = True

    def __init__(self, ring: SceneMemory, recording: SceneSeries) -> None:
        self._ring = ring
        self._recording = recording
        self.damage = recording.damage

    def moments(self) -> Sequence[SceneMoment]:
        here = self._ring.moments()
        before = self._recording.moments()
        if here:
            first = here[0]
            before = [each for each in before if each.host != first.host or each.taken_ns < first.taken_ns]
        return [*before, *here]

    def scene(self, moment: SceneMoment) -> Scene:
        return (self._ring if moment.part == MEMORY else self._recording).scene(moment)


@dataclass(frozen=True)
class ArchivedHost:
    """One host. ``id``: empty if unknown."""

    id: str
    name: str | None
    moments: Sequence[SceneMoment]

    def timeline(self, *, is_live: bool) -> TimelineHost:
        """The time spans with scenes."""
        steps = [b.boottime_ns - a.boottime_ns for a, b in zip(self.moments, self.moments[1:], strict=False)]
        return TimelineHost(
            id=self.id,
            name=self.name,
            live=is_live,
            begin=Moment(self.moments[0].taken_ns),
            end=Moment(self.moments[-1].taken_ns),
            scenes=len(self.moments),
            step_s=round(median(steps) / 1e9, 3) if steps else 0.0,
            stretches=[
                TimelineStretch(begin=Moment(first.taken_ns), end=Moment(last.taken_ns))
                for first, last in stretches(self.moments)[-_MOST_STRETCHES:]
            ],
        )


class SceneArchive:
    """Answers questions about times of ``series``, limited to the chosen ``times``. Any thread may use it.

    ``interval_s``: the minimum length of shown intervals. ``fresh_s``: for how long the list of scenes is cached.
    """

    def __init__(
        self, series: SceneSeries, interval_s: float, times: TimeChoice | None = None, *, fresh_s: float = FRESH_S
    ) -> None:
        self._series = series
        self._interval_s = interval_s
        self._fresh_s = fresh_s
        self._times = times or TimeChoice()
        self._lock = threading.Lock()
        self._hosts: tuple[float, list[ArchivedHost]] | None = None
        self._names: dict[str, str | None] = {}
        self._views: _Kept[HostView] = _Kept(_VIEWS_KEPT)
        self._histories: _Kept[MetricHistory] = _Kept(_HISTORIES_KEPT)

    @property
    def damage(self) -> Sequence[RecordingError]:
        return self._series.damage

    @property
    def start_ns(self) -> int | None:
        """The time to show first; None for the newest."""
        return self._times.at_ns

    def hosts(self) -> list[ArchivedHost]:
        """Every host, the most recently seen first. Raises RecordingError."""
        with self._turn():
            return self._found_hosts()

    def view_at(self, host: str | None, time_text: str | None) -> HostView:
        """The view at a time. Raises UsageError if there is no scene or interval, RecordingError."""
        with self._turn():
            found = self._host(host)
            at_ns = self.start_ns if time_text is None else self.parse(time_text, found)
            chosen = self._intervals(found.moments, at_ns)
            return self._views.get(tuple(chosen), lambda: self._judged(chosen))

    @contextmanager
    def scenes(self, host: str | None, since: str | None, until: str | None) -> Iterator[Iterator[Scene]]:
        """The scenes of a time span, evenly spread, and the one before it. Raises UsageError, RecordingError.

        ``since`` defaults to an hour before ``until``, which defaults to the time to show first. All other calls
        wait until the context is left.
        """
        with self._turn():
            yield map(self._series.scene, self._spread(host, since, until))

    def metric_history(self, host: str | None, since: str | None, until: str | None) -> MetricHistory:
        """The metrics that ``status`` shows, of every VM, in a time span. Raises UsageError, RecordingError."""
        with self._turn():
            chosen = self._spread(host, since, until)
            return self._histories.get(tuple(chosen), lambda: self._remembered(chosen))

    def parse(self, text: str, host: ArchivedHost) -> int:
        """The time that a user wrote, in ns. Raises UsageError."""
        return parse_time(text, host.moments[-1].taken_ns)

    # --- with the turn held -------------------------------------------------------------------------------------------

    def _found_hosts(self) -> list[ArchivedHost]:
        now_s = time.monotonic()
        if self._hosts is None or now_s - self._hosts[0] > self._fresh_s:
            times = self._times if self._times.is_span else TimeChoice()
            by_host: dict[str, list[SceneMoment]] = {}
            for moment in moments_of(self._series.moments(), times):
                by_host.setdefault(moment.host or "", []).append(moment)
            found = [ArchivedHost(host, self._name(host, moments[-1]), moments) for host, moments in by_host.items()]
            found.sort(key=lambda each: -each.moments[-1].taken_ns)
            self._hosts = now_s, found
        return self._hosts[1]

    def _name(self, host: str, moment: SceneMoment) -> str | None:
        if host not in self._names:
            self._names[host] = self._series.scene(moment).machine.hostname.value
        return self._names[host]

    def _host(self, text: str | None) -> ArchivedHost:
        hosts = self._found_hosts()
        if not hosts:
            raise UsageError("there are no scenes yet")
        if text is None:
            return hosts[0]
        for host in hosts:
            if text in (host.id, host.name):
                return host
        names = ", ".join(printable(each.name or each.id) for each in hosts)
        raise UsageError(f"there is no host '{printable(text)}'; there are {names}")

    def _intervals(self, moments: Sequence[SceneMoment], at_ns: int | None) -> list[SceneMoment]:
        """The moments up to a time, an interval apart."""
        plan = LookPlan((self._interval_s,) * _JUDGED, is_one_window=False)
        try:
            return choose(moments, plan, TimeChoice(at_ns=at_ns))
        except UsageError:  # no interval ends with the first scene: it is shown with the next one
            place = len(moments_of(moments, TimeChoice(at_ns=at_ns))) - 1
            if place < 0:
                raise
            after = place_beside(moments, place, self._interval_s, 1)
            if not moments[after].follows(moments[place]):
                raise
            return [moments[place], moments[after]]

    def _judged(self, moments: Sequence[SceneMoment]) -> HostView:
        watch = Watch()
        views = [watch.add(self._series.scene(moment)) for moment in moments]
        assert views[-1] is not None  # each scene follows the previous one
        return views[-1]

    def _spread(self, host: str | None, since: str | None, until: str | None) -> Sequence[SceneMoment]:
        found = self._host(host)
        newest_ns = self.start_ns or found.moments[-1].taken_ns
        end_ns = newest_ns if until is None else self.parse(until, found)
        begin_ns = end_ns - _HOUR_NS if since is None else self.parse(since, found)
        if begin_ns > end_ns:
            raise UsageError(f"{printable(since or '')} is after {printable(until or 'the end')}")
        return _evenly(_between(found.moments, begin_ns, end_ns), MOST_SCENES)

    def _remembered(self, moments: Sequence[SceneMoment]) -> MetricHistory:
        watch, history = Watch(), MetricHistory(kept_s=None)
        last: SceneMoment | None = None
        for moment in moments:
            if last is not None and not moment.follows(last):
                watch = Watch()
            view, last = watch.add(self._series.scene(moment)), moment
            if view is not None:
                history.add(view)
        return history

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=_PATIENCE_S):
            raise Unavailable("the recording is being read for other requests", remedy="try again in a moment")
        try:
            yield
        finally:
            self._lock.release()


class _Kept(Generic[T]):
    """A cache of the last value, with its key."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._made: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._made:
            self._made[key] = make()
            while len(self._made) > self._most:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        return self._made[key]


def _between(moments: Sequence[SceneMoment], begin_ns: int, end_ns: int) -> Sequence[SceneMoment]:
    """The moments of a time span, and the one before it, with which the first interval begins."""
    times = [moment.taken_ns for moment in moments]
    first = max(0, bisect_left(times, begin_ns) - 1)
    return moments[first : bisect_left(times, end_ns + 10**6)]


def _evenly(moments: Sequence[SceneMoment], most: int) -> Sequence[SceneMoment]:
    """At most ``most`` of the moments, evenly spread over their time regardless of boots."""
    if len(moments) <= most:
        return moments
    times = [moment.taken_ns for moment in moments]
    begin, end = times[0], times[-1]
    wanted = (begin + (end - begin) * step // (most - 1) for step in range(most))
    return [moments[place] for place in sorted({bisect_left(times, time_ns) for time_ns in wanted})]
