"""Declare stats and serve them: the writing half of the stats file format, for VMM authors and the simulated host.

    class DiskStats(publish.Stats, provider="disk", scope=Scope.VM):
        requests = publish.Counter("Requests that the device completed.")

    vm = publish.Vm("web-1")
    disk = DiskStats(vm)
    disk.requests.add()

A file is shared memory that the publisher writes with plain stores and that costs nothing to have read;
docs/publish.md has the format. Reading is in ``sources.published``.
Rule: a declaration that breaks a rule of the format fails when it is made, never when a value is written.
"""

from .declare import Boolean, Counter, Instant, LinearHistogram, LogHistogram, Peak, Stats
from .publication import Publication, Vm
from .statset import StatSet

__all__ = [
    "Boolean",
    "Counter",
    "Instant",
    "LinearHistogram",
    "LogHistogram",
    "Peak",
    "Publication",
    "StatSet",
    "Stats",
    "Vm",
]
