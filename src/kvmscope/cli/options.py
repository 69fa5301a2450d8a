"""Options that several commands share, each spelled and explained once."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from ..units import parse_bytes, parse_file_mode, parse_seconds, quoted

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def parse_with(parse: Callable[[str], T]) -> Callable[[click.Context, click.Parameter, str | None], T | None]:
    """An option's ``callback``, made from a function that raises ValueError for invalid text."""

    def callback(_ctx: click.Context, _param: click.Parameter, value: str | None) -> T | None:
        try:
            return None if value is None else parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return callback


parse_duration = parse_with(parse_seconds)
"""A time such as ``500ms``, ``1s`` or ``2m`` in seconds, of 1 ms to 10,000 hours."""

parse_size = parse_with(parse_bytes)
"""A size such as ``500M`` or ``20G`` in bytes (powers of 1024), from 1 MiB."""


parse_mode = parse_with(parse_file_mode)
"""The number of a file mode such as 0440."""


class WholeNumber(click.IntRange):
    """An integer from ``least`` to ``most``, in the digits 0 to 9."""

    def __init__(self, least: int, most: int) -> None:
        super().__init__(least, most)
        self.least = least
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"-?[0-9]{1,18}", value)
        if match is None or not self.least <= int(value) <= self.most:
            self.fail(f"{quoted(value)} is not a whole number from {self.least} to {self.most}", param, ctx)
        return int(value)


class FilePath(click.Path):
    """The path of a file or directory, which need not exist."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value or "\0" in str(value):
            self.fail(f"{quoted(str(value))} is not a path", param, ctx)
        return super().convert(value, param, ctx)


class PlaceName(click.ParamType[str]):
    """A recording or a directory of them, by its path or the URI of an object store."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        # An empty word comes from an unset shell variable; as a path it would be the current directory.
        if not value or "\0" in str(value):
            self.fail(f"{quoted(str(value))} is not the path of a recording", param, ctx)
        return value


PLACE: Final = PlaceName()


def time_option(*names: str, default: str | None = None, help: str) -> Callable[[F], F]:  # noqa: A002 - click's word
    """An option whose value is a time, in seconds."""
    return click.option(
        *names, callback=parse_duration, default=default, show_default=default is not None, metavar="TIME", help=help
    )


def number_option(
    name: str,
    least: int,
    most: int,
    *,
    default: int | None = None,
    metavar: str = "N",
    help: str,  # noqa: A002
) -> Callable[[F], F]:
    """An option whose value is a whole number in a range."""
    number = WholeNumber(least, most)
    return click.option(
        name, type=number, default=default, show_default=default is not None, metavar=metavar, help=help
    )


def interval_option(default: str | None = "1s", *, help: str = "Length of the interval.") -> Callable[[F], F]:  # noqa: A002
    """``--interval``."""
    return time_option("--interval", default=default, help=help)


def watch_option(text: str) -> Callable[[F], F]:
    """``--watch``."""
    return click.option("--watch", "-w", is_flag=True, help=text)


def count_option(text: str) -> Callable[[F], F]:
    """``--count GROUP``, which may be repeated."""
    return click.option("--count", "groups", multiple=True, metavar="GROUP", help=text)


def source_option(function: F) -> F:
    """``--source``: how to read this host."""
    return click.option(
        "--source",
        default="auto",
        show_default=True,
        metavar="NAME",
        help="How to read this host: auto uses the best source that works; `kvmscope check` lists them.",
    )(function)


def json_option(function: F) -> F:
    """``--json``: output for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")(function)
