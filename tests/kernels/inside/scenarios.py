"""What a VMM or a guest does that inhibits APICv, and what undoes it: one function a scenario (x86).

Each yields the name of a phase whenever there is something to see, with its one VM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from kvmscope.lab import abi
from kvmscope.lab.kvm import Kvm

from . import guests
from .guests import Guest

Phases = Iterator[tuple[str, Guest]]

_SPLIT_ROUTES = 24
_DEFAULT_BASE = 0xFEE0_0000
_PIC_INPUT = 1


def no_irqchip(kvm: Kvm) -> Phases:
    guest = Guest(kvm, irqchip=False)
    yield "caused", guest
    guest.vm.create_irqchip()
    yield "undone", guest


def split_irqchip(kvm: Kvm) -> Phases:
    guest = Guest(kvm, irqchip=False)
    yield "caused", guest
    guest.vm.enable(abi.KVM_CAP_SPLIT_IRQCHIP, _SPLIT_ROUTES)
    yield "undone", guest


def pit(kvm: Kvm) -> Phases:
    guest = Guest(kvm, 0)
    yield "before", guest
    guest.vm.create_pit()
    yield "caused", guest
    guest.vm.set_pit_reinjection(False)
    yield "undone", guest
    guest.vm.set_pit_reinjection(True)
    yield "caused again", guest


def blockirq(kvm: Kvm) -> Phases:
    guest = Guest(kvm, 0, 1)
    yield "before", guest
    guests.hold_interrupts(guest.vcpus[1], True)
    yield "caused", guest
    guests.hold_interrupts(guest.vcpus[1], False)
    yield "undone", guest


def synic_auto_eoi(kvm: Kvm) -> Phases:
    guest = Guest(kvm, 0)
    guests.enable_synic(guest.vcpus[0])
    yield "before", guest
    guests.set_synic_auto_eoi(guest.vcpus[0], True)
    yield "caused", guest
    guests.set_synic_auto_eoi(guest.vcpus[0], False)
    yield "undone", guest


def pic_interrupt(kvm: Kvm) -> Phases:
    guest = Guest(kvm, 0)
    guests.open_pic(guest)
    yield "before", guest
    guest.vm.pulse_line(_PIC_INPUT)
    guest.run()
    yield "caused", guest
    guests.allow_interrupts(guest.vcpus[0], True)
    guest.run()
    yield "undone", guest


def apic_id(kvm: Kvm) -> Phases:
    guest = Guest(kvm, 0)
    yield "before", guest
    guests.set_apic_register(guest.vcpus[0], guests.APIC_ID, 5 << 24)
    yield "caused", guest
    guests.set_apic_register(guest.vcpus[0], guests.APIC_ID, 0)
    yield "undone", guest


def apic_base(kvm: Kvm) -> Phases:
    guest = Guest(kvm, 0)
    yield "before", guest
    guests.set_apic_base(guest.vcpus[0], _DEFAULT_BASE + 0x1000 | guests.APIC_ENABLED)
    yield "caused", guest
    guests.set_apic_base(guest.vcpus[0], _DEFAULT_BASE | guests.APIC_ENABLED)
    yield "undone", guest


def same_id_twice(kvm: Kvm) -> Phases:
    guest = Guest(kvm, 0, 1)
    yield "before", guest
    guests.set_apic_register(guest.vcpus[1], guests.APIC_ID, 0)
    yield "caused", guest
    guests.set_apic_register(guest.vcpus[1], guests.APIC_ID, 1 << 24)
    yield "undone", guest


def same_logical_id_twice(kvm: Kvm) -> Phases:
    guest = Guest(kvm, 0, 1)
    for place, vcpu in enumerate(guest.vcpus):
        guests.set_apic_register(vcpu, guests.APIC_LDR, 1 << 24 + place)
        guests.set_apic_register(vcpu, guests.APIC_SPIV, 0x1FF)
    yield "before", guest
    guests.set_apic_register(guest.vcpus[1], guests.APIC_LDR, 1 << 24)
    yield "caused", guest
    guests.set_apic_register(guest.vcpus[1], guests.APIC_LDR, 2 << 24)
    yield "undone", guest


def two_logical_modes(kvm: Kvm) -> Phases:
    """As while a guest starts its vCPUs: one has switched to x2APIC, the other not yet."""
    guest = Guest(kvm, 0, 1)
    for place, vcpu in enumerate(guest.vcpus):
        guests.set_apic_register(vcpu, guests.APIC_LDR, 1 << 24 + place)
        guests.set_apic_register(vcpu, guests.APIC_SPIV, 0x1FF)
    yield "before", guest
    x2apic = _DEFAULT_BASE | guests.APIC_ENABLED | guests.APIC_X2APIC
    guests.set_apic_base(guest.vcpus[0], x2apic)
    yield "caused", guest
    guests.set_apic_base(guest.vcpus[1], x2apic)
    yield "undone", guest


def large_vcpu_id(kvm: Kvm) -> Phases:
    guest = Guest(kvm, 0)
    yield "before", guest
    guest.add_vcpu(300)
    yield "caused", guest


def ids_equal_in_eight_bits(kvm: Kvm) -> Phases:
    guest = Guest(kvm, 1)
    yield "before", guest
    guests.set_apic_register(guest.add_vcpu(257), guests.APIC_ID, 1 << 24)  # as it is, but KVM looks at all ids anew
    yield "caused", guest


def nested(kvm: Kvm) -> Phases:
    guest = Guest(kvm, 0, 1)
    yield "before", guest
    guests.finish_exit(guest.vcpus[0])
    guests.prepare_nested(guest)
    yield "caused", guest
    yield "undone", guest


SCENARIOS: Mapping[str, Callable[[Kvm], Phases]] = {
    scenario.__name__: scenario
    for scenario in (
        no_irqchip,
        split_irqchip,
        pit,
        blockirq,
        synic_auto_eoi,
        pic_interrupt,
        apic_id,
        apic_base,
        same_id_twice,
        same_logical_id_twice,
        two_logical_modes,
        large_vcpu_id,
        ids_equal_in_eight_bits,
        nested,
    )
}
