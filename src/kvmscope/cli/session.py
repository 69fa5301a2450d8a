"""What a command works on: an opened host, one sample or a window of it, and who its VMs are.

Who opens a host is in the context object of the command line, so that the same commands run on samples from anywhere.
"""

from __future__ import annotations

import contextlib
import difflib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import click

from ..errors import UsageError

if TYPE_CHECKING:
    from ..analysis.window import Window
    from ..collect import Host, VmIdentity
    from ..sample import Sample

Opener: TypeAlias = "Callable[[str], Host]"


@dataclass(frozen=True)
class Reading:
    """A sample, who its VMs are (one a row of ``sample.vms``), and why better sources were not used."""

    sample: Sample
    identities: tuple[VmIdentity, ...]
    why_not: dict[str, str]

    @classmethod
    def of(cls, host: Host, sample: Sample) -> Reading:
        why_not = {name: error.reason for name, error in host.why_not.items()}
        return cls(sample, host.identify(sample), why_not)

    def name(self, row: int, *, max_length: int = 64) -> str:
        """What to print for a VM: nothing in it that a terminal would obey."""
        from ..host.text import printable

        return printable(self.identities[row].name, max_length=max_length)

    def pid(self, row: int) -> int | None:
        """The VMM's process id, None if it is not known."""
        pid = int(self.sample.vms.pid[row])
        return pid if pid >= 0 else None

    def vmm(self, row: int) -> str | None:
        """What program the VMM is, None if it is not known. Untrusted text."""
        process = self.identities[row].process
        if process is None:
            return None
        return process.vmm if process.vmm != "other" else process.command


def open_host(source: str) -> Host:
    """The host of this command line by ``source``. Raises UsageError if there is no such source, SourceError."""
    opener: Opener | None = click.get_current_context().obj
    if opener is not None:
        return opener(source)
    from .. import collect

    if source != "auto" and source not in collect.SOURCES:
        near = tuple(difflib.get_close_matches(source, ["auto", *collect.SOURCES], n=2, cutoff=0.5))
        raise UsageError(f"there is no source {source!r}; there are auto, {', '.join(collect.SOURCES)}", nearest=near)
    with _interrupts_later():
        return collect.open_host(source)


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Keeps Ctrl-C until the block has ended: in a callback of libbpf it would be printed and forgotten."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def read_windows(host: Host, interval_s: float) -> Iterator[Window]:
    """A window each ``interval_s``, without end."""
    from ..analysis.window import Window

    previous = host.read()
    while True:
        time.sleep(interval_s)
        current = host.read()
        yield Window(previous, current)
        previous = current
