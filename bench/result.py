"""What a benchmark says: rows of a table, each with a target (if there is one), what was measured, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One measured thing. ``holds`` is None if nothing is demanded of it."""

    what: str
    measured: str
    target: str = ""
    holds: bool | None = None

    @property
    def verdict(self) -> str:
        return {None: "", True: "met", False: "missed"}[self.holds]


Bench = Callable[[], Sequence[Row]]


def at_most(what: str, measured: float, limit: float, *, note: str = "") -> Row:
    """A ratio that must not exceed ``limit``."""
    text = f"{measured:.2f}" + (f" ({note})" if note else "")
    return Row(what, text, target=f"≤ {limit:g}", holds=measured <= limit)


def table(rows: Sequence[Row]) -> str:
    """The rows as a table of Markdown."""
    lines = ["| what | target | measured | verdict |", "|---|---|---|---|"]
    lines += [f"| {row.what} | {row.target} | {row.measured} | {row.verdict} |" for row in rows]
    return "\n".join(lines)
