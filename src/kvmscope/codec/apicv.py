"""Provider ``apicv``: the state of interrupt acceleration as statistics, from the records of a snapshot.

KVM keeps one inhibit word for each VM and exports none of it. Here each reason is a separate boolean; the word itself
stays in the BPF program. The conditions behind the reasons are stats too, which KVM keeps whether or not the host has
APICv, and for each vCPU the settings of its local APIC. All are instant values, as the kernel holds them.

Source: arch/x86/kvm/x86.c (__kvm_set_or_clear_apicv_inhibit), lapic.c (kvm_recalculate_apic_map), i8254.c, hyperv.c;
numbers and names of the reasons come from the running kernel's BTF, never from here. The layout of the words is in
sources/bpf/snapshot.h.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import numpy as np

from ..sample import Block, I64Array
from ..schema import Descriptor, Kind, Schema, Scope, Unit
from .records import VcpuRecords, VmRecords, words_of_rows
from .snapshot import (
    HAS_APIC,
    INHIBIT_BITS,
    VCPU_APICV_WORDS,
    VM_APICV_WORDS,
    VM_EVENT_WORDS,
    Feature,
)

PROVIDER = "apicv"
INHIBIT = "apicv_inhibit_"

_ENUMERATOR = "APICV_INHIBIT_REASON_"
_RENAMED = {"disable": "disabled"}  # 6.11, f992572120fb: all reasons are past participles

# Words after the inhibits (enum vm_apicv), with the features that they need.
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
_VCPU_WORDS = ("apicv_active", "apic_enabled", "apic_x2apic", "apic_base_moved", "guest_debug_blockirq")
_VCPU_REGISTERS = ("apic_id", "apic_ldr", "apic_dfr")

Reasons = Mapping[int, str]
"""Bit of the inhibit word -> reason as in stat names (``pit_reinj``)."""


def reasons_from_enumerators(enumerators: Mapping[str, int]) -> Reasons:
    """The reasons of ``enum kvm_apicv_inhibit``, given as enumerator -> number; other enumerators are left out."""
    found = {}
    for name, bit in enumerators.items():
        if name.startswith(_ENUMERATOR) and bit < INHIBIT_BITS:
            reason = name.removeprefix(_ENUMERATOR).lower()
            found[bit] = _RENAMED.get(reason, reason)
    return dict(sorted(found.items()))


class Counted(Enum):
    """What the opt-in group can count. Each needs a separate hook, which a kernel may refuse."""

    INHIBITED = "times of inhibition"
    ACTIVE = "times of activity"
    DELIVERED = "delivery"
    INJECTED = "injection"
    INCOMPLETE_IPI = "incomplete IPIs"
    UNACCELERATED = "unaccelerated accesses"
    SOFTWARE_IPI = "IPIs in software"
    EOI = "EOI exits"
    GA_LOG = "posted-interrupt log"


# enum vcpu_events, in order
_VCPU_EVENTS: tuple[tuple[Counted, tuple[str, ...]], ...] = (
    (Counted.ACTIVE, ("apicv_active_ns", "apicv_inhibited_ns", "apicv_transitions")),
    (Counted.DELIVERED, ("apicv_delivered", "apic_delivered_software")),
    (Counted.INJECTED, ("irq_injected_hardware", "irq_injected_software", "irq_reinjected")),
    (
        Counted.INCOMPLETE_IPI,
        tuple(
            f"avic_incomplete_ipi_{cause}"
            for cause in (
                "invalid_int_type",
                "target_not_running",
                "invalid_target",
                "invalid_backing_page",
                "invalid_ipi_vector",
                "other",
            )
        ),
    ),
    (
        Counted.UNACCELERATED,
        tuple(
            f"avic_unaccelerated_{register}"
            for register in ("tpr", "eoi", "icr", "timer", "id_ldr_dfr", "lvt", "spiv_esr", "other")
        ),
    ),
    (Counted.SOFTWARE_IPI, ("apic_ipi_software",)),
    (Counted.EOI, ("apic_eoi_exits",)),
    (Counted.GA_LOG, ("avic_ga_log",)),
)


def vm_schema(
    reasons: Reasons, features: Feature, counted: frozenset[Counted] | None = None, *, registers: bool = False
) -> Schema:
    """The VM's stats on a kernel with these reasons and features.

    ``counted`` is None without group apicv. ``registers``: whether those of the vCPUs' interrupt controllers are read.
    """
    if not registers:
        features &= ~Feature.SYNIC
    found = [_descriptor(INHIBIT + name, bit) for bit, name in reasons.items()]
    found += [
        _descriptor(name, place) for place, (name, need) in enumerate(_VM_WORDS, INHIBIT_BITS) if need in features
    ]
    if counted is not None and Counted.INHIBITED in counted:
        first = VM_APICV_WORDS
        for bit, name in reasons.items():
            found += (
                _descriptor(f"apicv_inhibited_{name}_ns", first + bit, Unit.SECONDS, Kind.CUMULATIVE),
                _descriptor(f"apicv_inhibit_set_{name}", first + INHIBIT_BITS + bit, Unit.NONE, Kind.CUMULATIVE),
                _descriptor(f"apicv_inhibit_unchanged_{name}_ns", first + 2 * INHIBIT_BITS + bit, Unit.SECONDS),
            )
        found.append(_descriptor("apicv_observed_ns", first + 3 * INHIBIT_BITS, Unit.SECONDS, Kind.CUMULATIVE))
    words = VM_APICV_WORDS + (0 if counted is None else VM_EVENT_WORDS)
    return Schema(PROVIDER, Scope.VM, tuple(found), 8 * words)


def vcpu_schema(counted: frozenset[Counted] | None = None, *, registers: bool = False) -> Schema:
    """The vCPU's stats: booleans; with ``registers``, those of group apic; with group apicv, its counts."""
    found = [_descriptor(name, place) for place, name in enumerate(_VCPU_WORDS)]
    if registers:
        found += [_descriptor(name, place, Unit.NONE) for place, name in enumerate(_VCPU_REGISTERS, len(_VCPU_WORDS))]
    place = VCPU_APICV_WORDS
    for what, names in _VCPU_EVENTS:
        if counted is not None and what in counted:
            found += [
                _descriptor(name, place + i, Unit.SECONDS if name.endswith("_ns") else Unit.NONE, Kind.CUMULATIVE)
                for i, name in enumerate(names)
            ]
        place += len(names)
    words = VCPU_APICV_WORDS if counted is None else place
    return Schema(PROVIDER, Scope.VCPU, tuple(found), 8 * words)


