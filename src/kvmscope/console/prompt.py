"""A prompt that reads statements of one or more lines, with history and completion. It does not interpret them.

A statement ends with ``;``, or is one line that begins with a dot. Ctrl-C drops what was typed, Ctrl-D ends.
"""

from __future__ import annotations

import contextlib
import os
import readline
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .interrupts import until_interrupted

_KEPT = 1000
_DELIMITERS = " \t\n,;()=<>+-*/'"


def history_file(name: str) -> Path:
    """The path of a prompt's history, by the XDG base directories."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "kvmscope" / name


def read_statements(prompt: str, history: Path, words: Sequence[str]) -> Iterator[str]:
    """The typed statements, one at a time, without ``;``. ``words``: words that Tab completes."""
    with contextlib.suppress(OSError):
        readline.read_history_file(history)
    readline.set_completer_delims(_DELIMITERS)
    readline.set_completer(_completer(words))
    readline.parse_and_bind("tab: complete")
    readline.set_history_length(_KEPT)
    try:
        yield from _statements(prompt)
    finally:
        readline.set_completer(None)
        with contextlib.suppress(OSError):
            history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            readline.write_history_file(history)


def _statements(prompt: str) -> Iterator[str]:
    typed: list[str] = []
    while True:
        line = None
        with until_interrupted():
            try:
                line = input(" " * (len(prompt) - 2) + "> " if typed else prompt)
            except EOFError:
                print()
                return
        if line is None:  # Ctrl-C
            print()
            typed = []
            continue
        typed.append(line)
        whole = "\n".join(typed).strip()
        if not whole or (whole.startswith(".") and len(typed) == 1) or whole.endswith(";"):
            typed = []
            if whole.rstrip("; \n"):
                yield whole.rstrip("; \n")


def _completer(words: Sequence[str]) -> Callable[[str, int], str | None]:
    def complete(text: str, number: int) -> str | None:
        found = [word for word in words if word.lower().startswith(text.lower())] if text else []
        return found[number] if number < len(found) else None

    return complete
