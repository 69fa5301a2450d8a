"""Runs inside an emulated x86 kernel: causes each inhibit reason that a VMM can, undoes it, and prints what was seen.

Each scenario has a VM of its own, between two VMs of the same process to which nothing is done. It stops at named
phases; at each, the BPF source is read once, then every vCPU runs once, and it is read again.
The output is one JSON object; what it should be is said in tests/kernels/test_inhibits.py.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kvmscope.errors import SourceError
from kvmscope.lab import abi
from kvmscope.lab.kvm import Kvm
from kvmscope.sample import Sample
from kvmscope.schema import Scope
from kvmscope.sources.bpf.source import BpfSource

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


def main() -> None:
    """Print what every scenario showed."""
    names = sys.argv[1:] or list(SCENARIOS)
    source = BpfSource()
    with Kvm() as kvm:
        earlier = Guest(kvm, 0)
        answers = {
            "release": platform.release(),
            "avic": Path("/sys/module/kvm_amd/parameters/avic").read_text(encoding="ascii").strip(),
            "vm stats": [
                name
                for schema in source.schemas
                if schema.provider == "apicv" and schema.scope is Scope.VM
                for name in schema.names
            ],
            "scenarios": {name: _play(kvm, source, SCENARIOS[name]) for name in names},
        }
        earlier.vm.close()
    source.close()
    json.dump(answers, sys.stdout)


def _play(kvm: Kvm, source: BpfSource, scenario: Callable[[Kvm], Phases]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    guest: Guest | None = None
    later: Guest | None = None
    phases = scenario(kvm)
    try:
        while True:
            started_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            phase, guest = next(phases)
            ended_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            later = later or Guest(kvm, 0)
            at_once = _observe(source)
            guest.run()
            later.run()
            seen[phase] = {"ns": [started_ns, ended_ns], "at once": at_once, "after a run": _observe(source)}
    except StopIteration:
        pass
    except SourceError as error:
        seen["refused"] = errno.errorcode[error.errno or 0]
    finally:
        for each in (guest, later):
            if each is not None:
                each.vm.close()
    return seen


def _observe(source: BpfSource) -> list[dict[str, Any]]:
    """The VMs of this process in order of creation, with the state of their interrupts and of their vCPUs'."""
    sample = source.read()
    assert not sample.gaps, sample.gaps
    rows = [row for row in range(len(sample.vms)) if sample.vms.pid[row] == os.getpid()]
    vms = _rows(sample, "apicv", Scope.VM)
    states = _rows(sample, "apicv", Scope.VCPU)
    stats = _rows(sample, "kvm", Scope.VCPU, "guest_mode", "irq_window_exits")
    found = []
    for row in rows:
        span = sample.vcpus_of_vm[row]
        vcpus = [
            {"id": int(sample.vcpus.id[place]), **states.get(place, {}), **stats[place]}
            for place in range(span.start, span.stop)
        ]
        found.append({"stats": vms[row], "vcpus": vcpus})
    return found


def _rows(sample: Sample, provider: str, scope: Scope, *names: str) -> dict[int, dict[str, int | bool]]:
    block = sample.block(provider, scope)
    assert block is not None
    chosen = [block.schema[name] for name in names or block.schema.names]
    columns = {each.name: block.column(each.name).astype(bool if each.is_boolean else int).tolist() for each in chosen}
    return {int(row): {name: column[i] for name, column in columns.items()} for i, row in enumerate(block.rows)}


if __name__ == "__main__":
    main()
