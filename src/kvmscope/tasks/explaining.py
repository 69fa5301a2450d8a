"""Reads the data of a host that explaining a name of the catalogue needs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

from ..analysis.window import Window
from ..collect import SceneHost
from ..console.progress import progress, reading_progress
from ..errors import SourceError
from ..host.facts import Machine
from ..host.machine import read_machine
from ..host.text import printable
from ..view.explain import ExplainContext, HostWindow, check_name, explain
from .following import read_interval

_PUBLISHED = "published"
"""The source of published statistics, whose processes come and go."""


def machine_of(open_it: Callable[[], SceneHost] | None) -> Machine:
    """The machine of a recording, or this machine without one."""
    if open_it is None:
        return read_machine()
    with open_it() as host:
        return host.look().machine


def explain_context(
    open_it: Callable[[float], SceneHost], machine: Machine, interval_s: float | None, name: str, *, must_read: bool
) -> ExplainContext:
    """An interval of the host with the values of the name; without an interval, or if the host cannot be read, the
    reason. ``open_it``: opens the host for an interval.

    Raises UsageError for a name that is unknown there. Raises SourceError if the host must be read and cannot be,
    unless the catalogue lacks the name too.
    """
    if interval_s is None:
        return ExplainContext(machine, why_not="not asked for")
    try:
        return _read_context(partial(open_it, interval_s), machine, interval_s, name)
    except SourceError as error:
        if must_read and explain(ExplainContext(machine), name):
            raise
        return ExplainContext(machine, why_not=error.reason)


def _read_context(open_it: Callable[[], SceneHost], machine: Machine, interval_s: float, name: str) -> ExplainContext:
    with contextlib.ExitStack() as stack:
        with progress(f"looking for {printable(name)} on this host"):
            host = stack.enter_context(open_it())
            scene = host.look()
        if scene.sample.source != _PUBLISHED:  # published names may appear within the interval
            check_name(ExplainContext(machine), name, scene.sample)  # reject a wrong name before the wait
        length_s = host.interval_s(interval_s)
        with reading_progress(length_s):
            interval = read_interval(host, scene, length_s)
    assert isinstance(interval.window, Window)
    return ExplainContext(machine, HostWindow(interval.scene, interval.window))
