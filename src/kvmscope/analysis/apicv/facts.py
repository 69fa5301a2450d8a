"""What a sample says of each VM's and vCPU's interrupts, row by row; None where it does not say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...host.apicv import Hardware, HostApicv, Told
from ...sample import Sample
from ...schema import Scope
from ..window import F64Array, Window, find_column

PROVIDER = "apicv"
INHIBIT = "apicv_inhibit_"
HOST_PROVIDER = "simulated_host"
"""A simulated VM says by this provider on what host it pretends to run."""


@dataclass(frozen=True, slots=True)
class VcpuFacts:
    """``has_apic``: whether the kernel emulates its local APIC. ``has_run``: whether it ever entered the guest."""

    row: int
    id: int
    has_apic: bool | None
    has_run: bool | None
    active: bool | None
    enabled: bool | None
    x2apic: bool | None
    base_moved: bool | None
    blockirq: bool | None
    apic_id: int | None
    ldr: int | None
    dfr: int | None
    guest_mode: bool | None
    irq_windows: float | None
    active_share: float | None


@dataclass(frozen=True, slots=True)
class VmFacts:
    """``inhibits``: each reason that this kernel has, and whether it holds; None if the state was not read."""

    row: int
    inhibits: Mapping[str, bool] | None
    irqchip_kernel: bool | None
    irqchip_split: bool | None
    pit_in_kernel: bool | None
    pit_reinject: bool | None
    x2apic_32bit_ids: bool | None
    synic_auto_eoi: bool | None
    sev: bool | None
    vcpus: tuple[VcpuFacts, ...]
    shares: Mapping[str, float]
    inhibited_s: Mapping[str, float]
    unchanged_s: Mapping[str, float]
    observed_s: float | None
    before: Mapping[str, bool] | None

    @property
    def irqchip_in_kernel(self) -> bool | None:
        """Whether the kernel emulates the local APICs."""
        if self.irqchip_kernel is None or self.irqchip_split is None:
            return None
        return self.irqchip_kernel or self.irqchip_split

    @property
    def names(self) -> tuple[str, ...]:
        """The reasons that hold."""
        return tuple(name for name, holds in (self.inhibits or {}).items() if holds)


def read_facts(sample: Sample, window: Window | None = None) -> tuple[VmFacts, ...]:
    """One row a VM of ``sample``, which is the current sample of ``window`` if there is one."""
    return _Reader(sample, window).read()


class _Reader:
    def __init__(self, sample: Sample, window: Window | None) -> None:
        self._sample = sample
        self._window = window
        self._vm = {name: self._column(Scope.VM, PROVIDER, name) for name in (*reasons_of(sample), *_VM_STATS)}
        self._vcpu = {name: self._column(Scope.VCPU, PROVIDER, name) for name in _VCPU_STATS}
        self._exits = self._column(Scope.VCPU, "kvm", "exits")
        self._guest_mode = self._column(Scope.VCPU, "kvm", "guest_mode")
        self._irq_windows = self._delta(Scope.VCPU, "kvm", "irq_window_exits")
        self._active_ns = self._delta(Scope.VCPU, PROVIDER, "apicv_active_ns")
        self._reasons = tuple(name.removeprefix(INHIBIT) for name in reasons_of(sample))
        self._inhibited_ns = {
            name: self._delta(Scope.VM, PROVIDER, f"apicv_inhibited_{name}_ns") for name in self._reasons
        }
        self._counted = {name: self._seconds(f"apicv_inhibited_{name}_ns") for name in self._reasons}
        self._unchanged = {name: self._seconds(f"apicv_inhibit_unchanged_{name}_ns") for name in self._reasons}
        self._observed = self._seconds("apicv_observed_ns")
        self._before = self._previous()

    def read(self) -> tuple[VmFacts, ...]:
        vcpus = [self._vcpu_facts(row) for row in range(len(self._sample.vcpus))]
        return tuple(self._vm_facts(row, vcpus[rows]) for row, rows in enumerate(self._sample.vcpus_of_vm))

    def _vm_facts(self, row: int, vcpus: Sequence[VcpuFacts]) -> VmFacts:
        inhibits = {name: self._vm[INHIBIT + name][row] for name in self._reasons}
        known = {name: bool(value) for name, value in inhibits.items() if value is not None}
        flags = {name: _flag(self._vm[name][row]) for name in _VM_STATS}
        return VmFacts(
            row=row,
            inhibits=known or None,
            irqchip_kernel=flags["irqchip_kernel"],
            irqchip_split=flags["irqchip_split"],
            pit_in_kernel=flags["pit_in_kernel"],
            pit_reinject=flags["pit_reinject_mode"],
            x2apic_32bit_ids=flags["x2apic_32bit_ids"],
            synic_auto_eoi=flags["synic_auto_eoi_used"],
            sev=flags["sev_active"],
            vcpus=tuple(vcpus) if known else tuple(_without_apic(vcpu) for vcpu in vcpus),
            shares=self._shares(row),
            inhibited_s=_at(self._counted, row),
            unchanged_s=_at(self._unchanged, row),
            observed_s=self._observed[row],
            before=self._before.get(int(self._sample.vms.id[row])),
        )

    def _shares(self, row: int) -> dict[str, float]:
        if self._window is None:
            return {}
        length_ns = self._window.interval_s * 1e9
        return {name: min(ns / length_ns, 1.0) for name, ns in _at(self._inhibited_ns, row).items()}

    def _vcpu_facts(self, row: int) -> VcpuFacts:
        values = {name: column[row] for name, column in self._vcpu.items()}
        exits, active_ns = self._exits[row], self._active_ns[row]
        return VcpuFacts(
            row=row,
            id=int(self._sample.vcpus.id[row]),
            has_apic=values["apicv_active"] is not None,
            has_run=True if exits else None if exits is None else False,
            active=_flag(values["apicv_active"]),
            enabled=_flag(values["apic_enabled"]),
            x2apic=_flag(values["apic_x2apic"]),
            base_moved=_flag(values["apic_base_moved"]),
            blockirq=_flag(values["guest_debug_blockirq"]),
            apic_id=_int(values["apic_id"]),
            ldr=_int(values["apic_ldr"]),
            dfr=_int(values["apic_dfr"]),
            guest_mode=_flag(self._guest_mode[row]),
            irq_windows=self._irq_windows[row],
            active_share=None
            if active_ns is None or self._window is None
            else min(active_ns / (self._window.interval_s * 1e9), 1.0),
        )

    def _column(self, scope: Scope, provider: str, name: str) -> list[float | None]:
        return column_of(self._sample, scope, provider, name)

    def _delta(self, scope: Scope, provider: str, name: str) -> list[float | None]:
        count = len(self._sample.vms if scope is Scope.VM else self._sample.vcpus)
        if self._window is None or not self._window.has(provider, scope, name):
            return [None] * count
        return _known(self._window.delta(provider, scope, name))

    def _seconds(self, name: str) -> list[float | None]:
        """A time of the opt-in group, which counts in nanoseconds."""
        return [None if ns is None else ns / 1e9 for ns in self._column(Scope.VM, PROVIDER, name)]

    def _previous(self) -> dict[int, Mapping[str, bool]]:
        if self._window is None:
            return {}
        sample = self._window.previous
        columns = {name: column_of(sample, Scope.VM, PROVIDER, INHIBIT + name) for name in self._reasons}
        return {
            int(vm): {name: bool(column[row]) for name, column in columns.items() if column[row] is not None}
            for row, vm in enumerate(sample.vms.id)
        }


_VM_STATS = (
    "irqchip_kernel",
    "irqchip_split",
    "pit_in_kernel",
    "pit_reinject_mode",
    "x2apic_32bit_ids",
    "synic_auto_eoi_used",
    "sev_active",
)
_VCPU_STATS = (
    "apicv_active",
    "apic_enabled",
    "apic_x2apic",
    "apic_base_moved",
    "guest_debug_blockirq",
    "apic_id",
    "apic_ldr",
    "apic_dfr",
)


def reasons_of(sample: Sample) -> tuple[str, ...]:
    """The stats of the reasons that this kernel has, in the order of its bits; cumulative ones are not among them."""
    names = [
        descriptor.name
        for block in sample.blocks_of(Scope.VM)
        if block.schema.provider == PROVIDER
        for descriptor in block.schema.descriptors
        if descriptor.name.startswith(INHIBIT) and descriptor.is_boolean
    ]
    return tuple(dict.fromkeys(names))


def column_of(sample: Sample, scope: Scope, provider: str, name: str) -> list[float | None]:
    """One stat of every subject, None where the sample has not got it."""
    column = find_column(sample, provider, scope, name)
    if column is None:
        return [None] * len(sample.vms if scope is Scope.VM else sample.vcpus)
    return _known(column.values)


def hosts_of(sample: Sample, host: HostApicv) -> tuple[HostApicv, ...]:
    """For each VM the host to judge it by: ``host``, or what a simulated VM says of its own."""
    if not sample.simulated:
        return (host,) * len(sample.vms)
    stats = {name: column_of(sample, Scope.VM, HOST_PROVIDER, name) for name in SIMULATED_HOST}
    return tuple(
        _simulated_host({name: _flag(column[row]) for name, column in stats.items()}) for row in range(len(sample.vms))
    )


SIMULATED_HOST = ("is_amd", "cpu_has_apicv", "switched_on", "x2avic", "ipi_virtualization", "device_posting", "nested")
"""The booleans by which a simulated VM says what host it pretends to run on."""


def _simulated_host(facts: Mapping[str, bool | None]) -> HostApicv:
    if facts["is_amd"] is None:
        return HostApicv.unknown("simulated, without a word on the host that it pretends to run on")

    def told(name: str) -> Told:
        return Told(facts[name], f"simulated: {name.replace('_', ' ')}: {'yes' if facts[name] else 'no'}")

    return HostApicv(
        is_x86=True,
        hardware=Hardware.AMD if facts["is_amd"] else Hardware.INTEL,
        module="kvm_amd" if facts["is_amd"] else "kvm_intel",
        supported=told("cpu_has_apicv"),
        switched_on=told("switched_on"),
        x2avic=told("x2avic"),
        ipi=told("ipi_virtualization"),
        device_posting=told("device_posting"),
        nested=told("nested"),
    )


def _without_apic(vcpu: VcpuFacts) -> VcpuFacts:
    """The same where the state was not read at all, so that its absence says nothing."""
    return vcpu if vcpu.active is not None else replace(vcpu, has_apic=None)


def _at(columns: Mapping[str, Sequence[float | None]], row: int) -> dict[str, float]:
    """What is known of one row."""
    return {name: value for name, column in columns.items() if (value := column[row]) is not None}


def _known(values: F64Array) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values.tolist()]


def _flag(value: float | None) -> bool | None:
    return None if value is None else bool(value)


def _int(value: float | None) -> int | None:
    return None if value is None else int(value)
