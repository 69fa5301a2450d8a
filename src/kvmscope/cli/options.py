"""Options that several commands share, so that each is spelt and explained once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

_MOST_QUOTED = 60

F = TypeVar("F", bound=Callable[..., Any])

_UNITS_S = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_SHORTEST_S, _LONGEST_S = 1e-3, 10_000 * 3600.0


def parse_duration(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """A time such as ``500ms``, ``1s`` or ``2m`` in seconds, of 1 ms to 10,000 hours; for an option's ``callback``."""
    if value is None:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", value)
    if match is None or match[2] not in _UNITS_S:
        raise click.BadParameter(f"{shortened(value)} is not a time such as 500ms, 1s or 2m")
    seconds = float(match[1]) * _UNITS_S[match[2]]
    if not _SHORTEST_S <= seconds <= _LONGEST_S:
        raise click.BadParameter(
            f"{shortened(value)} is not a time such as 500ms, 1s or 2m; from 1ms to 10000h are possible"
        )
    return seconds


_SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SMALLEST_BYTES, _LARGEST_BYTES = 1 << 20, 1 << 60


def parse_size(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """A size such as ``500M`` or ``20G`` in bytes (powers of 1024), from 1 MiB; for an option's ``callback``."""
    if value is None:
        return None
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([KMGT])(?:i?B)?", value)
    size = int(float(match[1]) * _SIZES[match[2]]) if match else 0
    if not _SMALLEST_BYTES <= size <= _LARGEST_BYTES:
        raise click.BadParameter(f"{shortened(value)} is not a size such as 500M or 20G, from 1M")
    return size


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
            self.fail(f"{shortened(value)} is not a whole number from {self.least} to {self.most}", param, ctx)
        return int(value)


def shortened(value: str) -> str:
    """What was typed, quoted, for a message of one line."""
    return repr(value if len(value) <= _MOST_QUOTED else value[: _MOST_QUOTED - 1] + "…")


def source_option(function: F) -> F:
    """``--source``: how to read this host."""
    return click.option(
        "--source",
        default="auto",
        show_default=True,
        metavar="NAME",
        help="How to read this host: auto takes the best that works; `kvmscope check` lists them.",
    )(function)


def json_option(function: F) -> F:
    """``--json``: the same for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")(function)
