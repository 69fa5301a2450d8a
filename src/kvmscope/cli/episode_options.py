"""The options of ``record`` about episodes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import click

from ..units import parse_cpu_share
from .options import number_option, parse_size, parse_with, time_option

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--episodes/--no-episodes",
        "is_on",
        default=True,
        show_default=True,
        help="Record at full rate around findings.",
    ),
    time_option("--before", "before_s", default="2m", help="Time that an episode covers before its first finding."),
    time_option("--after", "after_s", default="1m", help="Time that it covers after its last finding."),
    click.option(
        "--count-during",
        "during",
        multiple=True,
        metavar="GROUP",
        help="Count with this opt-in group in episodes; may be given several times.",
    ),
    click.option(
        "--budget",
        "budget_cpus",
        callback=parse_with(parse_cpu_share),
        default="5%",
        show_default=True,
        metavar="PERCENT",
        help="Largest cost of those groups together, in percent of one CPU.",
    ),
    click.option(
        "--episode-level",
        "level",
        type=click.Choice(("info", "warning", "problem")),
        default="warning",
        show_default=True,
        help="Least severe finding that starts an episode.",
    ),
    time_option(
        "--episode-rate", "rate_s", default="1s", help="Time between two reads for episodes, if --interval is longer."
    ),
    time_option(
        "--longest-episode",
        "longest_s",
        default="10m",
        help="Longest time that an episode covers after its first finding.",
    ),
    number_option(
        "--most-episodes", 1, 100_000, default=100, help="Number of episodes to keep; older ones are deleted."
    ),
    click.option(
        "--episodes-size",
        "size_bytes",
        callback=parse_size,
        default="2G",
        show_default=True,
        metavar="SIZE",
        help="Delete the oldest to keep all episodes below this size.",
    ),
)


def episode_options(function: F) -> F:
    """Adds the options to a command, which gets them as ``episodes``, an ``EpisodePlan``."""

    @functools.wraps(function)
    def command(
        *args: Any, is_on: bool, rate_s: float, level: str, during: tuple[str, ...], most_episodes: int, **options: Any
    ) -> Any:
        from ..capture.limits import EpisodeLimits
        from ..catalog.findings import Severity
        from ..tasks.recording import EpisodePlan

        typed = {name: options.pop(name) for name in ("before_s", "after_s", "longest_s", "size_bytes", "budget_cpus")}
        limits = EpisodeLimits(level=Severity(level), groups=during, most=most_episodes, **typed)
        return function(*args, episodes=EpisodePlan(is_on, rate_s, limits), **options)

    for option in reversed(_OPTIONS):
        command = option(command)
    return cast(F, command)
