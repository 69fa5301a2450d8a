"""Group ``accesses``: per vCPU the number of accesses to I/O ports and MSRs, by device and feature.

An access is an event of tracepoint kvm_pio or kvm_msr: an instruction that KVM emulates, even if the VMM then completes
it. They are in KVM's common code, whichever module runs the VMs. Ports and MSRs outside all known ranges count as
``other``, and the number of the last one is kept.
Programs: accesses.bpf.c. Names and numbers: catalog/addresses.toml.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from ....catalog.addresses import AddressRange, AddressSpace, load_addresses
from ....schema import Descriptor, Kind, Schema, Scope
from .base import Plan, counted
from .kernel import KernelFacts

NAME = "accesses"
OTHER, NUMBER = "other", "other_number"
_PLACES = 80
_RANGES = 64


def plan(kernel: KernelFacts) -> Plan:
    """What to load. Raises Unavailable on a kernel without the tracepoints."""
    kernel.need_tracepoints("kvm_pio", "kvm_msr")
    return Plan(
        NAME,
        schema_of(),
        rows=1,
        programs=dict.fromkeys(("port", "msr")),
        constants=_constants(),
    )


def schema_of() -> Schema:
    """A count for each range, ``other``, and the last number of these; first for ports, then for MSRs."""
    return Schema(NAME, Scope.VCPU, tuple(_descriptors()), 8 * _PLACES)


def _descriptors() -> Iterator[Descriptor]:
    first = 0
    for space, ranges in load_addresses().spaces.items():
        for place, each in enumerate((*(each.name for each in ranges), OTHER), first):
            yield counted(8 * place, f"{space.value}_{each}")
        first += len(ranges) + 2
        yield Descriptor(f"{space.value}_{NUMBER}", Kind.INSTANT, offset=8 * (first - 1))
    assert first <= _PLACES


def _constants() -> bytes:
    """Both tables, in the order of ``struct constants``."""
    of_space = load_addresses().spaces
    ports, msrs = of_space[AddressSpace.PORT], of_space[AddressSpace.MSR]
    return _table(ports, 0) + _table(msrs, len(ports) + 2)


def _table(ranges: Sequence[AddressRange], first: int) -> bytes:
    spans = [(*span, first + at) for at, each in enumerate(ranges) for span in each.spans]
    assert len(spans) <= _RANGES
    entries = b"".join(struct.pack("=IIII", *span, 0) for span in spans)
    other = first + len(ranges)
    return entries.ljust(16 * _RANGES, b"\0") + struct.pack("=IIII", len(spans), other, other + 1, 0)
