"""Quantiles and shares of histograms from the counts of their buckets, equal to those of ``analysis.histogram``.

Bounds, weights and the factor of the base unit come from the descriptor and are literals in the query.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from ..analysis.histogram import Bucket, buckets, edges, weights_below
from ..schema import Descriptor, Kind
from .relational import Branching, Function, Literal, Null, Scalar, add, apply, every, is_known, when
from .sheet import Sheet

_Q_PARTS: Final = 10**9
_COUNT_LIMIT: Final = 2.0**62


def quantile(sheet: Sheet, descriptor: Descriptor, counts: Sequence[Scalar], q: float) -> Scalar:
    """The estimate of one quantile; NULL if there are no values or a count is unknown."""
    running = [sheet.hold(add(*counts[: place + 1])) for place in range(len(counts))]
    rank = sheet.hold(_rank(running[-1], q))
    bounds, befores = edges(descriptor).tolist(), (Literal(0.0), *running)
    estimates = (
        _estimate(descriptor, bucket, low, high, _share(rank, before, count))
        for bucket, low, high, before, count in zip(
            buckets(descriptor), bounds, bounds[1:], befores, counts, strict=False
        )
    )
    branches = tuple(
        (apply(Function.MORE_OR_EQUAL, upto, rank), estimate) for upto, estimate in zip(running, estimates, strict=True)
    )
    return when(_has_values(running[-1]), Branching(branches))


def share_below(sheet: Sheet, descriptor: Descriptor, counts: Sequence[Scalar], bound: float) -> Scalar:
    """The share of the values below a bound in base units.

    NULL as for ``quantile``, and where the bound is in the last bucket and that bucket is not empty.
    """
    weights = weights_below(descriptor, bound).tolist()
    total = sheet.hold(add(*counts))
    parts = [
        apply(Function.MULTIPLY, count, Literal(weight))
        for count, weight in zip(counts, weights, strict=True)
        if weight and not math.isnan(weight)
    ]
    below = add(*parts) if parts else Literal(0.0)
    condition: Scalar = _has_values(total)
    if math.isnan(weights[-1]):
        condition = every(condition, apply(Function.EQUAL, counts[-1], Literal(0.0)))
    return when(condition, apply(Function.DIVIDE, below, total))


def _has_values(total: Scalar) -> Scalar:
    is_some = apply(Function.MORE, total, Literal(0.0))
    return every(is_known(total), is_some, apply(Function.LESS, total, Literal(_COUNT_LIMIT)))


def _rank(total: Scalar, q: float) -> Scalar:
    """``max(1, ceil(q * total))`` in whole numbers, as ``analysis.histogram`` computes it."""
    parts, every_part = Literal(round(q * _Q_PARTS)), Literal(_Q_PARTS)
    whole = apply(Function.TO_INTEGER, when(apply(Function.LESS, total, Literal(_COUNT_LIMIT)), total))
    rest = apply(Function.MULTIPLY, apply(Function.REMAINDER, whole, every_part), parts)
    upper = apply(Function.WHOLE_DIVIDE, add(rest, Literal(_Q_PARTS - 1)), every_part)
    rank = add(apply(Function.MULTIPLY, apply(Function.WHOLE_DIVIDE, whole, every_part), parts), upper)
    at_least_one = when(apply(Function.LESS, rank, Literal(1)), Literal(1), rank)
    return apply(Function.TO_DOUBLE, at_least_one)


def _share(rank: Scalar, before: Scalar, inside: Scalar) -> Scalar:
    """How far the rank is into the values of a bucket, from 0 to 1."""
    position = apply(Function.SUBTRACT, apply(Function.SUBTRACT, rank, before), Literal(0.5))
    return apply(Function.DIVIDE, position, inside)


def _estimate(descriptor: Descriptor, bucket: Bucket, low: float, high: float, share: Scalar) -> Scalar:
    """A value in the bucket from ``low`` to ``high`` (base units), ``share`` of the way through, and always below its
    end."""
    if not math.isfinite(low):
        return Null()
    if bucket.high is None or bucket.high - bucket.low <= 1:  # a single integer, or no upper bound
        return Literal(low)
    if descriptor.kind is Kind.LOG_HISTOGRAM:
        value: Scalar = apply(Function.MULTIPLY, Literal(low), apply(Function.POWER, Literal(2.0), share))
    else:
        value = add(Literal(low), apply(Function.MULTIPLY, share, Literal(high - low)))
    return _below(value, float(np.nextafter(high, low))) if math.isfinite(high) else value


def _below(value: Scalar, last: float) -> Scalar:
    return when(apply(Function.LESS, value, Literal(last)), value, Literal(last))
