"""The only widget of the screen: it shows lines, and makes the terminal write only the cells that changed.

It is not a ``DataTable`` or ``ScrollView``: a page makes only its visible lines, and scrolls them itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.segment import Segment
from rich.style import Style as TerminalStyle
from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from ..view.text import Line, Style, cells
from .lines import ScreenLine
from .looks import LOOKS

_WHEEL: Final = 3

STYLES: Final = {
    style: TerminalStyle(
        color=look.colour,
        bold=look.is_bold or None,
        dim=look.is_dim or None,
        reverse=look.is_reversed or None,
    )
    for style, look in LOOKS.items()
}
_SELECTED: Final = TerminalStyle(reverse=True)
_SELECTED_STYLES: Final = {style: _SELECTED + TerminalStyle(bold=style is Style.PROBLEM) for style in Style}
"""The line with the cursor has one colour, to stay legible in every theme."""

_STALE: Final = TerminalStyle(dim=True)


class Canvas(Widget, can_focus=True):
    """Shows the lines of the last call of ``show``."""

    DEFAULT_CSS = "Canvas { width: 100%; height: 100%; }"

    class Clicked(Message):
        """The mouse was pressed on a cell; ``is_double``: a second time."""

        def __init__(self, x: int, y: int, *, is_double: bool) -> None:
            super().__init__()
            self.x = x
            self.y = y
            self.is_double = is_double

    class Wheeled(Message):
        """The wheel was turned by ``lines`` lines, down if positive."""

        def __init__(self, lines: int) -> None:
            super().__init__()
            self.lines = lines

    def __init__(self) -> None:
        super().__init__()
        self._lines: Sequence[ScreenLine] = ()

    def show(self, lines: Sequence[ScreenLine]) -> None:
        """Show these lines; unchanged cells are not written."""
        before, self._lines = self._lines, lines
        for y in range(max(len(before), len(lines))):
            if y >= len(before) or y >= len(lines):
                self.refresh(Region(0, y, self.size.width, 1))
            elif before[y] != lines[y]:
                self.refresh(Region(0, y, _changed_until(before[y], lines[y]), 1))

    def render_line(self, y: int) -> Strip:
        if y >= len(self._lines):
            return Strip.blank(self.size.width, self.rich_style)
        line = self._lines[y]
        # The terminal's default colours need not be written.
        base = TerminalStyle() if self.app.native_ansi_color else self.rich_style
        if line.is_stale:
            base += _STALE
        styles = _SELECTED_STYLES if line.is_selected else STYLES
        segments = [Segment(span.text, base + styles[span.style]) for span in _merged(line.spans)]
        return Strip(segments, self.size.width)

    def on_click(self, event: events.Click) -> None:
        self.post_message(self.Clicked(event.x, event.y, is_double=event.chain > 1))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.post_message(self.Wheeled(_WHEEL))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.post_message(self.Wheeled(-_WHEEL))


def _merged(spans: Line) -> Iterator[_Piece]:
    """Adjacent spans of one style merged, to save bytes; blanks take the style of the span before them."""
    text, style = "", Style.PLAIN
    for span in spans:
        own = style if span.text.isspace() and Style.ALERT not in (style, span.style) else span.style
        if own is not style and text:
            yield _Piece(text, style)
            text = ""
        style = own
        text += span.text
    if text:
        yield _Piece(text, style)


class _Piece:
    """A run of one style."""

    __slots__ = ("style", "text")

    def __init__(self, text: str, style: Style) -> None:
        self.text = text
        self.style = style


def _changed_until(before: ScreenLine, now: ScreenLine) -> int:
    """The number of cells to write so that one line becomes another; Textual writes a line from its start."""
    longest = max(_width(before), _width(now))
    if (before.is_selected, before.is_stale) != (now.is_selected, now.is_stale):
        return longest
    if [cells(span.text) for span in before.spans] != [cells(span.text) for span in now.spans]:
        return longest
    x = last = 0
    for old, new in zip(before.spans, now.spans, strict=True):
        x += cells(new.text)
        if old != new:
            last = x
    return last


def _width(line: ScreenLine) -> int:
    return sum(cells(span.text) for span in line.spans)
