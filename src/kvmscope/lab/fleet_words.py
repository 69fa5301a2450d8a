"""The statistics of a simulated fleet's host at each moment, as words in the layout of its kernel.

Rule: values are a pure function of the plan and the time; all moments of a host are computed at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

import numpy as np

from ..codec import settings
from ..codec.snapshot import Feature
from ..publish import StatSet
from ..sample import I64Array, U64Array
from ..schema import Descriptor, Schema, Scope, Table
from .behaviours import FloatArray, events_until, sum_up, sums_of_events
from .fleet_groups import counted_groups
from .fleet_hosts import ApicvSupport
from .fleet_plan import PlannedHost, PlannedVm, kernel_of
from .fleet_scheduling import scheduling_schemas, scheduling_words
from .fleet_troubles import behaviour_of
from .simulated_apicv import APICV_STATS, HOST_FLAGS, HOST_STATS
from .simulated_kvm import stat_sets

_INHIBITED_S: Final = 3600.0
"""How long an inhibit reason has held when the recording begins."""
_QUIET: Final = 60.0
"""Injections per second without acceleration, for a VM without a trouble with interrupts: no rule fires on this."""
_PAGES_OF_GIB: Final = 1 << 18
_ARM_NAMES: Final = {"wfi_exit_stat": "halt_exits", "mmio_exit_user": "mmio_exits"}
"""Names of arm64's stats by the x86 names of the same counts."""


