"""What is shown of a time of a recording: what is left out of it is said, with the reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvmscope.store.replay import LookPlan, SceneMoment, TimeChoice, choose, omissions

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
