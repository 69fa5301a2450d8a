"""The bounds of the buckets of a classic histogram as Prometheus has them: inclusive, in base units, as text.

KVM counts whole numbers below 2**k in a bucket, so its inclusive bound is 2**k - 1. ``export`` writes these bounds, and
``engines`` selects by them.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache
from typing import Final

from ..schema import Base, Descriptor
from .histogram import buckets

LARGEST_SHIFT: Final = 64
"""Beyond this power of ten or two, bounds are written as floats: exact digits would fill pages."""


def float_text(number: float) -> str:
    """A float as Prometheus and OpenMetrics read it: the shortest text that gives it back."""
    if math.isinf(number):
        return "+Inf" if number > 0 else "-Inf"
    return repr(float(number))


@cache
def bucket_bounds(descriptor: Descriptor) -> tuple[str, ...]:
    """The label ``le`` of each bucket of a histogram, the last of them ``+Inf``."""
    return tuple(_bound(descriptor, bucket.high) for bucket in buckets(descriptor))


def _bound(descriptor: Descriptor, high: int | None) -> str:
    """The largest raw value below ``high``, in base units: an exact fraction, rounded once to a float."""
    if high is None:
        return "+Inf"
    if abs(descriptor.exponent) > LARGEST_SHIFT or isinstance(descriptor.base, Base) is False:
        return float_text((high - 1) * descriptor.scale)
    base = Fraction(10 if descriptor.base is Base.POW10 else 2)
    return float_text(float((high - 1) * base**descriptor.exponent))
