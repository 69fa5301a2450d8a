"""The meaning of a histogram stat: the bounds of its buckets, and quantiles with the error due to the buckets.

Not here: reading counts, or drawing them. Counts may be totals or the difference of two samples.

Rule: a quantile is never a single number. Only the buckets of the values are known, so a quantile is an interval that
certainly holds the true quantile, with an estimate inside it. Without values, or if a count is unknown, there is none.

Intervals include their low end and exclude their high end; the last bucket of every histogram has no high end. Raw
values are integers, in units of ``base ** exponent`` of the descriptor; base units are seconds, bytes, cycles, counts.

The quantile ``q`` of ``n`` values is by nearest rank: the ``ceil(q * n)``-th smallest, at least the first. ``q`` is
rounded to nine digits and then exact, so 0.07 of 100 values is the 7th.

Source: kvm_stats_linear_hist_update and kvm_stats_log_hist_update in include/linux/kvm_host.h, 5.15 to 7.3: a value
counts in bucket ``min(value // bucket_size, size - 1)`` (linear) or ``min(fls64(value), size - 1)`` (log).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..sample import I64Array, U64Array
from ..schema import Base, Descriptor, Kind

F64Array: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = U64Array | I64Array | F64Array

_EDGES_KEPT = 64
_VALUE_BITS = 64
Q_PARTS = 10**9  # q is this fine; its square fits 64 bits, which _ranks needs
_COUNT_LIMIT = 2.0**62  # no real count is larger: it is a difference that wrapped below zero


@dataclass(frozen=True, slots=True)
class Bucket:
    """Raw values from ``low`` up to but not including ``high``; None where there is no upper bound."""

    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class Quantile:
    """One quantile in base units: certainly in [``low``, ``high``), probably near ``estimate``.

    ``high`` is inf if the quantile is in the last bucket; ``estimate`` is then ``low``, its lower bound.
    """

    q: float
    low: float
    high: float
    estimate: float


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Quantiles of many subjects, with the fields of ``Quantile``; NaN where there is none.

    ``q`` has shape (k,), the rest (subjects, k).
    """

    q: F64Array
    low: F64Array
    high: F64Array
    estimate: F64Array


def buckets(descriptor: Descriptor) -> tuple[Bucket, ...]:
    """The buckets of a histogram in raw units, as many as it has words; ValueError if it is not a histogram.

    No value has more than 64 bits, so buckets past ``[2**63, 2**64)`` of a log histogram are empty intervals.
    """
    lows = _lows(descriptor)
    highs: list[int | None] = [*lows[1:], None]
    return tuple(Bucket(low, high) for low, high in zip(lows, highs, strict=True))


def edges(descriptor: Descriptor) -> F64Array:
    """Bounds of the buckets in base units, shape (size + 1,): bucket i is [edges[i], edges[i + 1]), the last edge inf.

    Raw units if the base is unknown. ValueError if ``descriptor`` is not a histogram.
    """
    return _in_base_units(descriptor, _raw_edges(descriptor))


def total(counts: Counts) -> F64Array:
    """The number of values in each histogram, shape (subjects,) for counts of shape (subjects, size); NaN if unknown.

    Exact up to 2**53 values. ValueError if a count is not a whole number.
    """
    known, whole = _split(counts)
    return np.where(known, whole.sum(axis=-1).astype(np.float64), np.nan)


def quantile(descriptor: Descriptor, counts: Sequence[int] | Counts, q: float) -> Quantile | None:
    """The quantile ``q`` (0 to 1) of one histogram with these counts; None if it counted nothing or is not known.

    ValueError as for ``quantiles``.
    """
    found = quantiles(descriptor, np.asarray(counts)[np.newaxis], (q,))
    low, high, estimate = (float(part[0, 0]) for part in (found.low, found.high, found.estimate))
    return None if math.isnan(low) else Quantile(q, low, high, estimate)


