"""The first view on the terminal before Textual is loaded, which takes as long as all before it.

It is drawn once, on the terminal's alternate screen, and Textual goes on upon it (``driver``). Keys that are pressed
until then are kept by the terminal.
"""

from __future__ import annotations

import os
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ..view.text import Span
from .lines import ScreenLine
from .looks import LOOKS

ENTER_ALTERNATE: Final = "\x1b[?1049h"
_LEAVE_ALTERNATE: Final = "\x1b[?1049l"
_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_COLOURS: Final = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
"""In the order of their numbers in SGR sequences, from 30 on."""


class FirstScreen:
    """A screen that was drawn. Exactly one of ``hand_over`` and ``close`` gives the terminal back."""

    def __init__(self, lines: Sequence[ScreenLine], *, has_colours: bool) -> None:
        self._fd = sys.stdin.fileno()
        self._attributes: list[Any] | None = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd, termios.TCSANOW)
        _write("".join(_drawn(lines, has_colours=has_colours)))

    def hand_over(self) -> bool:
        """Somebody else draws on this screen from now on; false if it was handed over or closed before."""
        if self._attributes is None:
            return False
        termios.tcsetattr(self._fd, termios.TCSANOW, self._attributes)
        self._attributes = None
        return True

    def close(self) -> None:
        """Leave the terminal as it was, unless the screen was handed over."""
        if self.hand_over():
            _write(_LEAVE_ALTERNATE + _SHOW_CURSOR)


def styled(span: Span, *, has_colours: bool) -> str:
    """The text in its style, as a terminal takes it."""
    look = LOOKS[span.style]
    numbers = [number for number, is_on in ((1, look.is_bold), (2, look.is_dim), (7, look.is_reversed)) if is_on]
    if look.colour is not None and has_colours:
        numbers.append(30 + _COLOURS.index(look.colour))
    return f"\x1b[{';'.join(map(str, numbers))}m{span.text}\x1b[0m" if numbers else span.text


def _drawn(lines: Sequence[ScreenLine], *, has_colours: bool) -> Iterator[str]:
    yield ENTER_ALTERNATE + _HIDE_CURSOR
    for y, line in enumerate(lines, 1):
        yield f"\x1b[{y};1H"
        yield from (styled(span, has_colours=has_colours) for span in line.spans)


def _write(text: str) -> None:
    data = text.encode(sys.stdout.encoding, "replace")
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]
