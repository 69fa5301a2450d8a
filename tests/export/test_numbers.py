"""Values as text: exact to the last digit, by Python's fractions as the oracle."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.export.numbers import value_floats, value_texts
from kvmscope.schema import Base, Descriptor, Kind, Unit


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


@given(st.lists(st.integers(0, 2**53)))
def test_seconds_as_floats_are_those_nearest_to_the_nanoseconds(words: list[int]) -> None:
    stat = Descriptor("x", Kind.CUMULATIVE, Unit.SECONDS, exponent=-9)
    found = value_floats(stat, np.array(words, dtype=np.uint64)).tolist()
    assert found == [float(Fraction(word, 10**9)) for word in words]
