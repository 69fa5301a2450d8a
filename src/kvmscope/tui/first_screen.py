"""The first view on the terminal, drawn before Textual is loaded, as loading it doubles the time of a start.

It is drawn once, on the terminal's alternate screen, which Textual then takes over (``driver``). Until then, the
terminal keeps the keys that are pressed.
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
"""The colours in the order of their SGR numbers, from 30 on."""


class FirstScreen:
    """A screen that is drawn once. Always call ``close``; it leaves a screen that was handed over as it is."""

    def __init__(self, *, has_colours: bool) -> None:
        self._has_colours = has_colours
        self._fd = sys.stdin.fileno()
        self._attributes: list[Any] | None = None

    @property
    def is_drawn(self) -> bool:
        """Whether it is on the terminal and not yet handed over."""
        return self._attributes is not None

    def draw(self, lines: Sequence[ScreenLine]) -> None:
        """Draw it, and let the terminal keep keys from now on."""
        self._attributes = termios.tcgetattr(self._fd)
        termios.tcsetattr(self._fd, termios.TCSANOW, _keeping_keys(self._attributes))
        _write("".join(_drawn(lines, has_colours=self._has_colours)))

    def hand_over(self) -> bool:
        """Leave this screen to another writer; false if it is not drawn or was handed over before."""
        if self._attributes is None:
            return False
        termios.tcsetattr(self._fd, termios.TCSANOW, self._attributes)
        self._attributes = None
        return True

    def close(self) -> None:
        """Restore the terminal, unless the screen was handed over."""
        if self.hand_over():
            _write(_LEAVE_ALTERNATE + _SHOW_CURSOR)


def _keeping_keys(attributes: Sequence[Any]) -> list[Any]:
    """Terminal attributes that keep keys as Textual will read them: Enter unchanged, and Ctrl-C as a key."""
    changed = [*attributes]
    changed[tty.IFLAG] &= ~(termios.IXON | termios.IXOFF | termios.ICRNL | termios.INLCR | termios.IGNCR)
    changed[tty.LFLAG] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
    return changed


def styled(span: Span, *, has_colours: bool) -> str:
    """The text with the SGR sequences of its style."""
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
