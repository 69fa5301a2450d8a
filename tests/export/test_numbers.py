"""Values as text: exact to the last digit, by Python's fractions as the oracle."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.export.numbers import ValueColumns, number_columns, value_floats, word_columns
from kvmscope.schema import Base, Descriptor, Kind, Unit


def texts(values: ValueColumns) -> list[str]:
    return [(values.pattern % tuple(row)).decode() for row in values.columns.tolist()]


@given(st.lists(st.integers(0, 2**64 - 1)), st.sampled_from(Base), st.integers(-20, 20))
def test_a_count_is_written_to_its_last_digit(words: list[int], base: Base, exponent: int) -> None:
    stat = Descriptor("x", Kind.CUMULATIVE, Unit.SECONDS, base, exponent)
    for word, text in zip(words, texts(word_columns(stat, np.array(words, dtype=np.uint64))), strict=True):
        exact = word * Fraction(base.number) ** exponent
        if base is Base.POW2 and exponent < 0:
            assert float(text) == pytest.approx(float(exact), rel=1e-15)
        else:
            assert Fraction(text) == exact


def test_an_instant_that_fell_below_zero_is_negative() -> None:
    below = np.array([2**64 - 3, 7], dtype=np.uint64)
    assert texts(word_columns(Descriptor("x", Kind.INSTANT), below)) == ["-3", "7"]
    assert value_floats(Descriptor("x", Kind.INSTANT), below).tolist() == [-3.0, 7.0]
    of_ns = Descriptor("x", Kind.INSTANT, Unit.SECONDS, exponent=-9)
    assert texts(word_columns(of_ns, below)) == ["-0.000000003", "0.000000007"]


@given(st.lists(st.one_of(st.integers(), st.floats(allow_nan=False))))
def test_a_number_of_our_own_is_read_back_as_it_was(numbers: list[float | int]) -> None:
    found = texts(number_columns(numbers))
    assert [
        float(text) if isinstance(number, float) else int(text) for number, text in zip(numbers, found, strict=True)
    ] == numbers


def test_a_number_that_is_not_finite_has_the_words_of_prometheus() -> None:
    assert texts(number_columns([float("inf"), 1, -float("inf"), np.float64(0.5)])) == ["+Inf", "1", "-Inf", "0.5"]


@given(st.lists(st.integers(0, 2**53)))
def test_seconds_as_floats_are_those_nearest_to_the_nanoseconds(words: list[int]) -> None:
    stat = Descriptor("x", Kind.CUMULATIVE, Unit.SECONDS, exponent=-9)
    found = value_floats(stat, np.array(words, dtype=np.uint64)).tolist()
    assert found == [float(Fraction(word, 10**9)) for word in words]
