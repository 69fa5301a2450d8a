"""Whether a kernel has the stats that a program relies on: checks a contract against the kernel's tables.

Pure. A breach carries what the catalogue knows: the releases that have the stat, and its replacement. A stat that
fits the contract but will be removed, or whose meaning changed, gets a note.

Rule: names, scopes, kinds, units, scales and sizes must be equal; the places of stats and the stats that the contract
does not name do not matter. Of linear histograms the width of a bucket is in the descriptor, so it may differ.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ..catalog.contracts import Contract, Promise
from ..catalog.kernels import version_of
from ..catalog.stats import ChangedPart, StatCatalog, StatEntry, release
from ..schema import KernelTables, Table, Tier
from .schema_diff import shape_words


@dataclass(frozen=True, slots=True)
class Breach:
    """A promise that a kernel does not keep. ``replaced_by``: the stat to use there instead, from the catalogue."""

    promise: Promise
    reason: str
    replaced_by: tuple[str, ...]
    tier: Tier | None


@dataclass(frozen=True, slots=True)
class ContractCheck:
    """The check of a contract on one kernel; ``is_stated``: the contract claims to hold on this kernel."""

    kernel: KernelTables
    is_stated: bool
    breaches: tuple[Breach, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """A warning about a stat that the contract relies on, though nothing breaks."""

    promise: Promise
    text: str
    tier: Tier | None


def judge(contract: Contract, kernel: KernelTables, stats: StatCatalog) -> ContractCheck:
    """Check a contract on one kernel, whether or not it states that kernel."""
    tables = {(table.provider, table.scope): table for table in kernel.tables}
    found = (
        _judge(promise, kernel, tables.get((promise.provider, promise.scope)), stats) for promise in contract.promises
    )
    return ContractCheck(kernel, contract.states(kernel), tuple(breach for breach in found if breach is not None))


def notes(contract: Contract, kernels: Iterable[KernelTables], stats: StatCatalog) -> Iterator[Note]:
    """Warnings about the contract's stats, if the contract is to hold on all these kernels."""
    versions = [version[:2] for kernel in kernels if (version := version_of(kernel))]
    for promise in contract.promises:
        entry = stats.find(promise.provider, promise.scope, promise.name)
        if entry is None:
            yield Note(promise, "not in the catalogue: its stability is unknown", None)
            continue
        if entry.tier is Tier.VOLATILE:
            yield Note(promise, "an implementation detail of KVM, which any kernel may change or remove", entry.tier)
        for change in entry.changed:
            concerned = not contract.architectures or set(change.architectures) & set(contract.architectures)
            if change.what is ChangedPart.MEANING and concerned and _crosses(versions, release(change.since)):
                yield Note(promise, f"changed meaning in {change.since}. Before: {change.text.strip()}", entry.tier)


def _crosses(versions: list[tuple[int, ...]], since: tuple[int, int]) -> bool:
    return bool(versions) and min(versions) < since <= max(versions)


def _judge(promise: Promise, kernel: KernelTables, table: Table | None, stats: StatCatalog) -> Breach | None:
    version = version_of(kernel)
    if promise.kernels is not None and version is not None and version not in promise.kernels:
        return None
    entry = stats.find(promise.provider, promise.scope, promise.name)
    tier = entry.tier if entry else None
    has = table.stats.get(promise.name) if table else None
    if has is None:
        instead = tuple(name for name in (entry.replaced_by if entry else ()) if table and name in table.stats)
        return Breach(promise, _why_missing(promise, kernel, table, entry), instead, tier)
    if replace(has, bucket_size=0) != promise.shape:
        return Breach(promise, f"is {shape_words(has)} there, not {shape_words(promise.shape)}", (), tier)
    return None


def _why_missing(promise: Promise, kernel: KernelTables, table: Table | None, entry: StatEntry | None) -> str:
    if not any(each.provider == promise.provider for each in kernel.tables):
        return f"provider {promise.provider} has no statistics there"
    for each in kernel.tables:
        if each.provider == promise.provider and each.scope is not promise.scope and promise.name in each.stats:
            return f"is a stat of scope {each.scope.value} there"
    if entry is None:
        near = difflib.get_close_matches(promise.name, table.stats if table else (), n=2)
        return "is not there" + (f"; did you mean {' or '.join(near)}?" if near else ", nor in any known kernel")
    first = entry.since.get(kernel.architecture or "")
    if kernel.architecture is not None and first is None:
        return f"is not there: {kernel.architecture} has no such stat, but {', '.join(entry.architectures)}"
    version = version_of(kernel)
    if version is not None and first is not None and version[:2] < release(first):
        return f"is not there: {kernel.architecture} has it since {first}"
    return f"is not there: it was removed in {entry.until}" if entry.until else "is not there"
