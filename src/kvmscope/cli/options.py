"""Options that several commands share, so that each is spelt and explained once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_UNITS_S = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_duration(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """A time such as ``500ms``, ``1s`` or ``2m`` in seconds, more than 0; for an option's ``callback``."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", value)
    if match is None or match[2] not in _UNITS_S or not float(match[1]):
        raise click.BadParameter(f"{value!r} is not a time such as 500ms, 1s or 2m")
    return float(match[1]) * _UNITS_S[match[2]]


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
