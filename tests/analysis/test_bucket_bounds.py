"""Bounds of buckets as text: exact to the last digit, by Python's fractions as the oracle."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from kvmscope.analysis.bucket_bounds import bucket_bounds, float_text
from kvmscope.schema import Descriptor, Kind, Unit

HALT_WAIT = Descriptor("halt_wait_hist", Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=32)


def test_the_bounds_of_a_log_histogram_are_the_largest_whole_number_of_each_bucket() -> None:
    bounds = bucket_bounds(HALT_WAIT)
    assert len(bounds) == 32
    assert bounds[-1] == "+Inf"
    for k, bound in enumerate(bounds[:-1]):
        assert float(bound) == float(Fraction(2**k - 1, 10**9))
    assert bounds[:3] == ("0.0", "1e-09", "3e-09")


def test_the_bounds_of_a_linear_histogram_are_inclusive() -> None:
    sizes = Descriptor("sizes", Kind.LINEAR_HISTOGRAM, Unit.BYTES, size=4, bucket_size=4096)
    assert bucket_bounds(sizes) == ("4095.0", "8191.0", "12287.0", "+Inf")


@given(st.floats(allow_nan=False))
def test_a_float_is_read_back_as_it_was(number: float) -> None:
    assert float(float_text(number)) == number