def stats_of(what: Counted, reasons: Reasons) -> tuple[str, ...]:
    """The names of the stats that ``what`` provides."""
    if what is Counted.INHIBITED:
        return tuple(f"apicv_inhibited_{name}_ns" for name in reasons.values())
    return dict(_VCPU_EVENTS)[what]


def vm_rows(records: VmRecords, *, flags: int = 0) -> I64Array:
    """The VMs whose record has all of ``flags``."""
    return _rows(records, flags)


def vcpu_rows(records: VcpuRecords, *, flags: int = 0) -> I64Array:
    """The vCPUs whose record has all of ``flags`` and an in-kernel local APIC: others have no state to show."""
    return _rows(records, flags | HAS_APIC)


def _rows(records: VmRecords | VcpuRecords, flags: int) -> I64Array:
    return np.flatnonzero(records.flags & flags == flags)


def block(schema: Schema, records: VmRecords | VcpuRecords, rows: I64Array) -> Block:
    """The state of the subjects in ``rows``, as chosen by ``vm_rows`` or ``vcpu_rows``."""
    return Block(schema, words_of_rows(records.apicv, rows), rows)


def _descriptor(name: str, place: int, unit: Unit = Unit.BOOLEAN, kind: Kind = Kind.INSTANT) -> Descriptor:
    return Descriptor(name, kind, unit, exponent=-9 if unit is Unit.SECONDS else 0, offset=8 * place)
