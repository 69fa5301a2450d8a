"""Values and bounds as text: exact to the last digit, by Python's fractions as the oracle."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.export.numbers import bucket_bounds, float_text, value_floats, value_texts
from kvmscope.schema import Base, Descriptor, Kind, Unit

HALT_WAIT = Descriptor("halt_wait_hist", Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=32)


@given(st.lists(st.integers(0, 2**64 - 1)), st.sampled_from(Base), st.integers(-20, 20))
def test_a_count_is_written_to_its_last_digit(words: list[int], base: Base, exponent: int) -> None:
    stat = Descriptor("x", Kind.CUMULATIVE, Unit.SECONDS, base, exponent)
    for word, text in zip(words, value_texts(stat, np.array(words, dtype=np.uint64)), strict=True):
        exact = word * Fraction(base.number) ** exponent
        if base is Base.POW2 and exponent < 0:
            assert float(text) == pytest.approx(float(exact), rel=1e-15)
        else:
            assert Fraction(str(text)) == exact


def test_an_instant_that_fell_below_zero_is_negative() -> None:
    below = np.array([2**64 - 3], dtype=np.uint64)
    assert list(value_texts(Descriptor("x", Kind.INSTANT), below)) == [-3]
    assert value_floats(Descriptor("x", Kind.INSTANT), below).tolist() == [-3.0]
    of_ns = Descriptor("x", Kind.INSTANT, Unit.SECONDS, exponent=-9)
    assert list(value_texts(of_ns, below)) == ["-0.000000003"]


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


@given(st.lists(st.integers(0, 2**53)))
def test_seconds_as_floats_are_those_nearest_to_the_nanoseconds(words: list[int]) -> None:
    stat = Descriptor("x", Kind.CUMULATIVE, Unit.SECONDS, exponent=-9)
    found = value_floats(stat, np.array(words, dtype=np.uint64)).tolist()
    assert found == [float(Fraction(word, 10**9)) for word in words]
