"""Whether the statistics on which the halt polling governor relies exist on this kernel with the expected meaning.

Pure. Three things can be wrong: a stat is missing, or of another kind or unit (``contract``); according to the
catalogue it has an older meaning on this kernel; or a caveat holds that changes the meaning of its numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from ..catalog.contracts import Contract, Promise
from ..catalog.kernels import version_of
from ..catalog.stats import ChangedPart, StatCatalog, release
from ..schema import KernelTables
from .contract import judge

UNFIT_CAVEATS: Final = ("never-counted", "polls-just-missed", "polling-off")
"""Caveats that make the numbers useless. Under others, such as halts-in-guest, a VM only has no polling to adapt."""


def shortfalls(contract: Contract, kernel: KernelTables, stats: StatCatalog, holding: Collection[str]) -> Iterator[str]:
    """The parts of the contract that do not hold on this kernel, a phrase each. ``holding``: caveats that hold here."""
    for breach in judge(contract, kernel, stats).breaches:
        yield f"{breach.promise.provider}.{breach.promise.name} {breach.reason}"
    for promise in contract.promises:
        yield from _older_meanings(promise, kernel, stats)
    yield from (f"caveat {slug} holds here" for slug in UNFIT_CAVEATS if slug in holding)


def _older_meanings(promise: Promise, kernel: KernelTables, stats: StatCatalog) -> Iterator[str]:
    version = version_of(kernel)
    entry = stats.find(promise.provider, promise.scope, promise.name)
    if version is None or entry is None:
        return
    for change in entry.changed:
        is_here = kernel.architecture in change.architectures
        if change.what is ChangedPart.MEANING and is_here and version[:2] < release(change.since):
            yield f"{promise.provider}.{promise.name} has its older meaning, from before {change.since}"
