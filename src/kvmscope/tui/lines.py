"""Lines of a page: styled text of a known width, which a terminal writes as it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ..view.text import Line, Span, Style, cells, padded
from .charset import Charset

GAP: Final = 1


@dataclass(frozen=True, slots=True)
class ScreenLine:
    """A line of a page. ``is_selected``: the cursor is on it. ``is_stale``: its values are not of now."""

    spans: Line
    is_selected: bool = False
    is_stale: bool = False


@dataclass(frozen=True, slots=True)
class PageSize:
    """Columns and rows that a page has."""

    width: int
    height: int


def text_line(text: str, style: Style = Style.PLAIN) -> ScreenLine:
    """A line of one style, as long as it comes."""
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
    """Cells of a table in their columns; numbers stand at the right."""
    spans = []
    last = len(texts) - 1
    for place, (span, width, is_left) in enumerate(zip(texts, widths, is_text, strict=True)):
        text = padded(charset.cut(span.text, width), width, not is_left)
        spans.append(Span(text if place == last else text + " " * gap, span.style))
    return tuple(spans)


def two_sided(left: Line, right: str, width: int, charset: Charset, style: Style = Style.PLAIN) -> ScreenLine:
    """A line with something at its right end; the left part is cut for it."""
    end = charset.cut(right, width)
    room = width - cells(end)
    begin = laid_out(ScreenLine(left), room - 1 if room else 0, charset)
    blank = " " if room else ""
    return ScreenLine((*begin.spans, Span(f"{blank}{end}", style)))


def plain_text(lines: Iterable[ScreenLine]) -> str:
    """The lines without styles and without blanks at their ends."""
    return "\n".join("".join(span.text for span in line.spans).rstrip() for line in lines)
