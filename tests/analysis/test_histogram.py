"""Histogram bounds and quantiles, against values counted by the kernel's rule as written here."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.analysis.histogram import Bucket, Distributions, Quantile, buckets, edges, quantile, quantiles, total
from kvmscope.codec.statsfile import parse
from kvmscope.schema import Base, Descriptor, Kind, Scope, Unit, Unknown

LINEAR = Descriptor("depth", Kind.LINEAR_HISTOGRAM, size=4, bucket_size=10)
LOG_NS = Descriptor("wait", Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=32)
SCALAR = Descriptor("exits", Kind.CUMULATIVE)


def kernel_index(descriptor: Descriptor, value: int) -> int:
    """Where virt/kvm counts ``value``."""
    if descriptor.kind is Kind.LINEAR_HISTOGRAM:
        return min(value // descriptor.bucket_size, descriptor.size - 1)
    fls64 = value.bit_length()
    return min(fls64, descriptor.size - 1)


def counted(descriptor: Descriptor, values: list[int]) -> list[int]:
    counts = [0] * descriptor.size
    for value in values:
        counts[kernel_index(descriptor, value)] += 1
    return counts


def nearest_rank(values: list[int], q: float) -> int:
    rank = max(1, math.ceil(Fraction(str(q)) * len(values)))
    return sorted(values)[rank - 1]


histograms = st.one_of(
    st.builds(
        Descriptor,
        st.just("linear"),
        st.just(Kind.LINEAR_HISTOGRAM),
        size=st.integers(1, 70),
        bucket_size=st.integers(1, 2**32 - 1),
    ),
    st.builds(Descriptor, st.just("log"), st.just(Kind.LOG_HISTOGRAM), size=st.integers(1, 70)),
)
raw_values = st.one_of(st.integers(0, 100), st.integers(0, 2**64 - 1), st.integers(0, 63).map(lambda bits: 1 << bits))
decimals = st.integers(0, 10_000).map(lambda parts: parts / 10_000)


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_linear_buckets_are_equally_wide_and_the_last_has_no_end() -> None:
    assert buckets(LINEAR) == (Bucket(0, 10), Bucket(10, 20), Bucket(20, 30), Bucket(30, None))
    assert edges(LINEAR).tolist() == [0, 10, 20, 30, math.inf]


def test_log_buckets_double_after_a_bucket_for_zero() -> None:
    small = Descriptor("log", Kind.LOG_HISTOGRAM, size=5)
    assert buckets(small) == (Bucket(0, 1), Bucket(1, 2), Bucket(2, 4), Bucket(4, 8), Bucket(8, None))


def test_a_histogram_of_one_bucket_holds_everything() -> None:
    for kind in (Kind.LINEAR_HISTOGRAM, Kind.LOG_HISTOGRAM):
        assert buckets(Descriptor("one", kind, bucket_size=7)) == (Bucket(0, None),)


def test_the_last_bucket_of_a_kernel_histogram_begins_at_1_07_seconds() -> None:
    assert buckets(LOG_NS)[-1] == Bucket(2**30, None)
    assert edges(LOG_NS)[-2] == 1.073741824
    assert edges(LOG_NS)[2] == 2e-9


def test_bounds_scale_by_powers_of_two_and_stay_raw_where_the_base_is_unknown() -> None:
    in_kib = Descriptor("size", Kind.LINEAR_HISTOGRAM, Unit.BYTES, Base.POW2, 10, size=2, bucket_size=4)
    assert edges(in_kib).tolist() == [0, 4096, math.inf]
    raw = Descriptor("size", Kind.LINEAR_HISTOGRAM, Unit.BYTES, Unknown(3), 10, size=2, bucket_size=4)
    assert edges(raw).tolist() == [0, 4, math.inf]


def test_a_log_histogram_with_more_buckets_than_bits_has_empty_ones() -> None:
    wide = Descriptor("log", Kind.LOG_HISTOGRAM, size=65_535)
    assert buckets(wide)[64:66] == (Bucket(2**63, 2**64), Bucket(2**64, 2**64))


def test_a_scalar_has_no_buckets() -> None:
    with pytest.raises(ValueError, match="not a histogram"):
        buckets(SCALAR)
    with pytest.raises(ValueError, match="not a histogram"):
        quantile(SCALAR, [1], 0.5)


@given(histograms, raw_values)
def test_a_value_is_within_the_bounds_of_the_bucket_that_the_kernel_counts_it_in(
    descriptor: Descriptor, value: int
) -> None:
    bucket = buckets(descriptor)[kernel_index(descriptor, value)]
    assert bucket.low <= value
    assert bucket.high is None or value < bucket.high


@given(histograms)
def test_buckets_join_without_gap(descriptor: Descriptor) -> None:
    found = buckets(descriptor)
    assert len(found) == descriptor.size
    assert all(before.high == after.low for before, after in pairwise(found))


# --- quantiles --------------------------------------------------------------------------------------------------------


@given(histograms, st.lists(raw_values, min_size=1, max_size=60), decimals)
def test_the_true_quantile_is_within_the_stated_bounds(descriptor: Descriptor, values: list[int], q: float) -> None:
    found = quantile(descriptor, counted(descriptor, values), q)
    assert found is not None
    true = nearest_rank(values, q)
    assert found.low <= true
    assert true < found.high
    assert found.low <= found.estimate < found.high


@given(
    st.sampled_from([-9, -3, 0, 2]),
    st.lists(st.integers(0, 2**40), min_size=1, max_size=60),
    decimals,
)
def test_bounds_in_base_units_hold_the_true_quantile_too(exponent: int, values: list[int], q: float) -> None:
    descriptor = Descriptor("t", Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=exponent, size=48)
    found = quantile(descriptor, counted(descriptor, values), q)
    assert found is not None
    true = float(Fraction(nearest_rank(values, q)) * Fraction(10) ** exponent)
    assert found.low <= true < found.high


@given(st.lists(st.lists(raw_values, max_size=20), min_size=1, max_size=8), st.lists(decimals, max_size=4))
def test_many_subjects_at_once_have_the_quantiles_that_each_has_alone(
    subjects: list[list[int]], qs: list[float]
) -> None:
    counts = np.array([counted(LOG_NS, values) for values in subjects], dtype=np.uint64)
    found = quantiles(LOG_NS, counts, qs)
    assert found.low.shape == (len(subjects), len(qs))
    for row, column in np.ndindex(found.low.shape):
        alone = quantile(LOG_NS, counts[row], qs[column])
        low, high, estimate = (float(part[row, column]) for part in (found.low, found.high, found.estimate))
        if alone is None:
            assert np.isnan([low, high, estimate]).all()
        else:
            assert alone == Quantile(qs[column], low, high, estimate)


def test_no_values_or_unknown_counts_have_no_quantile() -> None:
    counts = np.zeros((5, 4))
    counts[1, 2] = np.nan
    counts[2] = [3, -1, 0, 0]
    counts[3] = [0, np.inf, 0, 0]
    counts[4] = [0, 2, 0, 0]
    found = quantiles(LINEAR, counts, (0.5,))
    assert np.isnan(found.low[:4]).all()
    assert np.isnan(found.estimate[:4]).all()
    assert (found.low[4, 0], found.high[4, 0]) == (10, 20)
    assert quantile(LINEAR, [0, 0, 0, 0], 0.5) is None


def test_a_difference_that_wrapped_below_zero_is_unknown() -> None:
    before = np.array([[5, 5, 5, 5]], dtype=np.uint64)
    after = np.array([[6, 6, 4, 6]], dtype=np.uint64)
    assert np.isnan(quantiles(LINEAR, after - before, (0.5,)).low).all()
    assert np.isnan(total(after - before)).all()


def test_totals_are_counted_per_subject_and_nan_where_unknown() -> None:
    counts = np.array([[1, 2, 3, 4], [0, 0, 0, 0], [1, np.nan, 0, 0]])
    assert total(counts).tolist()[:2] == [10, 0]
    assert math.isnan(total(counts)[2])


def test_rates_are_refused() -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        quantiles(LINEAR, np.array([[0.5, 0, 0, 0]]), (0.5,))


def test_counts_of_another_shape_and_quantiles_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="4 buckets"):
        quantile(LINEAR, [1, 2, 3], 0.5)
    for q in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="from 0 to 1"):
            quantile(LINEAR, [1, 2, 3, 4], q)


def test_a_quantile_is_exact_where_floating_point_is_not() -> None:
    # 0.07 * 100 is a hair above 7 in floating point, and would be the 8th value.
    found = quantile(LINEAR, [7, 93, 0, 0], 0.07)
    assert found is not None
    assert found.low == 0


def test_ranks_of_more_values_than_a_double_can_count_are_exact() -> None:
    half = 2**60 + 1
    at_half, past_half = (quantile(LINEAR, [half, rest, 0, 0], 0.5) for rest in (half, half + 1))
    assert at_half is not None
    assert past_half is not None
    assert (at_half.low, past_half.low) == (0, 10)


def test_the_overflow_bucket_has_no_upper_bound_and_its_estimate_is_the_least_possible() -> None:
    assert quantile(LINEAR, [0, 0, 0, 3], 0.5) == Quantile(0.5, 30, math.inf, 30)


def test_a_bucket_of_one_integer_is_estimated_as_that_integer() -> None:
    zeros_and_ones = Descriptor("log", Kind.LOG_HISTOGRAM, size=5)
    assert quantile(zeros_and_ones, [3, 0, 0, 0, 0], 0.5) == Quantile(0.5, 0, 1, 0)
    assert quantile(zeros_and_ones, [0, 3, 0, 0, 0], 0.9) == Quantile(0.9, 1, 2, 1)


def test_estimates_lie_in_the_middle_of_evenly_spread_values() -> None:
    middle = quantile(LINEAR, [0, 1, 0, 0], 0.5)
    assert middle is not None
    assert middle.estimate == 15
    log = quantile(LOG_NS, [0] * 11 + [1] + [0] * 20, 0.5)
    assert log is not None
    assert log.estimate == pytest.approx(1024e-9 * math.sqrt(2))


def test_absurd_exponents_give_no_exception() -> None:
    for exponent in (-(2**15), 2**15 - 1):
        absurd = Descriptor("t", Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=exponent, size=8)
        assert edges(absurd).shape == (9,)
        quantile(absurd, [1, 2, 3, 4, 5, 6, 7, 8], 0.5)


def test_quantiles_of_a_real_histogram() -> None:
    file = parse((Path(__file__).parent.parent / "data" / "statsfile" / "x86-6.18-vcpu.bin").read_bytes())
    waits = file["halt_wait_hist"]
    assert isinstance(waits, tuple)
    found = quantile(file.schema("kvm", Scope.VCPU)["halt_wait_hist"], waits, 0.5)
    assert found is not None
    # 11 waits, the 6th longest of which was ended by a signal after 20 ms.
    assert found.low <= 0.020 < found.high


@given(st.sampled_from([LINEAR, LOG_NS]), st.lists(st.integers(0, 2**34), min_size=1, max_size=50), st.data())
def test_the_share_below_a_bound_between_buckets_is_exact(
    descriptor: Descriptor, values: list[int], data: st.DataObject
) -> None:
    bound = data.draw(st.sampled_from([bucket.low for bucket in buckets(descriptor)]))
    histograms = Distributions(descriptor, np.array([counted(descriptor, values)], dtype=np.uint64))
    share = histograms.share_below(edges(descriptor)[[bucket.low for bucket in buckets(descriptor)].index(bound)])
    assert share.tolist() == [pytest.approx(sum(value < bound for value in values) / len(values))]


@given(st.sampled_from([LINEAR, LOG_NS]), st.data(), st.floats(0, 40), st.floats(0, 40))
def test_the_share_below_a_bound_grows_with_the_bound(
    descriptor: Descriptor, data: st.DataObject, a: float, b: float
) -> None:
    counts = data.draw(st.lists(st.integers(0, 9), min_size=descriptor.size - 1, max_size=descriptor.size - 1))
    histograms = Distributions(descriptor, np.array([[*counts, 0]], dtype=np.uint64))
    low, high = (histograms.share_below(bound)[0] for bound in sorted((a, b)))
    assert (math.isnan(low) and math.isnan(high)) if not any(counts) else 0 <= low <= high <= 1


def test_within_a_bucket_values_lie_evenly_and_on_a_log_scale_in_a_log_histogram() -> None:
    even = Distributions(LINEAR, np.array([[0, 4, 0, 0]], dtype=np.uint64))
    assert [even.share_below(bound)[0] for bound in (10, 15, 17.5, 20)] == [0, 0.5, 0.75, 1]
    log = Distributions(Descriptor("log", Kind.LOG_HISTOGRAM, size=5), np.array([[1, 0, 0, 3, 0]], dtype=np.uint64))
    assert [log.share_below(bound)[0] for bound in (0, 0.5, 4)] == [0, 0.25, 0.25]
    assert log.share_below(4 * math.sqrt(2))[0] == pytest.approx(0.25 + 0.75 / 2)


def test_a_bound_in_the_last_bucket_tells_nothing_of_the_values_there() -> None:
    histograms = Distributions(LINEAR, np.array([[1, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=np.uint64))
    np.testing.assert_equal(histograms.share_below(31), [math.nan, 1, math.nan])
    np.testing.assert_equal(histograms.share_below(30), [0.5, 1, math.nan])


def test_words_and_numbers_have_the_same_quantiles() -> None:
    words = np.array([[1, 2, 3, 4], [0, 0, 0, 0], [0, 2**64 - 3, 0, 5]], dtype=np.uint64)
    numbers = np.array([[1, 2, 3, 4], [0, 0, 0, 0], [0, -3, 0, 5]], dtype=np.float64)
    for part in ("low", "high", "estimate"):
        of_words, of_numbers = (getattr(quantiles(LINEAR, counts, (0.1, 0.9)), part) for counts in (words, numbers))
        np.testing.assert_equal(of_words, of_numbers)
