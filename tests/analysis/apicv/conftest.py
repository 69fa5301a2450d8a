"""Samples and hosts made by hand for the verdict; tests reach them by the fixture ``craft``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import TypeVar

import numpy as np
import pytest

from kvmscope.host.apicv import Hardware, HostApicv, HostFlag
from kvmscope.host.config import Confidential, InterruptConfig, Irqchip, Pit, Setting
from kvmscope.sample import Sample, VmId
from kvmscope.schema import Descriptor, Kind, Schema, Scope, Unit
from kvmscope.sources.files import StatsOf, VcpuStats, VmStats, assemble

T = TypeVar("T")

REASONS = (
    "disabled hyperv absent blockirq physical_id_aliased apic_id_modified apic_base_modified nested irqwin pit_reinj "
    "sev logical_id_aliased physical_id_too_big"
).split()
REASONS_6_1 = "disabled hyperv absent blockirq apic_id_modified apic_base_modified nested irqwin pit_reinj sev".split()
VM_FLAGS = (
    "irqchip_kernel irqchip_split pit_in_kernel pit_reinject_mode x2apic_32bit_ids synic_auto_eoi_used sev_active"
).split()
VCPU_FLAGS = "apicv_active apic_enabled apic_x2apic apic_base_moved guest_debug_blockirq".split()
VCPU_NUMBERS = "apic_id apic_ldr apic_dfr".split()


@pytest.fixture
def craft() -> ModuleType:
    """Everything in this file."""
    return sys.modules[__name__]


def _boolean(name: str) -> Descriptor:
    return Descriptor(name, Kind.INSTANT, Unit.BOOLEAN)


def _ns(name: str, kind: Kind = Kind.CUMULATIVE) -> Descriptor:
    return Descriptor(name, kind, Unit.SECONDS, exponent=-9)


def schema(provider: str, scope: Scope, stats: Sequence[Descriptor]) -> Schema:
    placed = tuple(replace(stat, offset=8 * place) for place, stat in enumerate(stats))
    return Schema(provider, scope, placed, 8 * len(placed))


_EXITS = [Descriptor(name, Kind.CUMULATIVE) for name in ("exits", "irq_window_exits")]
KVM_VCPU = schema("kvm", Scope.VCPU, [*_EXITS, _boolean("guest_mode")])
KVM_VM = schema("kvm", Scope.VM, [Descriptor("remote_tlb_flush", Kind.CUMULATIVE)])


@dataclass(frozen=True)
class VerdictVcpu:
    """A vCPU in x2APIC mode that ran and is active, with what differs from that."""

    id: int = 0
    active: bool = True
    enabled: bool = True
    x2apic: bool = True
    apic_id: int | None = None
    ldr: int | None = None
    dfr: int = 0xFFFFFFFF
    base_moved: bool = False
    blockirq: bool = False
    exits: int = 1000
    irq_windows: int = 0
    guest_mode: bool = False
    has_apic: bool = True
    active_ns: int = 0


@dataclass(frozen=True)
class VerdictVm:
    """A VM with a split irqchip of which nothing is inhibited. ``flags`` are further booleans that are set."""

    vcpus: Sequence[VerdictVcpu] = (VerdictVcpu(),)
    inhibits: Sequence[str] = ()
    flags: Sequence[str] = ("irqchip_split",)
    counted: Mapping[str, int] = field(default_factory=dict)


def sample(
    *vms: VerdictVm,
    at_s: float = 0.0,
    reasons: Sequence[str] = REASONS,
    with_state: bool = True,
    simulated: bool = False,
    counts: bool = False,
    registers: bool = True,
    without: Sequence[str] = (),
    first: int = 0,
) -> Sample:
    """A sample ``at_s`` seconds after some moment; without state it is one of a source that cannot read it.

    ``first``: the number of the first VM.
    ``counts``: with what the opt-in group counts. ``without``: booleans of the VM that this kernel has not got.
    """
    stats = [_boolean(f"apicv_inhibit_{name}") for name in reasons] + [
        _boolean(name) for name in VM_FLAGS if name not in without
    ]
    if counts:
        for name in reasons:
            stats += [
                _ns(f"apicv_inhibited_{name}_ns"),
                Descriptor(f"apicv_inhibit_set_{name}", Kind.CUMULATIVE),
                _ns(f"apicv_inhibit_unchanged_{name}_ns", Kind.INSTANT),
            ]
        stats.append(_ns("apicv_observed_ns"))
    vm_schema = schema("apicv", Scope.VM, stats)
    numbers = VCPU_NUMBERS if registers else []
    of_vcpu = [_boolean(name) for name in VCPU_FLAGS] + [Descriptor(name, Kind.INSTANT) for name in numbers]
    vcpu_schema = schema("apicv", Scope.VCPU, [*of_vcpu, *([_ns("apicv_active_ns")] if counts else [])])
    return assemble(
        [_vm(number, vm, vm_schema, vcpu_schema, with_state) for number, vm in enumerate(vms, first)],
        source="test",
        taken_ns=round((1_700_000_000 + at_s) * 1e9),
        monotonic_ns=round((1000 + at_s) * 1e9),
        simulated=simulated,
        gaps=(),
    )


def _vm(number: int, vm: VerdictVm, vm_schema: Schema, vcpu_schema: Schema, with_state: bool) -> VmStats:
    values = {f"apicv_inhibit_{name}": 1 for name in vm.inhibits} | dict.fromkeys(vm.flags, 1) | dict(vm.counted)
    stats = [StatsOf(KVM_VM, np.zeros(1, dtype=np.uint64))]
    if with_state:
        stats.append(_words(vm_schema, values))
    vcpus = [_vcpu(vcpu, vcpu_schema, with_state) for vcpu in vm.vcpus]
    return VmStats(VmId(100 + number), stats, vcpus, 1, 0, f"vm{number}")


def _vcpu(vcpu: VerdictVcpu, vcpu_schema: Schema, with_state: bool) -> VcpuStats:
    kvm = {"exits": vcpu.exits, "irq_window_exits": vcpu.irq_windows, "guest_mode": vcpu.guest_mode}
    stats = [_words(KVM_VCPU, kvm)]
    if with_state and vcpu.has_apic:
        apic_id = vcpu.id if vcpu.apic_id is None else vcpu.apic_id
        own = {
            "apicv_active": vcpu.active,
            "apic_enabled": vcpu.enabled,
            "apic_x2apic": vcpu.x2apic,
            "apic_base_moved": vcpu.base_moved,
            "guest_debug_blockirq": vcpu.blockirq,
            "apic_id": apic_id,
            "apic_ldr": 1 << (24 + vcpu.id % 8) if vcpu.ldr is None else vcpu.ldr,
            "apic_dfr": vcpu.dfr,
            "apicv_active_ns": vcpu.active_ns,
        }
        stats.append(_words(vcpu_schema, own))
    return VcpuStats(vcpu.id, stats)


def _words(described: Schema, values: Mapping[str, int]) -> StatsOf:
    return StatsOf(described, np.array([values.get(name, 0) for name in described.names], dtype=np.uint64))


def host(
    hardware: Hardware | None = Hardware.AMD,
    *,
    supported: bool | None = True,
    on: bool | None = True,
    x2avic: bool | None = True,
    ipi: bool | None = True,
    posting: bool | None = None,
    cpu_ipi: bool | None = None,
) -> HostApicv:
    """A host; by default one with AVIC on, for which nothing of AVIC is missing."""
    module = {Hardware.AMD: "kvm_amd", Hardware.INTEL: "kvm_intel", Hardware.OTHER: "kvm_pvm", None: None}[hardware]
    return HostApicv(
        is_x86=True,
        hardware=hardware,
        module=module,
        supported=HostFlag(supported, "the CPU's flags"),
        switched_on=HostFlag(on, f"{module}.parameter={on}"),
        x2avic=HostFlag(x2avic, "the flag x2avic"),
        ipi=HostFlag(ipi, "the parameter enable_ipiv"),
        device_posting=HostFlag(posting, "the parameter enable_device_posted_irqs"),
        nested=HostFlag(True, "the parameter nested"),
        cpu_ipi=HostFlag(cpu_ipi, "the vmx flags"),
    )


def config(
    *,
    vmm: str = "qemu",
    managed_by: str | None = None,
    irqchip: Irqchip | None = None,
    pit: Pit | None = None,
    synic: bool | None = None,
    avic_hint: bool | None = None,
    confidential: Confidential | None = None,
    nested: bool | None = None,
    highest_apic_id: int | None = None,
) -> InterruptConfig:
    """A configuration of which nothing is known but what is given; its evidence names the setting."""
    blank = InterruptConfig.unknown(vmm, "not said", managed_by=managed_by)
    return InterruptConfig(
        vmm=vmm,
        managed_by=managed_by,
        irqchip=_setting("irqchip", irqchip, blank.irqchip),
        pit=_setting("pit", pit, blank.pit),
        synic=_setting("synic", synic, blank.synic),
        avic_hint=_setting("avic", avic_hint, blank.avic_hint),
        confidential=_setting("confidential", confidential, blank.confidential),
        nested=_setting("nested", nested, blank.nested),
        cpus=blank.cpus,
        highest_apic_id=_setting("smp", highest_apic_id, blank.highest_apic_id),
    )


def _setting(name: str, value: T | None, otherwise: Setting[T]) -> Setting[T]:
    return otherwise if value is None else Setting(value, f"option {name}")
