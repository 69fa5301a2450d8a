"""Text on the way out: to stdout or stderr, and as wide as the terminal is."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import click

from ..view import text

_WIDTH_OF_A_PIPE = text.PAGE_WIDTH


def terminal_width() -> int | None:
    """Columns of the terminal that stdout is; None if it is not a terminal."""
    if not sys.stdout.isatty():
        return None
    from shutil import get_terminal_size  # it loads every compression: 4 ms, which pipes are spared

    return get_terminal_size().columns


def page_width() -> int:
    """Columns that a text may take: those of the terminal, or of a page where there is none."""
    return terminal_width() or _WIDTH_OF_A_PIPE


def wrapped(lines: Iterable[str], *, indent: int) -> list[str]:
    """The same lines, broken to fit a terminal where there is one."""
    return text.wrapped(lines, indent=indent, width=terminal_width())


def echo_answer(view: object, lines: Iterable[str], *, as_json: bool, one_line: bool = False) -> None:
    """Write a view as JSON (for a stream of them on one line), or else its lines."""
    if not as_json:
        echo_lines(lines)
        return
    from ..view.jsonout import dump, to_value

    click.echo(dump(to_value(view), one_line=one_line))


def echo_lines(lines: Iterable[str]) -> None:
    """Write lines at once."""
    whole = "\n".join(lines)
    if whole:
        click.echo(whole)


def echo_each(lines: Iterable[str]) -> None:
    """Write each line as it comes."""
    for line in lines:
        click.echo(line)


def echo_damage(damage: Iterable[Exception]) -> None:
    """Say once on stderr, of each part of a recording that could not be read, where and why."""
    echo_notes(dict.fromkeys(f"damaged: {error}" for error in damage))


def echo_notes(lines: Iterable[str]) -> None:
    """Write lines that are about the data and not the data: to stderr."""
    for line in lines:
        click.echo(line, err=True)
