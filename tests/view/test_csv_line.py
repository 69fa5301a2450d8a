"""Rows of CSV: what reads them back has the same cells, and no name acts on a terminal or in a spreadsheet."""

from __future__ import annotations

import csv
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.view.csv_line import csv_line


def read_back(line: str) -> list[str]:
    [row] = csv.reader([line])
    return row


@given(st.lists(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]))), st.integers())
def test_a_row_is_one_line_that_is_read_back(texts: list[str], number: int) -> None:
    row = read_back(csv_line([number, *texts]))
    assert row == [
        str(number),
        *(cell if cell == text else f"'{text}" for cell, text in zip(row[1:], texts, strict=True)),
    ]


@pytest.mark.parametrize(
    ("value", "cell"), [(None, ""), (True, "1"), (False, "0"), (1.5, "1.5"), (2**64 - 1, str(2**64 - 1))]
)
def test_what_is_no_text_stands_as_it_is(value: Any, cell: str) -> None:
    assert read_back(csv_line(["vm", value])) == ["vm", cell]


@pytest.mark.parametrize(
    "name", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "=cmd|' /C calc'!A0", " =1+1", "\t=1+1", "-x", "--json"]
)
def test_a_name_is_no_formula(name: str) -> None:
    assert read_back(csv_line([name])) == ["'" + name.replace("\t", " ")]


@pytest.mark.parametrize("text", ["-5", "+5", "-1.5e-9", "-", "a=b", "a-b", "1-2", "web@host", ""])
def test_numbers_and_other_text_stay_as_they_are(text: str) -> None:
    assert read_back(csv_line(["vm", text])) == ["vm", text]


def test_control_characters_are_spaces() -> None:
    assert csv_line(["a\x1b[31mb\x9bc\r\nd\0e\x7f"]) == "a [31mb c  d e "
