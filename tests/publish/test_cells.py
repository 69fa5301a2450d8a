"""Cells: what each kind of stat does with a value, and the kernel's bucket rules."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.publish.cells import (
    OFF,
    BitCell,
    BooleanCell,
    CounterCell,
    InstantCell,
    LinearHistogramCell,
    LogHistogramCell,
    PeakCell,
)


def words(size: int = 1) -> memoryview:
    return memoryview(bytearray(8 * size)).cast("Q")


def test_a_counter_adds_up() -> None:
    cell = CounterCell(words())
    cell.add()
    cell.add(41)
    assert cell.raw == (42,)


def test_a_counter_refuses_to_go_down() -> None:
    cell = CounterCell(words())
    cell.add(5)
    with pytest.raises(ValueError, match="cannot take -1"):
        cell.add(-1)
    assert cell.raw == (5,)


def test_an_instant_goes_up_and_down_and_shows_negatives_as_the_kernel_does() -> None:
    cell = InstantCell(words())
    seen: list[int] = []
    for value in (7, 3, -1):
        cell.set(value)
        seen += cell.raw
    assert seen == [7, 3, 2**64 - 1]
    with pytest.raises(ValueError, match="invalid value"):
        cell.set(2**64)
    assert cell.raw == (2**64 - 1,)


def test_a_boolean_is_stored_as_0_or_1() -> None:
    cell = BooleanCell(words())
    cell.set(True)
    assert cell.raw == (1,)
    cell.set(False)
    assert cell.raw == (0,)


@given(st.integers(0, 2**64 - 1), st.integers(0, 63), st.lists(st.booleans(), min_size=1))
def test_a_bit_changes_nothing_else_of_its_word(word: int, bit: int, values: list[bool]) -> None:
    shared = memoryview(bytearray(word.to_bytes(8, sys.byteorder))).cast("Q")
    cell = BitCell(shared, bit)
    assert cell.raw == (word >> bit & 1,)
    for value in values:
        cell.set(value)
        assert cell.raw == (int(value),)
    assert shared[0] & ~(1 << bit) == word & ~(1 << bit)
    assert shared[0] >> bit & 1 == values[-1]


def test_a_cell_that_is_off_takes_every_update_and_has_no_words() -> None:
    OFF.add()
    OFF.add(5)
    OFF.set(True)
    OFF.raise_to(7)
    OFF.record(9)
    OFF.detach()
    assert OFF.raw == ()


def test_a_peak_keeps_the_largest() -> None:
    cell = PeakCell(words())
    for value in (3, 9, 4):
        cell.raise_to(value)
    assert cell.raw == (9,)


@given(st.integers(1, 1000), st.integers(2, 20), st.lists(st.integers(0, 2**64 - 1)))
def test_linear_buckets_are_the_kernels(bucket_size: int, size: int, values: list[int]) -> None:
    cell = LinearHistogramCell(words(size), bucket_size)
    for value in values:
        cell.record(value)
    bounds = [(bucket_size * i, bucket_size * (i + 1)) for i in range(size - 1)]
    expected = [sum(low <= value < high for value in values) for low, high in bounds]
    assert cell.raw == (*expected, len(values) - sum(expected))


@given(st.integers(2, 40), st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 100)))
def test_log_buckets_are_the_kernels(size: int, values: list[int]) -> None:
    cell = LogHistogramCell(words(size))
    for value in values:
        cell.record(value)
    bounds = [(0, 1)] + [(2 ** (i - 1), 2**i) for i in range(1, size - 1)]
    expected = [sum(low <= value < high for value in values) for low, high in bounds]
    assert cell.raw == (*expected, len(values) - sum(expected))


@pytest.mark.parametrize("cell", [LinearHistogramCell(words(4), 10), LogHistogramCell(words(4))])
def test_a_histogram_refuses_negative_values(cell: LinearHistogramCell | LogHistogramCell) -> None:
    with pytest.raises(ValueError, match="cannot take -1"):
        cell.record(-1)
    assert cell.raw == (0, 0, 0, 0)


def test_a_detached_cell_takes_writes_that_nobody_sees() -> None:
    shared = bytearray(8)
    cell = CounterCell(memoryview(shared).cast("Q"))
    cell.add(3)
    cell.detach()
    cell.add(4)
    assert shared == (3).to_bytes(8, "little")
