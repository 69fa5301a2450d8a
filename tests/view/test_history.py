"""Sparklines and charts: their scale, their steadiness, and what is not known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvmscope.view.history import ASCII_BLOCKS, BLOCKS, chart_lines, sparkline

VALUES = st.lists(st.none() | st.floats(0, 1e12), max_size=200)


def test_a_sparkline_goes_from_zero_to_the_largest_value() -> None:
    assert sparkline([0, 4, 7], 3) == "▁▅█"
    assert sparkline([0, 4, 7], 3, levels=ASCII_BLOCKS) == "_=#"


def test_what_is_not_known_is_blank_and_zero_is_not() -> None:
    assert sparkline([1, None, 0], 3) == "█ ▁"
    assert chart_lines([1, None, 0], 3, 2) == ["█  ", "█ ▁"]


def test_a_cell_is_the_largest_of_its_windows_and_stays_as_more_come() -> None:
    assert sparkline([1, 8, 2, 4], 2) == "█▅"
    assert sparkline([1, 8, 2, 4, 8], 3) == "█▅█"
    assert sparkline([8, 2, 4, 8], 3, first=1) == "█▅█"
    assert sparkline([1, 8], 4) == "  ▂█"


@given(VALUES, st.integers(0, 80), st.sampled_from([BLOCKS, ASCII_BLOCKS]))
def test_a_sparkline_is_as_wide_as_asked(values: list[float | None], width: int, levels: str) -> None:
    text = sparkline(values, width, levels=levels)
    assert len(text) == width
    assert set(text) <= set(levels) | {" "}


@given(VALUES, st.integers(1, 80), st.integers(1, 9))
def test_a_chart_has_the_size_that_was_asked_for(values: list[float | None], width: int, height: int) -> None:
    lines = chart_lines(values, width, height)
    assert [len(line) for line in lines] == [width] * height