def quantiles(descriptor: Descriptor, counts: Counts, qs: Sequence[float]) -> Quantiles:
    """The quantiles ``qs`` (0 to 1) of many subjects at once; ``counts`` has shape (subjects, size).

    NaN for a subject whose counts are all 0, or that has a NaN or negative count. The estimate spaces the values of a
    bucket evenly, on a log scale in a log histogram. ValueError if ``descriptor`` is not a histogram of as many
    buckets, a ``q`` is out of range, or a count is not a whole number.
    """
    return Distributions(descriptor, counts).quantiles(qs)


class Distributions:
    """The histograms of many subjects, for several calculations; ``counts`` has shape (subjects, size).

    Raises ValueError if ``descriptor`` is not a histogram of as many buckets, or a count is not a whole number.
    """

    def __init__(self, descriptor: Descriptor, counts: Counts) -> None:
        if counts.ndim != 2 or counts.shape[1] != descriptor.size:
            raise ValueError(f"counts of shape {counts.shape} for a histogram of {descriptor.size} buckets")
        self._descriptor = descriptor
        self._bounds = _raw_edges(descriptor)
        known, self._counts = _split(counts)
        self._running = np.cumsum(self._counts, axis=1, dtype=np.uint64)
        self._missing = ~known | (self._running[:, -1] == 0)

    def quantiles(self, qs: Sequence[float]) -> Quantiles:
        """As the function ``quantiles``."""
        if not all(0 <= q <= 1 for q in qs):
            raise ValueError(f"quantiles are from 0 to 1, not {qs}")
        bucket, share = _locate(self._counts, self._running, qs)
        low, high = self._bounds[bucket], self._bounds[bucket + 1]
        found = np.stack([low, high, _estimate(self._descriptor, low, high, share)])
        low, high, estimate = _in_base_units(self._descriptor, found)
        # Rounding may move an estimate to the end of its bucket, which is exclusive.
        estimate = np.minimum(np.maximum(estimate, low), np.nextafter(high, low))
        if self._missing.any():
            for part in (low, high, estimate):
                part[self._missing] = np.nan
        return Quantiles(np.array(qs, dtype=np.float64), low, high, estimate)

    def quantile(self, q: float) -> F64Array:
        """The estimates of one quantile, shape (subjects,)."""
        return self.quantiles((q,)).estimate[:, 0]

    def share_below(self, bound: float) -> F64Array:
        """The share of the values that are less than ``bound`` (base units), shape (subjects,); NaN: not known.

        The values of the bucket that contains ``bound`` are assumed to be spaced as for the estimate of a quantile. If
        ``bound`` is in the last bucket, which has no end, and that bucket has values, the share is not known.
        """
        weights = weights_below(self._descriptor, bound)
        with np.errstate(invalid="ignore", divide="ignore"):
            # Not by ``@``: the order in which it adds up a row depends on the number of rows.
            below = np.multiply(self._counts, np.nan_to_num(weights), order="C", dtype=np.float64).sum(axis=1)
            share: F64Array = below / self._running[:, -1]
        share[self._missing | (np.isnan(weights[-1]) & (self._counts[:, -1] > 0))] = np.nan
        return share


def _lows(descriptor: Descriptor) -> list[int]:
    """The lowest raw value of each bucket."""
    if descriptor.kind is Kind.LINEAR_HISTOGRAM:
        return [index * descriptor.bucket_size for index in range(descriptor.size)]
    if descriptor.kind is Kind.LOG_HISTOGRAM:
        powers = (1 << min(index, _VALUE_BITS) for index in range(descriptor.size - 1))
        return [0, *powers]
    raise ValueError(f"{descriptor.name!r} is not a histogram")


@lru_cache(maxsize=_EDGES_KEPT)
def _raw_edges(descriptor: Descriptor) -> F64Array:
    """Bounds in raw units; exact, being powers of two or below 2**48."""
    found = np.array([*_lows(descriptor), np.inf], dtype=np.float64)
    found.flags.writeable = False  # all callers share the cached array
    return found


