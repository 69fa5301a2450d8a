"""What makes a recording a ring, and how its tiers are written."""

from __future__ import annotations

import pytest

from kvmscope.store.ring import DEFAULT_TIERS, RingLimits, RingTier, parse_tiers, ring_limits


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
