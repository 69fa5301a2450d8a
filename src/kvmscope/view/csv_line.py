"""A row of CSV (RFC 4180) as one line. Rule: what is not known is an empty cell."""

from __future__ import annotations

import csv
from collections.abc import Sequence


def csv_line(cells: Sequence[object]) -> str:
    """The cells with commas between, without a line end. A boolean is 0 or 1."""
    line: str = csv.writer(_LineSink(), lineterminator="").writerow([_cell(cell) for cell in cells])
    return line


class _LineSink:
    """What csv writes a row to; ``writerow`` gives back what ``write`` returns."""

    def write(self, text: str) -> str:
        return text


def _cell(value: object) -> object:
    if isinstance(value, str):
        # A bare line end would begin a row in readers that know no quotes, and a lone surrogate is not UTF-8.
        return value.encode("utf-8", "replace").decode().replace("\r", " ").replace("\n", " ").replace("\0", " ")
    return int(value) if isinstance(value, bool) else value
