"""The options of ``fleet`` that select its data: recordings, ClickHouse or Prometheus."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar, cast

import click

from ..console.progress import progress
from ..terminal.echo import echo_damage
from .options import PLACE, json_option, parse_size, time_option

F = TypeVar("F", bound=Callable[..., Any])

_MEMORY = "2G"


def fleet_options(function: F) -> F:
    """Adds the options of every command of ``fleet``. The command gets an open store, which is closed after it."""

    @click.option("--clickhouse", metavar="URL", help="Query this ClickHouse, into which recordings were loaded.")
    @click.option("--prometheus", metavar="URL", help="Query this Prometheus, or a store with its API.")
    @time_option("--interval", help="Length of an interval; by default about a third of the time.")
    @click.option(
        "--memory",
        callback=parse_size,
        default=_MEMORY,
        show_default=True,
        metavar="SIZE",
        help="Memory that the engine may take; what does not fit goes to a temporary directory.",
    )
    @json_option
    @functools.wraps(function)
    def command(
        *args: Any,
        paths: tuple[str, ...] = (),
        clickhouse: str | None,
        prometheus: str | None,
        interval: float | None,
        memory: int,
        **options: Any,
    ) -> Any:
        from ..tasks.stores import open_fleet

        with ExitStack() as opened:
            with progress("opening"):
                fleet = open_fleet(paths, clickhouse, prometheus, interval_s=interval, memory_bytes=memory)
                store = opened.enter_context(fleet)
            done = function(*args, store=store, **options)
            echo_damage(store.damage)
            return done

    return cast(F, command)


def paths_argument(function: F) -> F:
    """Adds the recordings as argument, for commands without another argument."""
    return click.argument("paths", type=PLACE, nargs=-1, metavar="[DIR]...")(function)
