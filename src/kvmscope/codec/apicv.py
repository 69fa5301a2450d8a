"""Provider ``apicv``: the state of interrupt acceleration as statistics, from the records of a snapshot.

KVM keeps one inhibit word a VM and exports none of it. Here each reason is a boolean of its own; the word itself goes
no further than the BPF program. Beside them stand the conditions behind the reasons, which KVM keeps whether or not the
host has APICv, and per vCPU what its local APIC is set to. All are instant values, as the kernel holds them.

Source: arch/x86/kvm/x86.c (__kvm_set_or_clear_apicv_inhibit), lapic.c (kvm_recalculate_apic_map), i8254.c, hyperv.c;
the reasons' numbers and names come from the running kernel's BTF, never from here. The words are laid out in
sources/bpf/snapshot.h.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..sample import Block
from ..schema import Descriptor, Kind, Schema, Scope, Unit
from .snapshot import HAS_APIC, INHIBIT_BITS, Feature, VcpuRecords, VmRecords

PROVIDER = "apicv"
INHIBIT = "apicv_inhibit_"

_ENUMERATOR = "APICV_INHIBIT_REASON_"
_RENAMED = {"disable": "disabled"}  # 6.11, f992572120fb: all reasons are past participles

# Words after the inhibits (enum vm_apicv), with what a kernel must have for them.
_VM_WORDS: tuple[tuple[str, Feature], ...] = (
    ("irqchip_kernel", Feature.APICV),
    ("irqchip_split", Feature.APICV),
    ("pit_in_kernel", Feature.APICV),
    ("pit_reinject_mode", Feature.APICV),
    ("x2apic_32bit_ids", Feature.APICV),
    ("synic_auto_eoi_used", Feature.SYNIC),
    ("sev_active", Feature.SEV),
)
# enum vcpu_apicv
_VCPU_WORDS: tuple[tuple[str, Unit], ...] = (
    ("apicv_active", Unit.BOOLEAN),
    ("apic_enabled", Unit.BOOLEAN),
    ("apic_x2apic", Unit.BOOLEAN),
    ("apic_base_moved", Unit.BOOLEAN),
    ("guest_debug_blockirq", Unit.BOOLEAN),
    ("apic_id", Unit.NONE),
    ("apic_ldr", Unit.NONE),
    ("apic_dfr", Unit.NONE),
)

Reasons = Mapping[int, str]
"""Bit of the inhibit word -> reason as in stat names (``pit_reinj``)."""


def reasons_from_enumerators(enumerators: Mapping[str, int]) -> Reasons:
    """The reasons of ``enum kvm_apicv_inhibit``, given as enumerator -> number; what is no reason is left out."""
    found = {}
    for name, bit in enumerators.items():
        if name.startswith(_ENUMERATOR) and bit < INHIBIT_BITS:
            reason = name.removeprefix(_ENUMERATOR).lower()
            found[bit] = _RENAMED.get(reason, reason)
    return dict(sorted(found.items()))


def vm_schema(reasons: Reasons, features: Feature) -> Schema:
    """The VM's booleans on a kernel with these reasons and features."""
    inhibits = [_descriptor(INHIBIT + name, bit) for bit, name in reasons.items()]
    rest = [_descriptor(name, place) for place, (name, need) in enumerate(_VM_WORDS, INHIBIT_BITS) if need in features]
    return Schema(PROVIDER, Scope.VM, (*inhibits, *rest), 8 * (INHIBIT_BITS + len(_VM_WORDS)))


def vcpu_schema() -> Schema:
    """The vCPU's booleans and registers; the same on every x86 kernel."""
    descriptors = tuple(_descriptor(name, place, unit) for place, (name, unit) in enumerate(_VCPU_WORDS))
    return Schema(PROVIDER, Scope.VCPU, descriptors, 8 * len(_VCPU_WORDS))


def vm_block(schema: Schema, records: VmRecords) -> Block:
    """One row a VM."""
    return Block(schema, records.apicv, np.arange(len(records)))


def vcpu_block(schema: Schema, records: VcpuRecords) -> Block:
    """One row a vCPU that has an in-kernel local APIC; the others have no state to show."""
    rows = np.flatnonzero(records.flags & HAS_APIC)
    return Block(schema, records.apicv if len(rows) == len(records) else records.apicv[rows], rows)


def _descriptor(name: str, place: int, unit: Unit = Unit.BOOLEAN) -> Descriptor:
    return Descriptor(name, Kind.INSTANT, unit, offset=8 * place)
