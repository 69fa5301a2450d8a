"""The cross-check: the condition behind each reason is read independently, even on kernels that keep no reasons.

Rule: each condition is the one that KVM tests, on the same state. If KVM also tests state that a sample does not have
(whether a local APIC is software-enabled), or the reason outlives its condition, the certainty of the condition shows
that.
Source: arch/x86/kvm/lapic.c (kvm_recalculate_apic_map, kvm_recalculate_phys_map, kvm_recalculate_logical_map,
kvm_lapic_set_base), hyperv.c (synic_update_vector), i8254.c (kvm_pit_set_reinject), svm/avic.c; Linux 6.3 to 7.3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ...host.apicv import HostApicv
from .facts import VcpuFacts, VmFacts
from .values import Certainty

X2AVIC_MOST = 511
X2AVIC_EXTENDED_MOST = 4095
AVIC_MOST = 254


@dataclass(frozen=True, slots=True)
class Condition:
    """Whether the condition behind a reason holds; None if it is unknown. ``certainty``: how surely the reason follows
    from it."""

    holds: bool | None
    text: str
    certainty: Certainty = Certainty.CERTAIN


def conditions(vm: VmFacts, host: HostApicv) -> Mapping[str, Condition]:
    """The condition of each reason, by its name, from the facts of a VM in a sample."""
    return {name: test(vm, host) for name, test in _TESTS.items()}


def id_limit(host: HostApicv) -> int | None:
    """The highest vCPU id that AVIC certainly supports on this host; None if that is not known."""
    if host.x2avic.value is None:
        return None
    return X2AVIC_MOST if host.x2avic.value else AVIC_MOST


def _absent(vm: VmFacts, _: HostApicv) -> Condition:
    if vm.irqchip_in_kernel is None:
        return _UNREAD
    if vm.irqchip_in_kernel:
        return Condition(
            False, f"the kernel has {'all its' if vm.irqchip_kernel else 'the local APICs of its'} irqchip"
        )
    return Condition(True, "the VM has no interrupt controller in the kernel")


def _hyperv(vm: VmFacts, _: HostApicv) -> Condition:
    if vm.synic_auto_eoi is None and vm.inhibits is not None and _enabled(vm) is not None:
        return Condition(False, "this KVM is built without Hyper-V's interrupt controller")
    return _boolean(vm.synic_auto_eoi, "a SINT with AutoEOI is in use", "no SINT with AutoEOI is in use")


def _blockirq(vm: VmFacts, _: HostApicv) -> Condition:
    return _any_vcpu(
        vm, lambda vcpu: vcpu.blockirq, "a debugger holds back interrupts of", "no debugger holds interrupts"
    )


def _apic_base(vm: VmFacts, _: HostApicv) -> Condition:
    found = _any_vcpu(vm, lambda vcpu: vcpu.base_moved, "the local APIC is moved on", "no local APIC is moved now")
    # For KVM, an APIC base that was moved and moved back counts as moved.
    return found if found.holds is not False else Condition(False, found.text, Certainty.LIKELY)


def _nested(vm: VmFacts, _: HostApicv) -> Condition:
    return _any_vcpu(vm, lambda vcpu: vcpu.guest_mode, "a nested guest runs on", "no vCPU runs a nested guest")


def _irqwin(vm: VmFacts, _: HostApicv) -> Condition:
    seen = [vcpu.irq_windows for vcpu in vm.vcpus if vcpu.irq_windows is not None]
    if any(seen):
        return Condition(True, f"irq_window_exits moved by {sum(seen)} in the window", Certainty.LIKELY)
    return Condition(None, "momentary: it lasts as long as an interrupt of the PIC waits", Certainty.POSSIBLE)


def _pit(vm: VmFacts, _: HostApicv) -> Condition:
    return _boolean(vm.pit_reinject, "the in-kernel PIT reinjects ticks", "no in-kernel PIT reinjects ticks")


def _sev(vm: VmFacts, _: HostApicv) -> Condition:
    if vm.sev is None and vm.inhibits is not None:
        return Condition(False, "this KVM runs without SEV")
    return _boolean(vm.sev, "SEV is on", "SEV is off")


def _id_modified(vm: VmFacts, _: HostApicv) -> Condition:
    apics = _enabled(vm)
    if apics is None:
        return _UNREAD
    for vcpu in apics:
        if not vcpu.x2apic and vcpu.apic_id != vcpu.id & 0xFF:
            return Condition(True, f"vCPU {vcpu.id} (xAPIC) has APIC id {vcpu.apic_id}")
    return Condition(False, "every APIC id is the one that KVM gave")


def _physical_aliased(vm: VmFacts, _: HostApicv) -> Condition:
    apics = _enabled(vm)
    if apics is None:
        return _UNREAD
    ids = Counter(vcpu.apic_id for vcpu in apics)
    shared, times = ids.most_common(1)[0] if ids else (None, 0)
    if times > 1 and not vm.x2apic_32bit_ids:
        return Condition(True, f"{times} vCPUs have APIC id {shared}", Certainty.LIKELY)
    return Condition(False, "no two vCPUs have the same APIC id", Certainty.LIKELY)


def _logical_aliased(vm: VmFacts, host: HostApicv) -> Condition:
    apics = _enabled(vm)
    if apics is None:
        return _UNREAD
    physical = _physical_aliased(vm, host)
    if physical.holds:
        return Condition(
            True, f"{physical.text}: without a map of physical ids there is none of logical ones", Certainty.LIKELY
        )
    with_ldr = [vcpu for vcpu in apics if vcpu.ldr]
    modes = {_logical_mode(vcpu) for vcpu in with_ldr}
    if len(modes) > 1:
        return Condition(True, f"local APICs in different modes: {', '.join(sorted(modes))}", Certainty.LIKELY)
    places = Counter(_logical_place(vcpu) for vcpu in with_ldr if not vcpu.x2apic)
    for vcpu in with_ldr:
        if not vcpu.x2apic and (_logical_place(vcpu)[1].bit_count() > 1 or places[_logical_place(vcpu)] > 1):
            text = f"the logical id of vCPU {vcpu.id} (LDR 0x{vcpu.ldr or 0:08x}) is shared or has several bits"
            return Condition(True, text, Certainty.LIKELY)
    return Condition(False, "the logical ids are distinct", Certainty.LIKELY)


def _too_big(vm: VmFacts, host: HostApicv) -> Condition:
    highest = max((vcpu.id for vcpu in vm.vcpus), default=0)
    limit = id_limit(host)
    text = f"the highest vCPU id is {highest}"
    if highest <= (AVIC_MOST if limit is None else limit):
        return Condition(False, text)
    if highest > X2AVIC_EXTENDED_MOST or limit == AVIC_MOST:
        return Condition(True, f"{text}, above {limit or X2AVIC_EXTENDED_MOST}")
    return Condition(True, f"{text}, above {limit or AVIC_MOST}, and some CPUs take no more", Certainty.LIKELY)


_TESTS: Mapping[str, Callable[[VmFacts, HostApicv], Condition]] = {
    "absent": _absent,
    "hyperv": _hyperv,
    "blockirq": _blockirq,
    "physical_id_aliased": _physical_aliased,
    "apic_id_modified": _id_modified,
    "apic_base_modified": _apic_base,
    "nested": _nested,
    "irqwin": _irqwin,
    "pit_reinj": _pit,
    "sev": _sev,
    "logical_id_aliased": _logical_aliased,
    "physical_id_too_big": _too_big,
}

_UNREAD = Condition(None, "not read", Certainty.POSSIBLE)
"""For local APICs whose registers were not read; group ``apic`` or ``apicv`` and the pinned iterator read them."""


def _boolean(value: bool | None, yes: str, no: str) -> Condition:
    return _UNREAD if value is None else Condition(value, yes if value else no)


def _any_vcpu(vm: VmFacts, test: Callable[[VcpuFacts], bool | None], yes: str, no: str) -> Condition:
    if all(test(vcpu) is None for vcpu in vm.vcpus):
        return _UNREAD
    found = [str(vcpu.id) for vcpu in vm.vcpus if test(vcpu)]
    return Condition(True, f"{yes} {_vcpus(found)}") if found else Condition(False, no)


def _vcpus(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:4]) + (", …" if len(ids) > 4 else "")
    return f"vCPU {shown}"


def _enabled(vm: VmFacts) -> list[VcpuFacts] | None:
    """The vCPUs whose local APIC is on; None if their registers were not read."""
    apics = [vcpu for vcpu in vm.vcpus if vcpu.has_apic is not False]
    if not vm.vcpus or any(vcpu.apic_id is None for vcpu in apics):
        return None
    return [vcpu for vcpu in apics if vcpu.enabled]


def _logical_mode(vcpu: VcpuFacts) -> str:
    if vcpu.x2apic:
        return "x2APIC"
    return "flat" if vcpu.dfr == 0xFFFFFFFF else "cluster"


def _logical_place(vcpu: VcpuFacts) -> tuple[int, int]:
    """The cluster, and the bits within it."""
    logical = (vcpu.ldr or 0) >> 24
    return (0, logical) if _logical_mode(vcpu) == "flat" else (logical >> 4, logical & 0xF)
