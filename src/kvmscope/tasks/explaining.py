"""What is read of a host to explain a name of the catalogue on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from ..analysis.window import Window
from ..collect import SceneHost
from ..console.progress import progress, reading_progress
from ..errors import SourceError
from ..host.facts import Machine
from ..host.machine import read_machine
from ..host.text import printable
from ..view.explain import ExplainContext, HostWindow, check_name
from .following import read_interval


def machine_of(open_it: Callable[[], SceneHost] | None) -> Machine:
    """The machine of a recording, or without one this machine."""
    if open_it is None:
        return read_machine()
    with open_it() as host:
        return host.look().machine


def read_context(open_it: Callable[[], SceneHost], machine: Machine, interval_s: float, name: str) -> ExplainContext:
    """An interval of the host, in which the name has its values. Raises UsageError for a name that is not known there,
    SourceError if the host cannot be read.
    """
    with contextlib.ExitStack() as stack:
        with progress(f"looking for {printable(name)} on this host"):
            host = stack.enter_context(open_it())
            scene = host.look()
        check_name(ExplainContext(machine), name, scene.sample)  # a wrong name is refused before the wait
        length_s = host.interval_s(interval_s)
        with reading_progress(length_s):
            interval = read_interval(host, scene, length_s)
    assert isinstance(interval.window, Window)
    return ExplainContext(machine, HostWindow(interval.scene, interval.window))


def context_or_why_not(
    open_it: Callable[[], SceneHost], machine: Machine, interval_s: float, name: str
) -> ExplainContext:
    """The same for a host that need not be readable: the context says why it was not."""
    try:
        return read_context(open_it, machine, interval_s, name)
    except SourceError as error:
        return ExplainContext(machine, why_not=error.reason)
