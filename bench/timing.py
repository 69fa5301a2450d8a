"""How things are timed: in adjacent pairs, so that what disturbs the machine disturbs both sides of a ratio.

A round is the fastest of twenty calls in a row, since others use the machine too. A pair is a round of each side, the
order swapped from pair to pair. The ratio is the median of the pairs' ratios; the ratio of the minima stands beside it,
as what the two cost when nothing else runs.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Final

from kvmscope.units import format_seconds

CALLS_A_ROUND: Final = 20
WARM_UP: Final = 10

Timed = Callable[[], int]
"""Does the thing once and returns the nanoseconds that it took."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Nanoseconds of two things, called in turn; ``first[i]`` and ``second[i]`` are adjacent in time."""

    first: list[int]
    second: list[int]

    @property
    def ratio(self) -> float:
        return median(a / b for a, b in zip(self.first, self.second, strict=True))

    @property
    def ratio_of_minima(self) -> float:
        return min(self.first) / min(self.second)

    @property
    def note(self) -> str:
        return (
            f"{self.ratio_of_minima:.2f} of the minima; medians {duration(median(self.first))} and"
            f" {duration(median(self.second))}, minima {duration(min(self.first))} and {duration(min(self.second))}"
        )


def timed(call: Callable[[], object]) -> Timed:
    """A Python callable, timed from outside; what it returns is freed after the clock has stopped."""

    def once() -> int:
        began = time.perf_counter_ns()
        result = call()
        took = time.perf_counter_ns() - began
        del result
        return took

    return once


def pairs(first: Timed, second: Timed, *, rounds: int, calls: int = CALLS_A_ROUND) -> Pairs:
    """Time both in turn, ``rounds`` times of so many calls, after a few calls to warm up.

    With one call a round, the ratio has all that each call costs, memory that it takes included.
    """
    for _ in range(WARM_UP):
        first()
        second()
    taken = Pairs([], [])
    gc.collect()
    for turn in range(rounds):
        if turn % 2:
            a, b = best(first, calls), best(second, calls)
        else:
            b, a = best(second, calls), best(first, calls)
        taken.first.append(a)
        taken.second.append(b)
    return taken


def repeat(call: Timed, *, rounds: int) -> list[int]:
    """Nanoseconds of ``rounds`` rounds, after a few calls to warm up."""
    for _ in range(WARM_UP):
        call()
    return [best(call) for _ in range(rounds)]


def best(call: Timed, calls: int = CALLS_A_ROUND) -> int:
    """One round."""
    return min(call() for _ in range(calls))


def duration(ns: float) -> str:
    """Nanoseconds with three significant digits, in the unit that fits."""
    return format_seconds(ns / 1e9)
