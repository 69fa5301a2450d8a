"""What a command works on: an opened host, and scenes and windows of it.

The context object of the command line has the function that opens a host. Tests pass one that opens recorded samples.
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeAlias

import click

from ..console.progress import reading_progress
from ..errors import UsageError
from ..store.replay import LookPlan
from .history import is_recorded, open_recorded

if TYPE_CHECKING:
    from ..collect import Host, SceneHost
    from ..scene import Scene
    from ..view.watch import HostView

_SHORTEST_S = 0.001
_ONE_LOOK = LookPlan()

Opener: TypeAlias = "Callable[[str], Host]"


def open_host(source: str, plan: LookPlan = _ONE_LOOK) -> SceneHost:
    """What this command line looks at: the recording of ``--from``, of which ``plan`` says what, or this host by
    ``source``. Raises UsageError if there is no such source or recorded time, SourceError, RecordingError.
    """
    return open_recorded(source, plan) if is_recorded() else open_live_host(source)


def open_live_host(source: str, groups: Sequence[str] = ()) -> Host:
    """This host by ``source``, with these opt-in groups. Raises UsageError if there is no such source, SourceError."""
    if groups:
        from .. import collect

        return collect.open_host(source, groups=groups)
    opener: Opener | None = click.get_current_context().obj
    if opener is not None:
        return opener(source)
    from .. import collect

    check_source(source)
    return collect.open_host(source)


def live_opener(source: str) -> Callable[[Sequence[str]], Host]:
    """Opens this host as the command line says, with the groups that it is called with, in any thread."""
    context = click.get_current_context()

    def open_it(groups: Sequence[str]) -> Host:
        with context.scope(cleanup=False):
            return open_live_host(source, groups)

    return open_it


def check_source(source: str) -> None:
    """Raises UsageError if there is no such source."""
    from .. import collect

    if source != "auto" and source not in collect.SOURCES:
        near = tuple(difflib.get_close_matches(source, ["auto", *collect.SOURCES], n=2, cutoff=0.5))
        if source == "qmp":
            raise UsageError(
                "source qmp needs the paths of sockets, which only the library accepts: docs/sources.md, QmpSource"
            )
        raise UsageError(f"there is no source {source!r}; there are auto, {', '.join(collect.SOURCES)}", nearest=near)


def read_views(
    host: SceneHost, interval_s: float, *, first: Scene, count: int | None = None, keeps_ended: bool = False
) -> Iterator[HostView]:
    """What there is to be said of each interval after a first scene; of ``count`` intervals, or without end.
    A recording may end before that.

    A terminal shows what is waited for, up to the end if there is one, else up to the first view. If there are no VMs,
    ``count`` intervals are as short as can be.
    """
    if count is not None and not len(first.sample.vms):
        interval_s = _SHORTEST_S
    views = host.watch(interval_s, first=first, keeps_ended=keeps_ended)
    for number in itertools.count() if count is None else range(count):
        with _waiting(number, interval_s, count):
            view = next(views, None)
        if view is None:
            return
        yield view


def _waiting(number: int, interval_s: float, count: int | None) -> AbstractContextManager[None]:
    if count is None and number:
        return contextlib.nullcontext()
    left_s = interval_s * ((1 if count is None else count) - number)
    return reading_progress(left_s)
