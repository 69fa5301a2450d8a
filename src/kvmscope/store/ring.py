"""How long a ring keeps scenes, and at which resolution. Pure.

Rule: a part of a recording is thinned or deleted by the age of its last scene relative to the newest scene, so a ring
without a writer loses nothing. Within a boot, ages are by CLOCK_BOOTTIME: a step of the wall clock makes no scene older
or younger.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from ..units import parse_seconds, quoted
from .layout import SegmentPlace

HOUR_S: Final = 3600.0
DAY_S: Final = 24 * HOUR_S


@dataclass(frozen=True, slots=True)
class RingTier:
    """Of scenes younger than ``until_s``, one is kept every ``resolution_s``; 0: all."""

    resolution_s: int
    until_s: float


DEFAULT_TIERS: Final = (RingTier(0, HOUR_S), RingTier(10, DAY_S), RingTier(60, 30 * DAY_S))

_FULL_RATE = "all"
_NO_TIERS = "none"

_MERGED_SCENES = 360
_PARTS_IN_A_TIER = 8
"""Minimum number of segments in a tier; with fewer, full resolution would be kept for much longer than requested."""


@dataclass(frozen=True, slots=True)
class RingLimits:
    """How much is kept: seconds before the newest scene, bytes of all files. None: no limit. ``tiers``: finest first.

    Scenes older than every tier are deleted, unless ``keep_s`` extends the last tier.
    """

    keep_s: float | None = None
    size_bytes: int | None = None
    tiers: tuple[RingTier, ...] = ()

    @property
    def deleted_after_s(self) -> float | None:
        """The age from which scenes are deleted; None: never."""
        if self.keep_s is not None:
            return self.keep_s
        return self.tiers[-1].until_s if self.tiers else None

    @property
    def bounds_s(self) -> Iterator[float]:
        """The ages at which scenes are thinned or deleted."""
        if self.keep_s is not None:
            yield self.keep_s
        yield from (tier.until_s for tier in self.tiers)


def parse_tiers(text: str) -> tuple[RingTier, ...]:
    """Tiers such as ``all:1h,10s:24h``; none of them for ``none``. Raises ValueError."""
    tiers = () if text == _NO_TIERS else tuple(_parse_tier(part.strip()) for part in text.split(","))
    if any(a.resolution_s >= b.resolution_s or a.until_s >= b.until_s for a, b in pairwise(tiers)):
        raise ValueError("each tier has to be coarser than the one before, and to last longer")
    return tiers


def _parse_tier(text: str) -> RingTier:
    resolution, colon, until = text.partition(":")
    resolution_s = 0.0 if resolution == _FULL_RATE else parse_seconds(resolution)
    until_s = parse_seconds(until) if colon else 0.0
    if resolution_s % 1 or until_s <= resolution_s:
        raise ValueError(f"{quoted(text)} is not a tier such as all:1h or 10s:24h, in whole seconds")
    return RingTier(int(resolution_s), until_s)


def ring_limits(
    interval_s: float, keep_s: float | None, size_bytes: int | None, tiers: Sequence[RingTier] | None
) -> RingLimits:
    """The limits of a ring; no limits if nothing requests a ring. A tier at least as fine as the interval keeps all
    scenes."""
    if keep_s is None and size_bytes is None and not tiers:
        return RingLimits()
    asked = DEFAULT_TIERS if tiers is None else tiers
    kept = (RingTier(tier.resolution_s if tier.resolution_s > interval_s else 0, tier.until_s) for tier in asked)
    return RingLimits(keep_s, size_bytes, tuple(kept))


@dataclass(frozen=True, slots=True)
class ThinningStep:
    """Scenes older than ``from_s`` become one every ``resolution_s``. ``span_s``: the time that is thinned at once."""

    resolution_s: int
    from_s: float
    span_s: float


def thinning_steps(limits: RingLimits) -> Sequence[ThinningStep]:
    """The thinning of scenes as they age, coarsest step first, so scenes that are already old are thinned only once."""
    steps = []
    from_s = 0.0
    keep_s = limits.deleted_after_s or 0.0
    for tier in limits.tiers:
        until_s = min(tier.until_s, keep_s)
        if tier.resolution_s and until_s > from_s:
            span_s = min(_MERGED_SCENES * tier.resolution_s, (until_s - from_s) / _PARTS_IN_A_TIER)
            steps.append(ThinningStep(tier.resolution_s, from_s, max(span_s, tier.resolution_s)))
        from_s = tier.until_s
    return steps[::-1]


@dataclass(frozen=True, slots=True)
class DatedSegment:
    """A segment with the times of its first and last scene in CLOCK_REALTIME nanoseconds; if known, also their time
    since boot and the boot of the last scene."""

    place: SegmentPlace
    begin_ns: int
    end_ns: int
    begin_boottime_ns: int = 0
    end_boottime_ns: int = 0
    boot: str | None = None

    @property
    def length_ns(self) -> int:
        """The time from its first to its last scene."""
        if self.boot is not None:
            return self.end_boottime_ns - self.begin_boottime_ns
        return self.end_ns - self.begin_ns


def on_one_clock(segments: Sequence[DatedSegment]) -> list[DatedSegment]:
    """The same segments with times of a clock that is never set and equals the wall clock at each host's last segment.
    ``segments``: in the order of recording. Segments without times are unchanged.
    """
    found: list[DatedSegment] = []
    after: dict[str, tuple[DatedSegment, DatedSegment]] = {}
    for segment in reversed(segments):
        dated = segment
        if segment.end_ns:
            end_ns = segment.end_ns
            if segment.place.host in after:
                following, its = after[segment.place.host]
                end_ns = its.begin_ns - _apart_ns(segment, following)
            dated = replace(segment, begin_ns=end_ns - segment.length_ns, end_ns=end_ns)
            after[segment.place.host] = (segment, dated)
        found.append(dated)
    return found[::-1]


def _apart_ns(segment: DatedSegment, following: DatedSegment) -> int:
    """The time from the end of a segment to the start of the next one."""
    if segment.boot is not None and segment.boot == following.boot:
        return max(0, following.begin_boottime_ns - segment.end_boottime_ns)
    return max(0, following.begin_ns - segment.end_ns)


def runs_to_thin(
    segments: Sequence[DatedSegment], step: ThinningStep, newest_ns: int, apart: Sequence[int] = ()
) -> Iterator[list[SegmentPlace]]:
    """The runs of segments that a step merges, each into one segment.

    ``segments``: in order. ``apart``: numbers of journals that lie between them and belong to none of them. A run is of
    one host and day; the last run waits until it is as long as the step's span.
    """
    limit_ns = newest_ns - round(step.from_s * 1e9)
    run: list[DatedSegment] = []
    for segment in segments:
        is_finer = segment.place.resolution_s < step.resolution_s
        if run and not (is_finer and _continues(run, segment, step, apart)):
            yield [each.place for each in run]
            run = []
        if is_finer and segment.end_ns < limit_ns:
            run.append(segment)
        elif run:
            break  # the run may continue with this segment
    if run and _span_s(run) >= step.span_s:
        yield [each.place for each in run]


def _continues(run: list[DatedSegment], segment: DatedSegment, step: ThinningStep, apart: Sequence[int]) -> bool:
    last = run[-1].place
    is_near = (last.host, last.date) == (segment.place.host, segment.place.date)
    return is_near and _span_s(run) < step.span_s and not any(last.last < n < segment.place.number for n in apart)


def _span_s(run: list[DatedSegment]) -> float:
    return (run[-1].end_ns - run[0].begin_ns) / 1e9
