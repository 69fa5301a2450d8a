"""A line on the terminal for as long as a command waits: what it waits for, gone once there is something to show.

It goes to stderr, and only if that is a terminal on which a line can be cleared: data and logs have none of it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import chain, islice
from typing import TypeVar

from ..units import format_seconds
from .streams import is_screen

T = TypeVar("T")

_CLEAR_LINE = "\r\x1b[K"


@contextlib.contextmanager
def progress(text: str) -> Iterator[None]:
    """Shows ``text`` while the block runs."""
    if not is_screen(sys.stderr):
        yield
        return
    sys.stderr.write(f"{text} …")
    sys.stderr.flush()
    try:
        yield
    finally:
        sys.stderr.write(_CLEAR_LINE)
        sys.stderr.flush()


def until_first(things: Iterator[T], text: str) -> Iterator[T]:
    """The same things, the first of which was waited for with ``text`` on the terminal."""
    with progress(text):
        first = list(islice(things, 1))
    return chain(first, things)


def reading_progress(interval_s: float) -> AbstractContextManager[None]:
    """Shows for how long a block reads."""
    return progress(f"reading for {format_seconds(interval_s)}")


@contextlib.contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """Gives what shows a text in place of the one before, while the block runs."""
    if not is_screen(sys.stderr):
        yield lambda _text: None
        return

    def show(text: str) -> None:
        sys.stderr.write(f"{_CLEAR_LINE}{text}")
        sys.stderr.flush()

    try:
        yield show
    finally:
        show("")
