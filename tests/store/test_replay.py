"""What is shown of a time of a recording: what is left out of it is said, with the reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvmscope.store.cursor import ReplayCursor, place_at
from kvmscope.store.replay import LookPlan, SceneMoment, TimeChoice, choose, omissions
from kvmscope.store.times import choose_times

SECOND = 10**9
BEGIN_NS = 1_700_000_000 * SECOND
PLAN = LookPlan((1.0,))


def moments(*seconds: int, boot: str = "a", source: str = "bpf", since_boot_s: int = 100) -> list[SceneMoment]:
    return [
        SceneMoment(BEGIN_NS + n * SECOND, (since_boot_s + n) * SECOND, boot, source, False, place=n) for n in seconds
    ]


def span(first: int, last: int) -> TimeChoice:
    return TimeChoice(since_ns=BEGIN_NS + first * SECOND, until_ns=BEGIN_NS + last * SECOND)


RESTARTED = [*moments(*range(10)), *moments(*range(60, 70), boot="b", since_boot_s=-50)]
OTHER_SOURCE = [*moments(*range(10)), *moments(*range(10, 20), source="statsfd")]
GOES_BACK = [*moments(*range(10)), *moments(*range(10, 20), since_boot_s=50)]
SET_BACK = [
    *moments(*range(60)),
    *(replace(m, boottime_ns=m.boottime_ns + 40 * SECOND) for m in moments(*range(20, 50))),
]
"""The clock shows the seconds from 20 on again after 59."""
HOLE = moments(*range(10), *range(600, 610))


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (RESTARTED, "the host was restarted after 2023-11-14T22:13:29Z"),
        (OTHER_SOURCE, "the host was read by bpf until 2023-11-14T22:13:29Z, and by statsfd then"),
        (GOES_BACK, "a later time since boot"),
    ],
)
def test_a_time_across_a_restart_says_that_only_the_part_after_it_is_shown(
    found: list[SceneMoment], reason: str
) -> None:
    times = span(0, 100)
    shown = choose(found, PLAN, times)
    assert shown[0] == found[10]
    [said] = omissions(found, PLAN, times)
    assert said.startswith("only the time from ")
    assert reason in said


def test_a_time_after_the_restart_leaves_nothing_out() -> None:
    assert omissions(RESTARTED, PLAN, span(60, 100)) == []
    assert omissions(RESTARTED, PLAN, span(0, 9)) == []


def test_a_hole_in_a_time_is_said() -> None:
    assert choose(HOLE, PLAN, span(0, 700)) == [HOLE[0], HOLE[-1]]
    assert omissions(HOLE, PLAN, span(0, 700)) == [
        "nothing was recorded from 2023-11-14T22:13:29Z to 2023-11-14T22:23:20Z"
    ]
    assert omissions(HOLE, PLAN, span(600, 700)) == []


def test_scenes_that_are_far_apart_all_the_time_are_no_holes() -> None:
    found = moments(*range(0, 36_000, 600))
    assert omissions(found, PLAN, span(0, 36_000)) == []


def test_watching_says_it_too_and_one_time_leaves_nothing_out() -> None:
    watched = replace(PLAN, goes_on=True)
    assert len(omissions(RESTARTED, watched, TimeChoice(at_ns=BEGIN_NS))) == 1
    assert omissions(RESTARTED, PLAN, TimeChoice(at_ns=BEGIN_NS + 65 * SECOND)) == []


@pytest.mark.parametrize(("at_s", "boottime_s"), [(55, 155), (59, 159), (15, 115), (30, 170), (49, 189), (100, 159)])
def test_a_time_of_a_clock_that_was_set_back_is_the_last_that_it_showed(at_s: int, boottime_s: int) -> None:
    chosen = choose(SET_BACK, PLAN, TimeChoice(at_ns=BEGIN_NS + at_s * SECOND))
    assert [moment.boottime_ns // SECOND for moment in chosen] == [boottime_s - 1, boottime_s]
    assert place_at(SET_BACK, BEGIN_NS + at_s * SECOND) == SET_BACK.index(chosen[-1])


def test_from_a_time_on_goes_on_after_the_clock_was_set_back() -> None:
    plan = LookPlan((1.0,), goes_on=True)
    chosen = choose(SET_BACK, plan, TimeChoice(at_ns=BEGIN_NS + 55 * SECOND))
    assert [moment.boottime_ns // SECOND for moment in chosen] == list(range(155, 190))


def test_a_time_of_day_is_found_before_the_clock_was_set_back() -> None:
    at = choose_times(SET_BACK, "22:14:15", None).at_ns
    assert at == BEGIN_NS + 55 * SECOND
    early = [
        replace(moment, taken_ns=moment.taken_ns - (60 * SECOND if n >= 60 else 0)) for n, moment in enumerate(SET_BACK)
    ]
    assert choose_times(early, "22:14:15", None).at_ns == BEGIN_NS + 55 * SECOND


def test_a_replay_that_follows_a_recorder_goes_on_after_the_clock_was_set_back() -> None:
    cursor = ReplayCursor(SET_BACK, 1.0, int, place=55, is_growing=True)
    for _ in range(34):
        cursor.play()
    assert cursor.place == len(SET_BACK) - 1
