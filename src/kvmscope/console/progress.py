"""A line on the terminal that says what a command waits for, cleared as soon as there is output.

It goes to stderr, and only if that is a terminal on which a line can be cleared, so it never gets into data or logs.
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
    """The same items; ``text`` is on the terminal until the first one comes."""
    with progress(text):
        first = list(islice(things, 1))
    return chain(first, things)


def reading_progress(interval_s: float) -> AbstractContextManager[None]:
    """Shows how long the block is going to read."""
    return progress(f"reading for {format_seconds(interval_s)}")


@contextlib.contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """In the block, yields a function that replaces the shown text by another."""
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
