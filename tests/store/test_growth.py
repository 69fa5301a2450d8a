"""Where a scene is in a recording that has changed since, and whether a recorder is at work."""

from __future__ import annotations

import pytest

from kvmscope.store.growth import is_written, place_in
from kvmscope.store.replay import SceneMoment

SECOND = 10**9


def moments(*seconds: int) -> list[SceneMoment]:
    return [SceneMoment(second * SECOND, second * SECOND, "boot", "bpf", False, place=second) for second in seconds]


@pytest.mark.parametrize(
    ("now", "place"),
    [
        (moments(1, 2, 3, 4, 5), 2),
        (moments(2, 3, 4), 1),
        (moments(0, 1, 2, 3, 4), 3),
        (moments(1, 2, 4), 1),
        (moments(4, 5), 0),
    ],
    ids=["it-grew", "a-ring-deleted-others", "others-were-put-before-it", "it-was-thinned", "all-before-was-deleted"],
)
def test_a_moment_is_found_wherever_it_is_by_now(now: list[SceneMoment], place: int) -> None:
    assert place_in(now, moments(3)[0], 2) == place


@pytest.mark.parametrize(
    ("recorded", "now_s", "is_at_work"),
    [
        (moments(10, 11), 15.9, True),
        (moments(10, 11), 16.1, False),
        (moments(10, 70), 250, True),
        (moments(10, 70), 253, False),
        (moments(11), 12.9, True),
        (moments(11), 13.1, False),
        (moments(1_000, 1_001), 12, False),
    ],
)
def test_a_recorder_is_at_work_while_scenes_come_when_they_are_due(
    recorded: list[SceneMoment], now_s: float, is_at_work: bool
) -> None:
    assert is_written(recorded, round(now_s * SECOND)) == is_at_work
