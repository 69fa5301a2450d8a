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
    """A screen that is drawn once. ``close`` it whatever happens; what was handed over is left as it is."""

    def __init__(self, *, has_colours: bool) -> None:
        self._has_colours = has_colours
        self._fd = sys.stdin.fileno()
        self._attributes: list[Any] | None = None

    @property
    def is_drawn(self) -> bool:
        """Whether it is on the terminal, and nobody else's yet."""
        return self._attributes is not None

    def draw(self, lines: Sequence[ScreenLine]) -> None:
        """Draw it, on a terminal that keeps keys from now on."""
        self._attributes = termios.tcgetattr(self._fd)
        termios.tcsetattr(self._fd, termios.TCSANOW, _keeping_keys(self._attributes))
        _write("".join(_drawn(lines, has_colours=self._has_colours)))

    def hand_over(self) -> bool:
        """Somebody else draws on this screen from now on; false if it is not there to be handed over."""
        if self._attributes is None:
            return False
        termios.tcsetattr(self._fd, termios.TCSANOW, self._attributes)
        self._attributes = None
        return True

    def close(self) -> None:
        """Leave the terminal as it was, unless the screen was handed over."""
        if self.hand_over():
            _write(_LEAVE_ALTERNATE + _SHOW_CURSOR)


def _keeping_keys(attributes: Sequence[Any]) -> list[Any]:
    """With these attributes keys are kept as Textual is going to read them: Enter as it is, and Ctrl-C as a key."""
    changed = [*attributes]
    changed[tty.IFLAG] &= ~(termios.IXON | termios.IXOFF | termios.ICRNL | termios.INLCR | termios.IGNCR)
    changed[tty.LFLAG] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
    return changed


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