class HostWords:
    """The words of one host at some moments, one block per schema.

    ``times_s``: seconds since the recording began. Words have the shape (moments, subjects, words).
    """

    def __init__(self, host: PlannedHost, times_s: FloatArray, seed: int) -> None:
        self._host = host
        self._times_s = times_s
        self._seed = seed
        self._owner = np.repeat(np.arange(len(host.vms)), [vm.vcpus for vm in host.vms])

    def blocks(self) -> Iterator[tuple[Schema, U64Array, I64Array]]:
        """Each schema with its words, and the rows of the subjects that it describes."""
        tables = {table.scope: _schema(table) for table in kernel_of(self._host.kind.kernel).tables}
        everybody = {Scope.VM: np.arange(len(self._host.vms)), Scope.VCPU: np.arange(len(self._owner))}
        yield tables[Scope.VM], self._kvm_vms(tables[Scope.VM]), everybody[Scope.VM]
        yield tables[Scope.VCPU], self._kvm_vcpus(tables[Scope.VCPU]), everybody[Scope.VCPU]
        if self._host.kind.is_x86:
            yield from self._x86(everybody)
        if self._host.kind.counts_groups:
            yield from self._groups(everybody)
            yield from self._scheduling(everybody)

    # --- provider kvm -------------------------------------------------------------------------------------------------

    def _kvm_vcpus(self, schema: Schema) -> U64Array:
        parts = [self._of_vm(vm) for vm in self._host.vms]
        return _in_layout(schema, np.concatenate(parts, axis=1))

    def _of_vm(self, vm: PlannedVm) -> U64Array:
        """The words of a VM's vCPUs, shape (moments, vCPUs, words), in the full layout."""
        full, sums = _full(), _sums(vm.behaviour.name, self._seed)
        pace, phase = np.array(vm.paces), np.array(vm.phases)
        lived_s = vm.age_s + self._times_s[:, np.newaxis]
        events = events_until(vm.behaviour, lived_s, pace=pace, phase=phase)
        words = sum_up(sums, events.reshape(-1)).reshape(*events.shape, -1)
        self._inject(vm, words, sums)
        rule = None if vm.trouble is None else vm.trouble.rule
        if rule == "stats-reset":
            middle = len(self._times_s) // 2
            words[middle:] -= words[middle - 1].copy()
        words[:, :, full["blocking"].offset // 8] = (events % 97) < 97 * vm.behaviour.usually_halted
        if rule == "vcpu-never-ran":
            words[:, -1] = 0
        return words

    def _inject(self, vm: PlannedVm, words: U64Array, sums: U64Array) -> None:
        """Subtracts the interrupts that the hardware delivers, and those that would be another trouble."""
        if vm.trouble is not None and vm.trouble.keeps_injections:
            return
        full = _full()
        injected, requests = full["irq_injections"].offset // 8, full["req_event"].offset // 8
        before = words[:, :, injected].copy()
        per_event = float(sums[-1, injected]) / (len(sums) - 1)
        natural = per_event * vm.behaviour.exits * sum(vm.paces)
        is_delivered = self._host.is_accelerated and (vm.trouble is None or vm.trouble.inhibit is None)
        budget = 0.0 if is_delivered else _QUIET
        kept = min(1.0, budget / natural) if natural else 1.0
        words[:, :, injected] = np.floor(before.astype(np.float64) * kept).astype(np.uint64)
        words[:, :, requests] -= before - words[:, :, injected]

    def _kvm_vms(self, schema: Schema) -> U64Array:
        words = np.zeros((len(self._times_s), len(self._host.vms), schema.words), dtype=np.uint64)
        for row, vm in enumerate(self._host.vms):
            for name, values in self._vm_values(vm).items():
                if name in schema:
                    words[:, row, schema[name].offset // 8] = values.astype(np.uint64)
        return words

    def _vm_values(self, vm: PlannedVm) -> Mapping[str, FloatArray]:
        lived_s, trouble = vm.age_s + self._times_s, vm.trouble
        flushes = vm.behaviour.flushes * vm.vcpus
        rates = {"remote_tlb_flush": 0.7 * flushes, "remote_tlb_flush_requests": flushes}
        if trouble is not None:
            rates |= trouble.vm_rates
            rates |= {name: rate * vm.vcpus for name, rate in trouble.vcpu_rates.items()}
        levels = {name: np.full(len(lived_s), level) for name, level in vm.behaviour.levels.items()}
        return {name: np.floor(rate * lived_s) for name, rate in rates.items()} | levels

    # --- apicv, settings ----------------------------------------------------------------------------------------------

    def _x86(self, rows: Mapping[Scope, I64Array]) -> Iterator[tuple[Schema, U64Array, I64Array]]:
        stats = APICV_STATS
        vms = [self._apicv_of(vm) for vm in self._host.vms]
        yield self._said(_of_set(stats[Scope.VM]), vms, rows[Scope.VM])
        vcpus = [self._apicv_of_vcpu(vm, vcpu) for vm in self._host.vms for vcpu in range(vm.vcpus)]
        yield self._said(_of_set(stats[Scope.VCPU]), vcpus, rows[Scope.VCPU])
        how = settings.vm_schema(
            Feature.HLT_EXITS | Feature.HALT_POLL_CAP | Feature.HALT_POLL_CAP_SET | Feature.DIRTY_LOG
        )
        assert how is not None
        yield self._said(how, [{**_flags(vm), **_memory(vm)} for vm in self._host.vms], rows[Scope.VM])
        yield self._said(_of_set(HOST_STATS), [self._host_flags()] * len(self._host.vms), rows[Scope.VM])

    def _said(
        self, schema: Schema, values: list[Mapping[str, int | FloatArray]], rows: I64Array
    ) -> tuple[Schema, U64Array, I64Array]:
        """A block whose subjects have these values; the others are 0."""
        words = np.zeros((len(self._times_s), len(values), schema.words), dtype=np.uint64)
        for row, of in enumerate(values):
            for name, value in of.items():
                if name in schema:
                    words[:, row, schema[name].offset // 8] = value
        return schema, words, rows

    def _apicv_of(self, vm: PlannedVm) -> Mapping[str, int | FloatArray]:
        values: dict[str, int | FloatArray] = dict(_flags(vm)) | {"apicv_observed_ns": self._ns(_INHIBITED_S)}
        for name in self._inhibits(vm):
            values[f"apicv_inhibit_{name}"] = 1
            values[f"apicv_inhibited_{name}_ns"] = self._ns(_INHIBITED_S)
            values[f"apicv_inhibit_unchanged_{name}_ns"] = self._ns(_INHIBITED_S)
        return values

    def _inhibits(self, vm: PlannedVm) -> tuple[str, ...]:
        disabled = () if self._host.is_accelerated else ("disabled",)
        return disabled if vm.trouble is None or vm.trouble.inhibit is None else (*disabled, vm.trouble.inhibit)

    def _apicv_of_vcpu(self, vm: PlannedVm, vcpu: int) -> Mapping[str, int | FloatArray]:
        is_moved = vm.trouble is not None and vm.trouble.inhibit == "apic_id_modified"
        return {
            "apicv_active": int(not self._inhibits(vm)),
            "apic_enabled": 1,
            "apic_x2apic": int(not is_moved),
            "apic_id": vcpu + 8 * is_moved,
            "apic_ldr": 1 << 24 + vcpu % 8 if is_moved else 1 << (vcpu & 15) | vcpu >> 4 << 16,
            "apic_dfr": 0xFFFFFFFF,
        }

    def _host_flags(self) -> Mapping[str, int | FloatArray]:
        kind = self._host.kind
        is_new = "ipi_virt" in kind.cpu.flags or "x2avic" in kind.cpu.flags
        said = {
            "is_amd": kind.is_amd,
            "cpu_has_apicv": kind.acceleration is not ApicvSupport.UNSUPPORTED,
            "switched_on": kind.acceleration is ApicvSupport.ON,
            "x2avic": not kind.is_amd or is_new,
            "ipi_virtualization": kind.acceleration is ApicvSupport.ON and (kind.is_amd or is_new),
            "device_posting": kind.acceleration is ApicvSupport.ON,
            "nested": True,
        }
        return {name: int(said[name]) for name in HOST_FLAGS}

    def _ns(self, before_s: float) -> FloatArray:
        found: FloatArray = np.floor((before_s + self._times_s) * 1e9)
        return found

    # --- opt-in groups ------------------------------------------------------------------------------------------------

    def _groups(self, rows: Mapping[Scope, I64Array]) -> Iterator[tuple[Schema, U64Array, I64Array]]:
        """The counts of the groups since the recording began."""
        for group in counted_groups(is_amd=self._host.kind.is_amd):
            scope = group.schema.scope
            troubles = [None if vm.trouble is None else vm.trouble.counted for vm in self._vms_of(scope)]
            yield group.schema, group.words(troubles, self._times_s), rows[scope]

    def _scheduling(self, rows: Mapping[Scope, I64Array]) -> Iterator[tuple[Schema, U64Array, I64Array]]:
        for schema in scheduling_schemas():
            scheduled = [{} if vm.trouble is None else vm.trouble.scheduled for vm in self._vms_of(schema.scope)]
            yield schema, scheduling_words(schema, scheduled, self._times_s), rows[schema.scope]

    def _vms_of(self, scope: Scope) -> list[PlannedVm]:
        """The VM of each subject."""
        vms = self._host.vms
        return list(vms) if scope is Scope.VM else [vms[row] for row in self._owner.tolist()]


def _schema(table: Table) -> Schema:
    """A kernel's stats as a schema, one after another."""
    at, found = 0, []
    for name, shape in table.stats.items():
        found.append(
            Descriptor(name, shape.kind, shape.unit, shape.base, shape.exponent, shape.size, shape.bucket_size, at)
        )
        at += 8 * shape.size
    return Schema(table.provider, table.scope, tuple(found), at)


def _of_set(stats: StatSet) -> Schema:
    return Schema(stats.provider, stats.scope, stats.descriptors, stats.data_size)


@cache
def _full() -> Schema:
    """All stats of a vCPU that behaviours use."""
    return _of_set(stat_sets()[Scope.VCPU])


@cache
def _sums(behaviour_name: str, seed: int) -> U64Array:
    return sums_of_events(behaviour_of(behaviour_name), _full().descriptors, seed=seed)


def _in_layout(schema: Schema, words: U64Array) -> U64Array:
    """The words of the full layout, moved to their places on a kernel."""
    full = _full()
    found = np.zeros((*words.shape[:2], schema.words), dtype=np.uint64)
    for stat in schema.descriptors:
        name = _ARM_NAMES.get(stat.name, stat.name)
        if name in full:
            at, to = full[name].offset // 8, stat.offset // 8
            found[:, :, to : to + stat.size] = words[:, :, at : at + stat.size]
    return found


def _flags(vm: PlannedVm) -> dict[str, int | FloatArray]:
    flags = frozenset[str]() if vm.trouble is None else vm.trouble.flags
    return dict.fromkeys(flags if "irqchip_kernel" in flags else flags | {"irqchip_split"}, 1)


def _memory(vm: PlannedVm) -> dict[str, int | FloatArray]:
    """The number of a VM's 4 KiB pages, and of those whose writes KVM logs for the VMM."""
    pages = 4 * _PAGES_OF_GIB
    return {"memory_pages": pages, "dirty_logged_pages": pages if vm.trouble and vm.trouble.logs_memory else 0}
