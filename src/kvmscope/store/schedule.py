"""When a recorder looks, and what the clocks show between two looks. Pure: clocks are passed in.

Rule: ticks are whole intervals after the first one, on CLOCK_MONOTONIC: a late look delays no other look.
Source: clock_gettime(2): CLOCK_BOOTTIME advances in suspend, CLOCK_MONOTONIC does not, CLOCK_REALTIME can be set.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ..units import format_seconds

_STEP_NS = 100_000_000
"""Slewing cannot shift two clocks by this much between two looks: adjtimex(2) slews by at most 0.05 %."""
_SLEW = 0.001


@dataclass(frozen=True, slots=True)
class ClockReading:
    """The three clocks at one moment, in nanoseconds."""

    monotonic_ns: int
    boottime_ns: int
    realtime_ns: int


def read_clocks() -> ClockReading:
    return ClockReading(
        time.clock_gettime_ns(time.CLOCK_MONOTONIC),
        time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        time.clock_gettime_ns(time.CLOCK_REALTIME),
    )


@dataclass(slots=True)
class TickSchedule:
    """Ticks at whole intervals after ``start_ns`` (CLOCK_MONOTONIC). ``due``: number of the next one."""

    start_ns: int
    interval_ns: int
    due: int = 0

    def wait_ns(self, now_ns: int) -> int:
        """The time until the next tick; 0 if it is due."""
        return max(0, self.start_ns + self.due * self.interval_ns - now_ns)

    def take(self, now_ns: int) -> int:
        """Take the due tick. Returns the number of ticks missed before it."""
        current = max(self.due, (now_ns - self.start_ns) // self.interval_ns)
        missed = current - self.due
        self.due = current + 1
        return missed


CLOCK_EVENT: Final = re.compile(
    r"the host was suspended for .*|the wall clock was set (?:forward|back) by .*", re.DOTALL
)
"""Matches the texts of ``clock_events``."""


def clock_events(before: ClockReading, now: ClockReading) -> Iterator[str]:
    """What happened to the clocks between two readings of one boot: suspend, and steps of the wall clock."""
    passed_ns = now.boottime_ns - before.boottime_ns
    suspended_ns = passed_ns - (now.monotonic_ns - before.monotonic_ns)
    if suspended_ns > _STEP_NS:
        yield f"the host was suspended for {format_seconds(suspended_ns / 1e9)}"
    step_ns = now.realtime_ns - before.realtime_ns - passed_ns
    if abs(step_ns) > _STEP_NS + passed_ns * _SLEW:
        direction = "forward" if step_ns > 0 else "back"
        yield f"the wall clock was set {direction} by {format_seconds(abs(step_ns) / 1e9)}"
