"""What makes a recording a ring, and how its tiers are written."""

from __future__ import annotations

import pytest

from kvmscope.store.layout import SegmentPlace
from kvmscope.store.ring import (
    DEFAULT_TIERS,
    DatedSegment,
    RingLimits,
    RingTier,
    on_one_clock,
    parse_tiers,
    ring_limits,
)


@pytest.mark.parametrize(
    ("text", "tiers"),
    [
        ("none", ()),
        ("all:1h", (RingTier(0, 3600.0),)),
        ("all:1h, 10s:24h", (RingTier(0, 3600.0), RingTier(10, 86400.0))),
        ("1m:10000h", (RingTier(60, 36_000_000.0),)),
    ],
)
def test_tiers_are_written_as_resolution_and_age(text: str, tiers: tuple[RingTier, ...]) -> None:
    assert parse_tiers(text) == tiers


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a time"),
        ("all", "'all' is not a tier"),
        ("10s", "'10s' is not a tier"),
        ("1500ms:1h", "whole seconds"),
        ("1h:1h", "'1h:1h' is not a tier"),
        ("10s:1h,all:2h", "coarser than the one before"),
        ("all:2h,10s:1h", "last longer"),
        ("all:1h,", "not a time"),
    ],
)
def test_what_is_not_a_list_of_tiers_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_tiers(text)


def test_a_recording_without_limits_is_no_ring() -> None:
    assert ring_limits(1.0, None, None, None) == RingLimits()
    assert ring_limits(1.0, None, None, ()) == RingLimits()


def test_a_ring_has_the_default_tiers_unless_others_are_named() -> None:
    assert ring_limits(1.0, 60.0, None, None).tiers == DEFAULT_TIERS
    assert ring_limits(1.0, None, 1 << 30, ()) == RingLimits(None, 1 << 30, ())


def test_a_tier_as_fine_as_the_interval_keeps_every_scene() -> None:
    kept = ring_limits(10.0, 3600.0, None, (RingTier(10, 60.0), RingTier(60, 3600.0))).tiers
    assert kept == (RingTier(0, 60.0), RingTier(60, 3600.0))


def dated(
    number: int, wall_s: tuple[int, int], boottime_s: tuple[int, int] = (0, 0), boot: str | None = "a"
) -> DatedSegment:
    place = SegmentPlace.of(number, "host", 0)
    first, last, begin, end = (second * 10**9 for second in (*wall_s, *boottime_s))
    return DatedSegment(place, first, last, begin, end, boot)


def shown(segments: list[DatedSegment]) -> list[tuple[int, int]]:
    return [(each.begin_ns // 10**9, each.end_ns // 10**9) for each in on_one_clock(segments)]


def test_ages_within_a_boot_are_by_time_since_boot() -> None:
    set_back = [dated(1, (9000, 9010), (0, 10)), dated(2, (9011, 9020), (11, 20)), dated(3, (5021, 5030), (21, 30))]
    assert shown(set_back) == [(5000, 5010), (5011, 5020), (5021, 5030)]
    set_within = [dated(1, (9000, 9010), (0, 10)), dated(2, (5015, 9014), (11, 20))]
    assert shown(set_within) == [(8994, 9004), (9005, 9014)]


def test_ages_across_boots_are_by_the_wall_clock_and_never_go_back() -> None:
    assert shown([dated(1, (100, 110), (900, 910)), dated(2, (150, 160), (0, 10), "b")]) == [(100, 110), (150, 160)]
    assert shown([dated(1, (900, 910), (900, 910)), dated(2, (150, 160), (0, 10), "b")]) == [(140, 150), (150, 160)]


def test_a_segment_without_times_stays_without() -> None:
    assert shown([dated(1, (0, 0), boot=None), dated(2, (150, 160), (0, 10))]) == [(0, 0), (150, 160)]
