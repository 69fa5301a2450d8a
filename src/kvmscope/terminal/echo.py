"""Writes text to stdout or stderr, fitted to the terminal's width."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import click

from ..view import text

_WIDTH_OF_A_PIPE = text.PAGE_WIDTH


def terminal_width() -> int | None:
    """The columns of the terminal at stdout; None if it is not a terminal."""
    if not sys.stdout.isatty():
        return None
    from shutil import get_terminal_size  # takes 4 ms, as it loads every compression; pipes do without

    return get_terminal_size().columns


def page_width() -> int:
    """The columns for text: those of the terminal, or of a page without one."""
    return terminal_width() or _WIDTH_OF_A_PIPE


def wrapped(lines: Iterable[str], *, indent: int) -> list[str]:
    """The lines, wrapped to fit the terminal if there is one."""
    return text.wrapped(lines, indent=indent, width=terminal_width())


def echo_answer(view: object, lines: Iterable[str], *, as_json: bool, one_line: bool = False) -> None:
    """Write a view as JSON (``one_line``: for a stream of views), or its lines."""
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
    """Write each line as soon as it is made."""
    for line in lines:
        click.echo(line)


def echo_damage(damage: Iterable[Exception]) -> None:
    """Report on stderr, once for each part of a recording that could not be read, where it is and why."""
    echo_notes(dict.fromkeys(f"damaged: {error}" for error in damage))


def echo_notes(lines: Iterable[str]) -> None:
    """Write lines about the data to stderr."""
    for line in lines:
        click.echo(line, err=True)
