"""What a command works on: an opened host, and scenes and windows of it.

Who opens a host is in the context object of the command line, so that the same commands run on samples from anywhere.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import click

from ..errors import UsageError

if TYPE_CHECKING:
    from ..analysis.window import Window
    from ..collect import Host
    from ..scene import Scene

Opener: TypeAlias = "Callable[[str], Host]"


def open_host(source: str) -> Host:
    """The host of this command line by ``source``. Raises UsageError if there is no such source, SourceError."""
    opener: Opener | None = click.get_current_context().obj
    if opener is not None:
        return opener(source)
    from .. import collect

    if source != "auto" and source not in collect.SOURCES:
        near = tuple(difflib.get_close_matches(source, ["auto", *collect.SOURCES], n=2, cutoff=0.5))
        raise UsageError(f"there is no source {source!r}; there are auto, {', '.join(collect.SOURCES)}", nearest=near)
    return collect.open_host(source)


def read_windows(host: Host, interval_s: float) -> Iterator[tuple[Scene, Window]]:
    """Every ``interval_s`` a scene, and the window that ends with it; without end."""
    from ..analysis.window import Window

    previous = host.look()
    while True:
        time.sleep(interval_s)
        current = host.look()
        yield current, Window(previous, current)
        previous = current
