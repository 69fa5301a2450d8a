"""A line on the terminal for as long as a command waits: what it waits for, gone once there is something to show.

It goes to stderr, and only if that is a terminal: data and logs have none of it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

_CLEAR_LINE = "\r\x1b[K"


@contextlib.contextmanager
def progress(text: str) -> Iterator[None]:
    """Shows ``text`` while the block runs."""
    if not sys.stderr.isatty():
        yield
        return
    sys.stderr.write(f"{text} …")
    sys.stderr.flush()
    try:
        yield
    finally:
        sys.stderr.write(_CLEAR_LINE)
        sys.stderr.flush()
