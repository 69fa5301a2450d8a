"""A row of CSV (RFC 4180) as one line, for programs, terminals and spreadsheets.

Rule: an unknown value is an empty cell. Names are untrusted text: a control character becomes a space, and a text that
spreadsheets would take for a formula gets a leading apostrophe.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
"""Terminals act on these, and readers without support for quotes take a line end for the end of a row."""

_FORMULA = re.compile(r"\s*[=+\-@]")
_NUMBER = re.compile(r"[+-]?[0-9.]+([eE][+-]?[0-9]+)?|-")


def csv_line(cells: Sequence[object]) -> str:
    """The cells separated by commas, without a line end. A boolean is 0 or 1."""
    line: str = csv.writer(_LineSink(), lineterminator="").writerow([_cell(cell) for cell in cells])
    return line


class _LineSink:
    """The file that csv writes a row to; ``writerow`` returns what ``write`` returns."""

    def write(self, text: str) -> str:
        return text


def _cell(value: object) -> object:
    if isinstance(value, str):
        return _text(value)
    return int(value) if isinstance(value, bool) else value


def _text(value: str) -> str:
    text = _CONTROL.sub(" ", value.encode("utf-8", "replace").decode())  # a lone surrogate is not UTF-8
    is_formula = _FORMULA.match(text) is not None and _NUMBER.fullmatch(text) is None
    return f"'{text}" if is_formula else text
