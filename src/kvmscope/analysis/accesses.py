"""Which ports and MSRs the vCPUs of a VM access most, and which errors ended their KVM_RUN, by opt-in counters.

Pure. Source: the names of catalog/addresses.toml and of the stats of groups ``accesses`` and ``userspace``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..catalog.addresses import AddressRange, AddressSpace, load_addresses
from ..sample import Sample, U64Array
from ..schema import Kind, Scope
from .window import Window

_USERSPACE: Final = "userspace"
_SHOWN: Final = 3
_LEAST_PER_S: Final = 100.0
_OTHER: Final = "other"
_ERRORS: Final = ("internal_error_", "entry_failure_")


@dataclass(frozen=True, slots=True)
class FrequentAccess:
    """Ports or MSRs that vCPUs access often. ``range``: None if it has no known name; ``number``: the port or MSR in
    it that was accessed last."""

    space: AddressSpace
    range: AddressRange | None
    number: int | None
    per_s: float


@dataclass(frozen=True, slots=True)
class CountedError:
    """An internal error of KVM or a failed VM entry: the stat that counts it, and the number in the window."""

    stat: str
    count: int


def frequent_accesses(window: Window, vm_row: int) -> Sequence[FrequentAccess]:
    """The ports and MSRs that a VM's vCPUs access most, the most frequent first; empty if they are not counted."""
    rows = window.current.vcpus_of_vm[vm_row]
    found = sorted(_accesses(window, rows), key=lambda each: -each.per_s)
    return [each for each in found if each.per_s >= _LEAST_PER_S][:_SHOWN]


def has_frequent_mmio(window: Window, vm_row: int) -> bool:
    """Whether the VMM completes MMIO accesses as often as ``frequent_accesses`` requires; MMIO has no numbers there."""
    rows = window.current.vcpus_of_vm[vm_row]
    return _total(window, "kvm", "mmio_exits", rows) / window.interval_s >= _LEAST_PER_S


def _accesses(window: Window, rows: slice) -> Iterator[FrequentAccess]:
    table = load_addresses()
    there = _counts(window.current, table.provider)
    for space, ranges in table.spaces.items():
        for each in ranges:
            stat = f"{space.value}_{each.name}"
            if stat in there:
                yield FrequentAccess(space, each, None, _total(window, table.provider, stat, rows) / window.interval_s)
        other = f"{space.value}_{_OTHER}"
        if other in there:
            number = _last_number(window, table.provider, f"{other}_number", rows)
            yield FrequentAccess(space, None, number, _total(window, table.provider, other, rows) / window.interval_s)


def counted_errors(window: Window, vm_row: int) -> Sequence[CountedError]:
    """The internal errors and failed entries of a VM's vCPUs in the window, the most frequent first."""
    rows = window.current.vcpus_of_vm[vm_row]
    stats = (stat for stat in _counts(window.current, _USERSPACE) if stat.startswith(_ERRORS))
    found = [CountedError(stat, _total(window, _USERSPACE, stat, rows)) for stat in stats]
    return sorted((each for each in found if each.count), key=lambda each: -each.count)


def _counts(sample: Sample, provider: str) -> Sequence[str]:
    blocks = sample.blocks_from(provider, Scope.VCPU)
    stats = (stat for block in blocks for stat in block.schema.descriptors if stat.kind is Kind.CUMULATIVE)
    return tuple(dict.fromkeys(stat.name for stat in stats))


def _total(window: Window, provider: str, stat: str, rows: slice) -> int:
    return int(_moved(window, provider, stat, rows).sum())


def _last_number(window: Window, provider: str, stat: str, rows: slice) -> int | None:
    """The last number that some vCPU accessed in the window; None if there was no such access."""
    moved = _moved(window, provider, stat.removesuffix("_number"), rows) > 0
    numbers = window.value(provider, Scope.VCPU, stat)[rows][moved]
    return int(numbers[0]) if len(numbers) else None


def _moved(window: Window, provider: str, stat: str, rows: slice) -> U64Array:
    """The increase of each vCPU's count; 0 where it is not known, so sums include only known values."""
    movement = window.movement(provider, Scope.VCPU, stat)
    if movement is None:
        return np.zeros(rows.stop - rows.start, dtype=np.uint64)
    return np.where(movement.known[rows], movement.words[rows], np.uint64(0))
