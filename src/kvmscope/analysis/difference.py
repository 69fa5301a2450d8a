"""How much a number differs between two sides, and whether that is more than its noise. Pure statistics.

A side is a series of values in time order, each of one interval, or one value per VM, in any order.

Standard error of a mean over time: neighbouring values depend on one another, so the spread of single values
understates it. ``n`` values whose neighbours correlate by ``r`` count as ``n (1 - r) / (1 + r)`` independent values,
which also gives the degrees of freedom. ``r`` is estimated without the bias of a short series and is raised by three
quarters of its own standard error. Dependence over longer distances shows in blocks: the error is also estimated from
the means of blocks of 2, 4, 8 … values while MIN_BLOCKS are left, and the widest estimate is used.
Sources: Bartlett, J. Roy. Stat. Soc. Suppl. 8 (1946) 27, for ``n (1 - r) / (1 + r)``; Kendall, Biometrika 41 (1954)
403, for the bias; Flyvbjerg and Petersen, J. Chem. Phys. 91 (1989) 461, for blocks.

The difference of two means has an interval by Welch's t.

Where the same VMs are on both sides, a metric that adds up has a second interval: the ratio of the sums, with the
noise that shows in how differently the VMs changed (jackknife over VMs; their effective number, as large VMs count for
more, gives the degrees of freedom). It finds a small change that all VMs share even if their loads swing widely. It
needs VMs whose loads move independently: if a sum over VMs varies more than APART times what independent VMs would
give, there is no such interval. Of two intervals the narrower counts, each made for twice as many comparisons.
Source: Cochran, Sampling Techniques (3rd edition), 6.17; Kish, Survey Sampling, 8.2.

Intervals are wide enough for all ``comparisons`` of a diff to hold together with CONFIDENCE (Šidák), so a diff of two
recordings of the same load reports a change in at most 1 of 20 cases.

Rule: "changed" needs an interval without 0 and a change of at least LEAST_CHANGE of the first side. Without a change,
"same" needs an interval that excludes changes of NARROW and more; else there is too little data to decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np

from .window import F64Array

CONFIDENCE: Final = 0.95
LEAST_CHANGE: Final = 0.005
"""Changes below this share are too small to matter, however certain they are."""
NARROW: Final = 0.1
MIN_BLOCKS: Final = 16
MIN_VALUES: Final = 16
"""The fewest values from which a standard error over time is estimated."""
MIN_VMS: Final = 3
APART: Final = 2.0


class DifferenceVerdict(Enum):
    """The verdict on one number of two sides."""

    CHANGED = "changed"
    SAME = "same"
    TOO_LITTLE = "too little data"


@dataclass(frozen=True, slots=True)
class MeanEstimate:
    """A mean. ``error``: its standard error, with ``freedom`` degrees of freedom; NaN and 0 if it is not known."""

    mean: float
    error: float
    freedom: int
    values: int


@dataclass(frozen=True, slots=True)
class RatioEstimate:
    """The ratio of a sum over VMs on side B to that on side A. ``error`` and ``freedom`` as in ``MeanEstimate``."""

    ratio: float
    error: float
    freedom: int


@dataclass(frozen=True, slots=True)
class VmLoads:
    """A metric of several VMs on one side: the mean and the variance over time of each, and the variance of the sum."""

    means: F64Array
    variances: F64Array
    variance_of_sum: float

    @property
    def are_independent(self) -> bool:
        """Whether the loads of the VMs vary independently of one another."""
        return self.variance_of_sum <= APART * float(self.variances.sum())


@dataclass(frozen=True, slots=True)
class ChangeEstimate:
    """The mean of side B minus that of side A: ``change``, with its confidence interval, ``low`` to ``high``."""

    a: MeanEstimate
    b: MeanEstimate
    change: float
    low: float
    high: float
    verdict: DifferenceVerdict

    def relative(self, value: float) -> float | None:
        """A change as a share of the mean of A; None if that is 0 or the change is not known."""
        return None if self.a.mean == 0 or not math.isfinite(value) else value / abs(self.a.mean)


def over_time(values: F64Array, weights: F64Array) -> MeanEstimate | None:
    """The mean of a series in time order, weighted by the lengths of the intervals; None if there are no values.

    NaN values are left out.
    """
    known = np.isfinite(values)
    values, weights = values[known], weights[known]
    if not len(values):
        return None
    mean = float(np.average(values, weights=weights))
    found = _error(values)
    length = 2
    while len(values) // length >= MIN_BLOCKS:
        found = max(found, _error(_block_means(values, weights, length)), key=_wideness)
        length *= 2
    return MeanEstimate(mean, *found, len(values))


def over_vms(values: F64Array) -> MeanEstimate | None:
    """The mean of one value per VM, with equal weights; None if no value is known."""
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    if len(values) < MIN_VMS:
        return MeanEstimate(float(values.mean()), math.nan, 0, len(values))
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return MeanEstimate(float(values.mean()), error, len(values) - 1, len(values))


def ratio_of_pairs(a: VmLoads, b: VmLoads) -> RatioEstimate | None:
    """The ratio of sums over the same VMs, in the same order; None if the VMs are too few or move together."""
    total_a, total_b = float(a.means.sum()), float(b.means.sum())
    if not (
        math.isfinite(total_a) and math.isfinite(total_b) and total_a > 0 and a.are_independent and b.are_independent
    ):
        return None
    effective = total_a**2 / float(a.means @ a.means)
    if effective < MIN_VMS:
        return None
    without = (total_b - b.means) / (total_a - a.means)
    count = len(without)
    error = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))
    return RatioEstimate(total_b / total_a, error, int(effective) - 1)


def estimate_change(
    a: MeanEstimate, b: MeanEstimate, *, comparisons: int, pairs: RatioEstimate | None = None
) -> ChangeEstimate:
    """The change from A to B, as one of ``comparisons`` made together. ``pairs``: the ratio over pairs of VMs."""
    alone = CONFIDENCE ** (1 / max(comparisons, 1) / (1 if pairs is None else 2))
    change = b.mean - a.mean
    half = _half_width(a, b, (1 - alone) / 2)
    if pairs is not None:
        of_pairs = student_quantile((1 - alone) / 2, pairs.freedom) * pairs.error * abs(a.mean)
        if of_pairs < half:
            change, half = (pairs.ratio - 1) * a.mean, of_pairs
    return ChangeEstimate(a, b, change, change - half, change + half, _verdict(a.mean, change, half))


def student_tail(t: float, freedom: int) -> float:
    """The probability that Student's t with so many degrees of freedom exceeds ``t``, which is 0 or more.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    is_odd = freedom % 2
    term = cosine if is_odd else 1.0
    total = term if freedom > 1 or not is_odd else 0.0
    for k in range(3 if is_odd else 2, freedom - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    inside = 2 / math.pi * (angle + sine * total) if is_odd else sine * total
    return max(0.0, (1 - inside) / 2)


def student_quantile(tail: float, freedom: int) -> float:
    """The ``t`` that Student's t exceeds with probability ``tail``, at most 0.5."""
    low, high = 0.0, 1.0
    while student_tail(high, freedom) > tail:
        low, high = high, high * 2
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if student_tail(middle, freedom) > tail else (low, middle)
    return high


def _block_means(values: F64Array, weights: F64Array, length: int) -> F64Array:
    """The means of blocks of ``length`` neighbours; values at the start that do not fill a block are left out."""
    first = len(values) % length
    of_blocks = (-1, length)
    block_weights = weights[first:].reshape(of_blocks)
    means: F64Array = (values[first:].reshape(of_blocks) * block_weights).sum(axis=1) / block_weights.sum(axis=1)
    return means


def _error(values: F64Array) -> tuple[float, int]:
    """The standard error of the mean of a series, and its degrees of freedom: NaN and 0 if it is too short."""
    count = len(values)
    if count < MIN_VALUES:
        return math.nan, 0
    centred = values - values.mean()
    spread = float(centred @ centred)
    if spread == 0:
        return 0.0, count - 1
    r = _correlation(float(centred[1:] @ centred[:-1]) / spread, count)
    independent = count * (1 - r) / (1 + r)
    if independent < 2:
        return math.nan, 0
    variance = spread / count / (1 - 1 / independent)
    return math.sqrt(variance / independent), int(independent) - 1


def _correlation(measured: float, count: int) -> float:
    """The correlation of neighbours, 0 to 1, estimated from the one measured in a series of ``count`` values."""
    r = min(max((measured * count + 1) / (count - 4), 0.0), 1.0)
    return min(r + 0.75 * math.sqrt((1 - r * r) / count), 1.0)


def _wideness(error: tuple[float, int]) -> float:
    """The relative width of the interval that an error gives; inf if there is no error."""
    return error[0] * student_quantile(_TYPICAL_TAIL, error[1]) if error[1] else math.inf


_TYPICAL_TAIL: Final = 0.0005
"""The tail probability of an interval in a diff of 50 metrics."""


def _half_width(a: MeanEstimate, b: MeanEstimate, tail: float) -> float:
    if not a.freedom or not b.freedom:
        return math.inf
    of_a, of_b = a.error**2, b.error**2
    if of_a + of_b == 0:
        return 0.0
    # Welch and Satterthwaite; rounded down, which makes the interval wider.
    freedom = int((of_a + of_b) ** 2 / (of_a**2 / a.freedom + of_b**2 / b.freedom) + 1e-9)
    return student_quantile(tail, freedom) * math.sqrt(of_a + of_b)


def _verdict(a: float, change: float, half: float) -> DifferenceVerdict:
    if not math.isfinite(half):
        return DifferenceVerdict.TOO_LITTLE
    size, scale = abs(change), abs(a)
    if size > half and size >= LEAST_CHANGE * scale:
        return DifferenceVerdict.CHANGED
    return DifferenceVerdict.SAME if size + half <= NARROW * scale else DifferenceVerdict.TOO_LITTLE
