"""Quantiles and shares of classic histograms by the arithmetic of ``analysis.histogram``, as PromQL.

``histogram_quantile`` is not used: it interpolates linearly in a bucket and defines ranks differently. Here the rank is
counted among the buckets, and the number of a bucket gives its bounds, so the estimate equals that of numpy, on a log
scale.
Native histograms are not read: Prometheus gives no access to the counts of their buckets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from ...analysis.bucket_bounds import bucket_bounds, float_text
from ...analysis.histogram import Q_PARTS, weights_below
from ...schema import Base, Descriptor, Kind

MOST_BUCKETS = 65
"""Further buckets of a log histogram cannot hold any value of 64 bits."""


@dataclass(frozen=True, slots=True)
class BucketChanges:
    """The increase of each bucket of a histogram.

    ``text``: the vector for a matcher of label ``le``. ``is_whole``: a query for the subjects with all buckets known,
    to join results with; "" if the vectors have no other subjects.
    """

    descriptor: Descriptor
    text: Callable[[str], str]
    is_whole: str = ""

    @property
    def total(self) -> str:
        """The number of values."""
        return f"sum without (le) ({self.text(_matcher('+Inf'))})"

    def known(self, query: str) -> str:
        """The query, limited to subjects with all buckets known."""
        return f"({query} and {self.is_whole})" if self.is_whole else query


def quantile(changes: BucketChanges, q: float) -> str:
    """The estimate of a quantile, in base units."""
    last = changes.descriptor.size - 1
    if changes.descriptor.kind is Kind.LINEAR_HISTOGRAM:
        raw = _linear(changes, q, last)
    else:
        place = _place(changes, q)
        # Buckets 0 and 1 hold one integer each, which is the number of the bucket.
        raw = f"(2 ^ (clamp_max({place} >= 2, {last}) - 1) or floor({place}))"
    return changes.known(_in_base_units(raw, changes.descriptor))


def share(changes: BucketChanges, bound: float, *, is_above: bool) -> str:
    """The share of the values on one side of a bound in base units."""
    weights = weights_below(changes.descriptor, bound).tolist()
    whole = sum(weight == 1.0 for weight in weights)
    total = f"({changes.total} > 0)"
    below = _below(changes, whole, weights, total)
    return changes.known(f"(1 - {below} / {total})" if is_above else f"({below} / {total})")


def is_sayable(descriptor: Descriptor) -> bool:
    """Whether the bounds of the buckets follow from their numbers."""
    has_width = descriptor.kind is Kind.LOG_HISTOGRAM or descriptor.bucket_size > 0
    return has_width and descriptor.size <= MOST_BUCKETS


def _below(changes: BucketChanges, whole: int, weights: list[float], total: str) -> str:
    """The number of values below the bound, which is above ``whole`` complete buckets."""
    if whole == len(weights) - 1 and weights[-1] != 0.0:
        # The bound is in the last bucket, which has no upper end: known only if that bucket is empty.
        return f"({_up_to(changes, whole)} == {total})"
    full, part = _up_to(changes, whole), weights[whole]
    if part == 0.0:
        return full
    return f"({full} + ({_up_to(changes, whole + 1)} - {full}) * {float_text(part)})"


def _up_to(changes: BucketChanges, count: int) -> str:
    """The number of values in the first buckets."""
    if not count:
        return f"({changes.total} * 0)"
    return f"(sum without (le) ({changes.text(_matcher(bucket_bounds(changes.descriptor)[count - 1]))}))"


def _place(changes: BucketChanges, q: float) -> str:
    """The number of the bucket that holds the quantile, and how far into its values it is: 3.5 is halfway in bucket 3.

    In bucket 0 it is always 0.
    """
    over = _over_rank(changes, q)
    before, upper = f"max without (le) ({over} < 0)", f"min without (le) ({over} >= 0)"
    bucket = f"count without (le) ({over} < 0)"
    return f"({bucket} + (-0.5 - {before}) / ({upper} - {before}) or {upper} * 0)"


def _linear(changes: BucketChanges, q: float, last: int) -> str:
    """The quantile of a histogram with buckets of equal width, in raw units; before bucket 0 no values are counted."""
    width = changes.descriptor.bucket_size
    place = _place(changes, q)
    if width == 1:
        return f"floor(clamp_max({place}, {last}))"  # nothing to interpolate in a bucket of one integer
    if not last:
        return f"({place} * 0)"
    rank, over = _rank(changes, q), _over_rank(changes, q)
    first = f"({rank} - 0.5) / ({rank} + min without (le) ({over} >= 0)) unless count without (le) ({over} < 0)"
    return f"({width} * ({first} or clamp_max({place}, {last})))"


def _rank(changes: BucketChanges, q: float) -> str:
    part = Fraction(round(q * Q_PARTS), Q_PARTS)  # small integers, so the rank is exact
    return f"clamp_min(ceil(({changes.total} > 0) * {part.numerator} / {part.denominator}), 1)"


def _over_rank(changes: BucketChanges, q: float) -> str:
    """For each bucket, the number of values below its end minus the rank; negative: the quantile is in a higher
    bucket."""
    return f"({changes.text('')} - ignoring (le) group_left () {_rank(changes, q)})"


def _matcher(bound: str) -> str:
    return f'le="{bound}"'


def _in_base_units(raw: str, descriptor: Descriptor) -> str:
    exponent = descriptor.exponent
    if not isinstance(descriptor.base, Base) or exponent == 0:
        return raw
    factor = float_text(float(descriptor.base.number) ** abs(exponent))
    return f"({raw} / {factor})" if exponent < 0 else f"({raw} * {factor})"
