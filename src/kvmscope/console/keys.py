"""Keys of a terminal, one by one, as the names that ``store.cursor`` takes."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import select
import sys
import termios
import tty
from collections import deque
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
_KEY = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)
_READ_AT_ONCE = 4096


class KeyReader:
    """The keys of a terminal in order, also if several arrive at once, as from a held key or pasted text."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        self._waiting: deque[str] = deque()

    def read(self, wait_s: float | None) -> str | None:
        """The next key, by its name or as one character; empty for a key without a name here. None if no key came in
        ``wait_s``. If the terminal is gone, the key is ``q``.
        """
        if not self._waiting:
            if not select.select([self._fd], [], [], wait_s)[0]:
                return None
            data = os.read(self._fd, _READ_AT_ONCE)
            if not data:
                return "q"
            self._waiting += keys_of(self._decoder.decode(data))
        return self._waiting.popleft() if self._waiting else ""


def keys_of(text: str) -> Iterator[str]:
    """The keys that a terminal encodes as ``text``."""
    for key in _KEY.findall(text):
        named = _SEQUENCES.get(key.replace("\x1bO", "\x1b[", 1))
        yield named or ("" if key[0] == "\x1b" else key)


@contextlib.contextmanager
def keys_one_by_one() -> Iterator[KeyReader]:
    """In the block, keys of stdin are read as they are pressed, without echo. Ctrl-C still interrupts."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield KeyReader(fd)
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
