"""Keys of a terminal, one by one, as the names that ``store.cursor`` takes."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator

_SEQUENCES = {
    "\x1b[C": "right",
    "\x1b[D": "left",
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1b[H": "home",
    "\x1b[F": "end",
    "\x1b[1~": "home",
    "\x1b[4~": "end",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x1b": "escape",
}
_LONGEST = 16


@contextlib.contextmanager
def keys_one_by_one() -> Iterator[None]:
    """In the block, keys of stdin are read as they are pressed, and not shown. Ctrl-C stays what it is."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def read_key(wait_s: float | None) -> str | None:
    """The next key, by its name or as one character; empty for one without a name here. None if there was none for so
    long. A terminal that has gone is ``q``.
    """
    fd = sys.stdin.fileno()
    if not select.select([fd], [], [], wait_s)[0]:
        return None
    text = os.read(fd, _LONGEST).decode("utf-8", "replace")
    if not text:
        return "q"
    return _SEQUENCES.get(text) or (text[0] if text[0] != "\x1b" else "")
