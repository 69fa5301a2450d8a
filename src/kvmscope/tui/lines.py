"""Lines of a page: styled text of a known width, ready for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ..view.text import Line, Span, Style, cells, padded
from .charset import Charset

GAP: Final = 1
WHOLE_LINE: Final = 10_000
"""The maximum width of a column that takes all free space."""


@dataclass(frozen=True, slots=True)
class ScreenLine:
    """A line of a page. ``is_selected``: the cursor is on it. ``is_stale``: its values are outdated."""

    spans: Line
    is_selected: bool = False
    is_stale: bool = False


@dataclass(frozen=True, slots=True)
class PageSize:
    """The columns and rows of a page."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a table.

    ``least``, ``most``: minimum and maximum width in cells; ``most`` defaults to ``least``. ``rank``: on a narrow
    screen the column with the largest rank is left out first; columns with rank 0 stay.
    """

    title: str
    least: int
    most: int = 0
    is_text: bool = True
    rank: int = 0


def column_widths(columns: Sequence[TableColumn], width: int, *, gap: int = GAP) -> list[int]:
    """The cells of each column; 0 for one that is left out."""
    widths = [column.least for column in columns]
    by_rank = sorted(range(len(columns)), key=lambda place: -columns[place].rank)
    for place in by_rank:
        if _taken(widths, gap) > width and columns[place].rank:
            widths[place] = 0
    # Free cells go to the first columns that take them; missing cells are taken from the longest that stay.
    for place, column in enumerate(columns):
        if widths[place]:
            widths[place] += max(0, min(width - _taken(widths, gap), column.most - column.least))
    while _taken(widths, gap) > width and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return widths


def _taken(widths: Sequence[int], gap: int) -> int:
    shown = [width for width in widths if width]
    return sum(shown) + gap * max(0, len(shown) - 1)


def text_line(text: str, style: Style = Style.PLAIN) -> ScreenLine:
    """A line of one style, neither cut nor padded."""
    return ScreenLine((Span(text, style),))


def laid_out(line: ScreenLine, width: int, charset: Charset) -> ScreenLine:
    """The line in the characters of the terminal, exactly as wide as the page."""
    spans: list[Span] = []
    left = width
    for span in line.spans:
        text = charset.cut(span.text, left) if left > 0 else ""
        if text:
            spans.append(Span(text, span.style))
            left -= cells(text)
    if left > 0:
        spans.append(Span(" " * left, spans[-1].style if line.is_selected and spans else Style.PLAIN))
    return ScreenLine(tuple(spans), line.is_selected, line.is_stale)


def cell_line(
    texts: Sequence[Span], widths: Sequence[int], is_text: Sequence[bool], charset: Charset, *, gap: int = GAP
) -> Line:
    """The cells of a table row in their columns; numbers are aligned to the right."""
    spans = []
    last = len(texts) - 1
    for place, (span, width, is_left) in enumerate(zip(texts, widths, is_text, strict=True)):
        text = padded(charset.cut(span.text, width), width, not is_left)
        spans.append(Span(text if place == last else text + " " * gap, span.style))
    return tuple(spans)


def two_sided(left: Line, right: str, width: int, charset: Charset, style: Style = Style.PLAIN) -> ScreenLine:
    """A line with a text at its right end; the left part is cut to make room."""
    end = charset.cut(right, width)
    room = width - cells(end)
    begin = laid_out(ScreenLine(left), room - 1 if room else 0, charset)
    blank = " " if room else ""
    return ScreenLine((*begin.spans, Span(f"{blank}{end}", style)))


def plain_text(lines: Iterable[ScreenLine]) -> str:
    """The lines without styles and trailing blanks."""
    return "\n".join("".join(span.text for span in line.spans).rstrip() for line in lines)
