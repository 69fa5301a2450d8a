"""What a command works on: an opened host, and scenes and windows of it.

The context object of the command line has the function that opens a host. Tests pass one that opens recorded samples.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
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
_SWITCH_S = 0.0001
"""How long a thread waits before it asks for Python's lock, while a host is being opened. At Python's 5 ms the thread
that opens it by a hundred short system calls would hardly get on beside one that imports."""

Opener: TypeAlias = "Callable[[str], Host]"


def open_host(source: str, plan: LookPlan = _ONE_LOOK) -> SceneHost:
    """What this command line looks at: the recording of ``--from``, of which ``plan`` says what, or this host by
    ``source``. Raises UsageError if there is no such source or recorded time, SourceError, RecordingError.
    """
    return begin_opening(source, plan)()


def begin_opening(source: str, plan: LookPlan = _ONE_LOOK) -> Callable[[], SceneHost]:
    """The same for a command that loads something before it needs the host: what it is given waits for the host."""
    return partial(open_recorded, source, plan) if is_recorded() else _begin_live(source)


def open_live_host(source: str, groups: Sequence[str] = ()) -> Host:
    """This host by ``source``, with these opt-in groups. Raises UsageError if there is no such source, SourceError."""
    return _begin_live(source, groups)()


def _begin_live(source: str, groups: Sequence[str] = ()) -> Callable[[], Host]:
    opener: Opener | None = click.get_current_context().obj
    if opener is not None and not groups:
        return partial(opener, source)
    from .. import collect

    if not groups:
        check_source(source)
    opening = collect.HostOpening(source, groups)
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)

    def wait() -> Host:
        try:
            return opening.wait()
        finally:
            sys.setswitchinterval(before_s)

    return wait


def live_opener(source: str, *, begins: bool = False) -> Callable[[Sequence[str]], Host]:
    """Opens this host as the command line says, with the groups that it is called with, in any thread.

    With ``begins`` the host that the first call without groups gives is being opened from now on.
    """
    context = click.get_current_context()
    begun = [_begin_live(source)] if begins else []

    def open_it(groups: Sequence[str]) -> Host:
        if begun and not groups:
            return begun.pop()()
        with context.scope(cleanup=False):
            return open_live_host(source, groups)

    return open_it


def check_source(source: str) -> None:
    """Raises UsageError if there is no such source."""
    from .. import collect

    if source != "auto" and source not in collect.SOURCES:
        import difflib  # 3 ms of a start, in which words are as they should be

        near = tuple(difflib.get_close_matches(source, ["auto", *collect.SOURCES], n=2, cutoff=0.5))
        if source == "qmp":
            raise UsageError(
                "source qmp needs the paths of sockets, which only the library accepts: "
                "docs/explanation/sources.md, QmpSource"
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
