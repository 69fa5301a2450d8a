"""Opens the host or the recording that a command reads.

The context object of the command line has the function that opens a host. Tests pass one that opens recorded samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import click

from .history import is_recorded, open_recorded, refuse_counting

if TYPE_CHECKING:
    from ..collect import Host, SceneHost
    from ..store.replay import LookPlan

Opener: TypeAlias = "Callable[[str], Host]"


def open_host(source: str, plan: LookPlan | None = None) -> SceneHost:
    """The recording of ``--from``, read according to ``plan`` (None: one scene), or this host by ``source``.

    Raises UsageError if there is no such source or recorded time, SourceError, RecordingError.
    """
    return begin_opening(source, plan)()


def open_counting_host(source: str, groups: Sequence[str], plan: LookPlan) -> SceneHost:
    """Like ``open_host`` with opt-in groups, which count only on this host. Raises UsageError for a recording."""
    if not groups:
        return open_host(source, plan)
    refuse_counting()
    return open_live_host(source, groups)


def open_with_registers(source: str, plan: LookPlan) -> SceneHost:
    """Like ``open_host``, with the registers of local APICs if they are available: they help explain why APICv is
    inhibited."""
    if is_recorded() or click.get_current_context().obj is not None:
        return open_host(source, plan)
    from ..tasks import sources

    return sources.open_with_registers(source)


def begin_opening(source: str, plan: LookPlan | None = None) -> Callable[[], SceneHost]:
    """Begin to open the host while a command loads modules; the returned function waits for the host."""
    return partial(open_recorded, source, plan) if is_recorded() else _begin_live(source)


def open_live_host(source: str, groups: Sequence[str] = ()) -> Host:
    """This host by ``source``, with these opt-in groups. Raises UsageError if there is no such source, SourceError."""
    return _begin_live(source, groups)()


def _begin_live(source: str, groups: Sequence[str] = ()) -> Callable[[], Host]:
    opener: Opener | None = click.get_current_context().obj
    if opener is not None and not groups:
        return partial(opener, source)
    from .. import collect

    return collect.HostOpening(source, groups, is_hurried=True).wait


def live_opener(source: str, *, begins: bool = False) -> Callable[[Sequence[str]], Host]:
    """A function that opens this host according to the command line, with the groups it is called with, in any thread.

    With ``begins``, opening starts now for the first call without groups.
    """
    context = click.get_current_context()
    begun = [_begin_live(source)] if begins else []

    def open_it(groups: Sequence[str]) -> Host:
        if begun and not groups:
            return begun.pop()()
        with context.scope(cleanup=False):
            return open_live_host(source, groups)

    return open_it
