"""The options of ``record`` about episodes, and the capture that they ask for."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from ..errors import UsageError
from ..units import quoted
from ..view.text import counted
from .options import number_option, parse_size, parse_with, time_option

if TYPE_CHECKING:
    from ..capture.consumer import EpisodeCapture
    from ..capture.limits import EpisodeLimits
    from ..collect import Host

F = TypeVar("F", bound=Callable[..., Any])

_MOST_PERCENT = 10_000.0
_COUNTING_SOURCES = ("auto", "bpf", "pinned")


def _budget(text: str) -> float:
    """A part of a CPU such as ``5%``, in CPUs."""
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)%", text)
    percent = float(match[1]) if match else 0.0
    if not 0 < percent <= _MOST_PERCENT:
        raise ValueError(f"{quoted(text)} is not a part of a CPU such as 5%")
    return percent / 100


@dataclass(frozen=True, slots=True)
class EpisodeOptions:
    """What was typed."""

    is_on: bool
    rate_s: float
    limits: EpisodeLimits

    def looks_per_scene(self, interval_s: float) -> int:
        """Into how many looks an interval of the recording is divided."""
        return max(1, round(interval_s / self.rate_s)) if self.is_on else 1

    def check(self, source: str) -> None:
        """Raises UsageError for groups that there are not, or that ``source`` does not count."""
        from ..view.groups import check_groups

        check_groups(self.limits.groups)
        if self.limits.groups and not self.is_on:
            raise UsageError("--count-during counts in episodes, which --no-episodes switches off")
        if self.limits.groups and source not in _COUNTING_SOURCES:
            raise UsageError(f"groups are counted by the sources 'bpf' and 'pinned', not {source!r}")

    def capture(
        self, directory: Path, *, interval_s: float, source: str, counted: Sequence[str]
    ) -> EpisodeCapture | None:
        """What keeps episodes of a recording; None if there are to be none. ``counted``: groups of the recording."""
        if not self.is_on:
            return None
        from .. import collect
        from ..capture.consumer import EpisodeCapture

        def open_host(groups: Sequence[str]) -> Host:
            return collect.open_host(source, groups=[*counted, *groups])

        groups = tuple(name for name in dict.fromkeys(self.limits.groups) if name not in counted)
        rate_s = interval_s / self.looks_per_scene(interval_s)
        return EpisodeCapture(directory, replace(self.limits, groups=groups), open_host=open_host, interval_s=rate_s)


def episode_notes(capture: EpisodeCapture | None, directory: Path) -> Iterator[str]:
    """What to say on stderr when a recorder has ended."""
    if capture is None:
        return
    if capture.begun:
        yield f"{counted(capture.begun, 'episode')} began; `kvmscope episodes {directory}` lists them"
    if capture.trouble:
        yield f"an episode could not be written: {capture.trouble}"
    if capture.dropped:
        yield f"{counted(capture.dropped, 'scene')} could not be judged for episodes, since judging took too long"


_OPTIONS = (
    click.option(
        "--episodes/--no-episodes", "is_on", default=True, show_default=True, help="Keep what is around findings."
    ),
    time_option("--before", "before_s", default="2m", help="How much an episode has from before its first finding."),
    time_option("--after", "after_s", default="1m", help="How long it goes on after its last finding."),
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
        callback=parse_with(_budget),
        default="5%",
        show_default=True,
        metavar="PERCENT",
        help="What those groups may cost together, of one CPU.",
    ),
    click.option(
        "--episode-level",
        "level",
        type=click.Choice(("info", "warning", "problem")),
        default="warning",
        show_default=True,
        help="The least severe finding that begins an episode.",
    ),
    time_option(
        "--episode-rate", "rate_s", default="1s", help="How often to look for episodes, if --interval is longer."
    ),
    time_option(
        "--longest-episode", "longest_s", default="10m", help="How long an episode is at most after its first finding."
    ),
    number_option("--most-episodes", 1, 100_000, default=100, help="How many to keep; the oldest are deleted."),
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
    """The options; the command has them as ``episodes``."""

    @functools.wraps(function)
    def command(
        *args: Any, is_on: bool, rate_s: float, level: str, during: tuple[str, ...], most_episodes: int, **options: Any
    ) -> Any:
        from ..capture.limits import EpisodeLimits
        from ..catalog.findings import Severity

        typed = {name: options.pop(name) for name in ("before_s", "after_s", "longest_s", "size_bytes", "budget_cpus")}
        limits = EpisodeLimits(level=Severity(level), groups=during, most=most_episodes, **typed)
        return function(*args, episodes=EpisodeOptions(is_on, rate_s, limits), **options)

    for option in reversed(_OPTIONS):
        command = option(command)
    return cast(F, command)
