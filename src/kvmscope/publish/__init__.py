"""Declare stats and serve them: the writing half of the stats file format, for VMM authors and the simulated host.

    class DiskStats(publish.Stats, provider="disk", scope=Scope.VM):
        requests = publish.Counter("Requests that the device completed.", tier=Tier.STABLE)
        waits = publish.LogHistogram("Time from request to answer.", unit=Unit.SECONDS, exponent=-9, group="latency")

    vm = publish.Vm("web-1")
    disk = DiskStats(vm, groups=("latency",))
    disk.requests.add()

A file is shared memory that the publisher writes with plain stores; readers cost the publisher nothing.
docs/reference/publish.md has the format. ``sources.published`` reads it.
Rule: a declaration that breaks a rule of the format fails when it is made, never when a value is written.
"""

from ..schema import Tier
from .budget import Budget
from .declare import Bit, Boolean, Counter, Instant, LinearHistogram, LogHistogram, Peak, Stats
from .publication import Publication, Vm
from .statset import About, StatCost, StatSet

__all__ = [
    "About",
    "Bit",
    "Boolean",
    "Budget",
    "Counter",
    "Instant",
    "LinearHistogram",
    "LogHistogram",
    "Peak",
    "Publication",
    "StatCost",
    "StatSet",
    "Stats",
    "Tier",
    "Vm",
]
