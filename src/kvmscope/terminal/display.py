"""Writes an answer once or at every interval: as JSON, as plain text, or in colour on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Generic, TypeVar

import click

from ..console.streams import is_screen
from .echo import echo_answer

if TYPE_CHECKING:
    from rich.console import RenderableType

T = TypeVar("T")


class Display(Generic[T]):
    """Writes answers. ``plain``: makes the lines of an answer for anything but a terminal. ``in_colour``: makes what
    rich prints, from a number of columns and, for a watched screen, of lines.
    """

    def __init__(
        self,
        plain: Callable[[T], Iterable[str]],
        in_colour: Callable[[T, int, int | None], RenderableType],
        *,
        as_json: bool,
    ) -> None:
        self._plain = plain
        self._in_colour = in_colour
        self._as_json = as_json
        self._is_plain = as_json or not sys.stdout.isatty()

    def echo(self, answer: T) -> None:
        """Write one answer."""
        if self._is_plain:
            echo_answer(answer, self._plain(answer), as_json=self._as_json)
            return
        from rich.console import Console

        console = Console()
        console.print(self._in_colour(answer, console.width, None))

    def watch(self, answers: Iterable[T]) -> None:
        """Write answers one after another: each replaces the last on a terminal, else follows it; JSON on one line."""
        if self._is_plain or not is_screen(sys.stdout):
            for answer in answers:
                echo_answer(answer, self._plain(answer), as_json=self._as_json, one_line=True)
                if not self._as_json:
                    click.echo()
                sys.stdout.flush()
            return
        from rich.console import Console
        from rich.live import Live

        console = Console()
        # The progress line goes to stderr and is cleared by an escape sequence that rich would print as text.
        with Live(redirect_stderr=False, console=console, auto_refresh=False, vertical_overflow="crop") as live:
            for answer in answers:
                live.update(self._in_colour(answer, console.width, console.height), refresh=True)
