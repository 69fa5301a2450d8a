"""The schedule of a recorder: no drift, missed ticks are counted, and clocks that jump are told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvmscope.store.schedule import ClockReading, TickSchedule, clock_events

SECOND = 10**9


@given(st.lists(st.integers(0, 5 * SECOND), max_size=50))
def test_every_tick_is_taken_or_missed_once_and_lies_on_the_grid(delays: list[int]) -> None:
    start, now = 77, 77
    schedule = TickSchedule(start, SECOND)
    missed = 0
    for taken, delay in enumerate(delays, 1):
        now += schedule.wait_ns(now) + delay
        missed += schedule.take(now)
        assert taken + missed == schedule.due == (now - start) // SECOND + 1


def test_a_late_look_delays_no_other() -> None:
    schedule = TickSchedule(0, SECOND)
    assert schedule.take(0) == 0
    assert schedule.take(SECOND * 3 // 2) == 0
    assert schedule.wait_ns(SECOND * 3 // 2) == SECOND // 2
    assert schedule.take(SECOND * 5) == 3


def test_suspend_and_a_step_of_the_wall_clock_are_told_apart() -> None:
    before = ClockReading(0, 100, 1_000)
    slept = ClockReading(SECOND, 100 + 31 * SECOND, 1_000 + 31 * SECOND)
    assert list(clock_events(before, slept)) == ["the host was suspended for 30 s"]
    ahead = ClockReading(SECOND, 100 + SECOND, 1_000 + 3601 * SECOND)
    assert list(clock_events(before, ahead)) == ["the wall clock was set forward by 3600 s"]
    back = ClockReading(SECOND, 100 + SECOND, 1_000 - SECOND)
    assert list(clock_events(before, back)) == ["the wall clock was set back by 2 s"]


def test_slewing_and_long_pauses_are_not_steps() -> None:
    hour = 3600 * SECOND
    assert list(clock_events(ClockReading(0, 0, 0), ClockReading(hour, hour, hour + hour // 2000))) == []
