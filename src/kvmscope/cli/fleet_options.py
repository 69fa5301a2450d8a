"""Where the commands of ``fleet`` ask: recordings, ClickHouse or Prometheus, and how that is typed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from ..errors import UsageError
from ..store.requirements import require_pyarrow
from .echo import echo_damage
from .options import json_option, parse_size, time_option

if TYPE_CHECKING:
    from ..engines.fleet import FleetStore

F = TypeVar("F", bound=Callable[..., Any])

_MEMORY = "2G"


def fleet_options(function: F) -> F:
    """The options of every command of ``fleet``; the command is given the store, which is closed after it."""

    @click.option("--clickhouse", metavar="URL", help="Ask this ClickHouse, to which recordings were loaded.")
    @click.option("--prometheus", metavar="URL", help="Ask this Prometheus, or a store that speaks its API.")
    @time_option("--interval", help="Length of an interval; by default a third of the time.")
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
        with _open(paths, clickhouse, prometheus, interval, memory) as store:
            done = function(*args, store=store, **options)
            echo_damage(store.damage)
            return done

    return cast(F, command)


def paths_argument(function: F) -> F:
    """The recordings, where the command has no other argument."""
    return click.argument("paths", nargs=-1, metavar="[DIR]...")(function)


def _open(
    paths: tuple[str, ...], clickhouse: str | None, prometheus: str | None, interval_s: float | None, memory: int
) -> FleetStore:
    """Raises UsageError unless one place was typed."""
    if bool(paths) + (clickhouse is not None) + (prometheus is not None) != 1:
        raise UsageError("name one place to ask: directories of recordings, --clickhouse URL or --prometheus URL")
    if prometheus is not None:
        from ..engines.prometheus.fleet import open_prometheus_fleet

        return open_prometheus_fleet(prometheus, interval_s=interval_s)
    require_pyarrow()
    from ..engines.fleets import open_clickhouse_fleet, open_recorded_fleet

    if clickhouse is not None:
        return open_clickhouse_fleet(clickhouse, interval_s=interval_s)
    return open_recorded_fleet(paths, interval_s=interval_s, memory_bytes=memory)