def _in_base_units(descriptor: Descriptor, raw: F64Array) -> F64Array:
    if not isinstance(descriptor.base, Base):
        return raw
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        factor = np.float64(descriptor.base.number) ** abs(descriptor.exponent)
        # 3 / 1e9 is the double nearest to 3 ns; 3 * 1e-9 is not.
        return raw / factor if descriptor.exponent < 0 else raw * factor


def _split(counts: Counts) -> tuple[npt.NDArray[np.bool_], U64Array]:
    """Whether each subject's counts are known, and the counts as whole numbers, 0 where they are not known."""
    if counts.dtype == np.uint64:
        return _split_words(counts.view(np.uint64))
    real = counts.astype(np.float64)
    known = (np.isfinite(real) & (real >= 0)).all(axis=-1, keepdims=True)
    known = known & (np.where(known, real, 0).sum(axis=-1, keepdims=True) < _COUNT_LIMIT)
    whole = np.where(known, counts, 0).astype(np.uint64)
    if (whole.astype(np.float64) != np.where(known, real, 0)).any():
        raise ValueError("counts are whole numbers, not rates")
    return known[..., 0], whole


def _split_words(words: U64Array) -> tuple[npt.NDArray[np.bool_], U64Array]:
    if float(words.max(initial=0)) * words.shape[-1] < _COUNT_LIMIT:
        return np.ones(words.shape[:-1], dtype=np.bool_), words
    known: npt.NDArray[np.bool_] = words.astype(np.float64) @ np.ones(words.shape[-1]) < _COUNT_LIMIT
    return known, words if known.all() else np.where(known[..., np.newaxis], words, np.uint64(0))


def _ranks(count: U64Array, qs: Sequence[float]) -> U64Array:
    """``max(1, ceil(q * count))`` of each q, shape (subjects, k), without rounding and without overflow."""
    parts = np.array([round(q * Q_PARTS) for q in qs], dtype=np.uint64)
    every, rest = np.divmod(count[:, np.newaxis], np.uint64(Q_PARTS))
    rank = every * parts + (rest * parts + np.uint64(Q_PARTS - 1)) // np.uint64(Q_PARTS)
    return np.maximum(rank, np.uint64(1))


def _locate(whole: U64Array, running: U64Array, qs: Sequence[float]) -> tuple[I64Array, F64Array]:
    """The bucket of each quantile, and its relative position among the values of that bucket: shape (subjects, k)."""
    rank = _ranks(running[:, -1], qs)
    is_before = running[:, np.newaxis, :] < rank[:, :, np.newaxis]
    bucket = (is_before.astype(np.float32) @ np.ones(running.shape[1], np.float32)).astype(np.intp)
    bucket = np.minimum(bucket, whole.shape[1] - 1)  # an empty histogram never reaches its rank
    row = np.arange(len(whole))[:, np.newaxis]
    inside = whole[row, bucket]
    position = (rank - (running[row, bucket] - inside)).astype(np.float64)
    return bucket, (position - 0.5) / np.maximum(inside, np.uint64(1))


def weights_below(descriptor: Descriptor, bound: float) -> F64Array:
    """The share of each bucket's values that is below ``bound``; NaN for the last bucket if ``bound`` is in it."""
    low, high = edges(descriptor)[:-1], edges(descriptor)[1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = np.log2(bound / low) if descriptor.kind is Kind.LOG_HISTOGRAM else (bound - low) / (high - low)
    inside[np.diff(_raw_edges(descriptor)) <= 1] = 1.0  # one integer only, the low end
    inside[-1] = np.nan
    return np.where(bound >= high, 1.0, np.where(bound <= low, 0.0, inside))


def _estimate(descriptor: Descriptor, low: F64Array, high: F64Array, share: F64Array) -> F64Array:
    """A raw value in each bucket, ``share`` of the way through it."""
    exact = (high - low <= 1) | np.isinf(high)  # one integer only, or no upper bound
    width = np.where(exact, 0.0, high - low)
    if descriptor.kind is Kind.LOG_HISTOGRAM:
        return np.where(exact, low, low * 2.0**share)
    return low + share * width
