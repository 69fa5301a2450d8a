"""The provider ``apicv`` of the simulated host: a VM in every possible state of interrupt acceleration.

Each VM also has another provider (``simulated_host``) that describes the host on which it pretends to run, since one
real host could not show every state at once. The stats are those of Linux 7 on x86.
Rule: values are a pure function of plan, seed and time, and agree with ``simulated_kvm`` for the same vCPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..publish import StatSet
from ..sample import U64Array
from ..schema import Descriptor, Kind, Scope, Unit
from .simulate_plan import VmPlan
from .simulated_kvm import MOMENT_S, in_guest_mode, moments

REASONS: Final = (
    "disabled hyperv absent blockirq physical_id_aliased apic_id_modified apic_base_modified nested irqwin pit_reinj "
    "sev logical_id_aliased physical_id_too_big"
).split()
_VM_FLAGS: Final = (
    "irqchip_kernel irqchip_split pit_in_kernel pit_reinject_mode x2apic_32bit_ids synic_auto_eoi_used sev_active"
).split()
_VCPU_FLAGS: Final = "apicv_active apic_enabled apic_x2apic apic_base_moved guest_debug_blockirq".split()
HOST_FLAGS: Final = "is_amd cpu_has_apicv switched_on x2avic ipi_virtualization device_posting nested".split()

_FULL: Final = ("irqchip_kernel", "pit_in_kernel")
_AMD: Final = tuple(HOST_FLAGS)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One state. ``inhibits``: active reasons; ``flags``: further booleans of the VM; ``host``: booleans of its host.

    ``flickers``: a reason that comes and goes, and the share of the time for which it holds. ``is_seen``: false for
    a VM whose state no source could read.
    """

    name: str
    inhibits: tuple[str, ...] = ()
    flags: tuple[str, ...] = ("irqchip_split",)
    host: tuple[str, ...] = _AMD
    flickers: tuple[str, float] | None = None
    x2apic: bool = True
    apic_id_off_by: int = 0
    is_seen: bool = True


def _without(*names: str) -> tuple[str, ...]:
    return tuple(name for name in _AMD if name not in names)


SCENARIOS: Final = (
    Scenario("active"),
    Scenario("PIT reinjection", ("pit_reinj",), (*_FULL, "pit_reinject_mode")),
    Scenario("off by parameter", ("disabled",), (*_FULL, "pit_reinject_mode"), _without("switched_on")),
    Scenario("AutoEOI", ("hyperv",), ("irqchip_split", "synic_auto_eoi_used")),
    Scenario("nested guests"),
    Scenario("interrupts of the PIC at boot", (), _FULL, flickers=("irqwin", 0.3)),
    Scenario("active in part", host=_without("x2avic", "ipi_virtualization")),
    Scenario("not supported", ("disabled",), host=_without("is_amd", "cpu_has_apicv", "switched_on")),
    Scenario("no local APIC in the kernel", ("absent",), ()),
    Scenario("not read", is_seen=False),
    Scenario("APIC ids changed", ("apic_id_modified",), x2apic=False, apic_id_off_by=8),
    Scenario("encrypted", ("sev",), ("irqchip_split", "sev_active")),
)
"""Used in turn, one per VM; a small host has the first ones."""


class SimulatedApicv:
    """The state of all VMs and vCPUs of one simulated host."""

    def __init__(self, vms: Sequence[VmPlan], seed: int) -> None:
        del seed
        self.stat_sets: Mapping[Scope, StatSet] = APICV_STATS
        self._vms = vms
        self._scenarios = [SCENARIOS[number % len(SCENARIOS)] for number in range(len(vms))]
        self._owner = np.array([number for number, vm in enumerate(vms) for _ in range(vm.vcpus)])
        self._id = np.array([number for vm in vms for number in range(vm.vcpus)])
        self._phase = np.array([phase for vm in vms for phase in vm.phases])
        self._nests = np.array([vm.behaviour.in_guest_mode for vm in vms for _ in range(vm.vcpus)])

    def covers(self, scope: Scope, row: int) -> bool:
        """Whether the subject has stats: not if its VM's state is unreadable, nor a vCPU without a local APIC."""
        scenario = self._scenarios[row if scope is Scope.VM else self._owner[row]]
        return scenario.is_seen and (scope is Scope.VM or "absent" not in scenario.inhibits)

    def words(self, scope: Scope, elapsed_s: float) -> U64Array:
        """The words ``elapsed_s`` after the simulation began, shape (subjects, words), in the order of the plan."""
        names = self.stat_sets[scope].descriptors
        rows = range(len(self._vms) if scope is Scope.VM else len(self._owner))
        values = [self._of_vm(row, elapsed_s) if scope is Scope.VM else self._of_vcpu(row, elapsed_s) for row in rows]
        return np.array([[of.get(d.name, 0) for d in names] for of in values], dtype=np.uint64)

    def _inhibits(self, vm: int, elapsed_s: float) -> tuple[str, ...]:
        scenario = self._scenarios[vm]
        if scenario.flickers is None:
            return scenario.inhibits
        name, share = scenario.flickers
        moment = float(moments(elapsed_s, np.array([self._vms[vm].phases[0]]))[0])
        return (*scenario.inhibits, name) if moment < share else scenario.inhibits

    def _of_vm(self, row: int, elapsed_s: float) -> dict[str, int]:
        scenario, lived_s = self._scenarios[row], self._vms[row].age_s + elapsed_s
        values = dict.fromkeys(scenario.flags, 1) | {"apicv_observed_ns": _ns(elapsed_s)}
        for name in self._inhibits(row, elapsed_s):
            values[f"apicv_inhibit_{name}"] = 1
        for name in scenario.inhibits:
            values[f"apicv_inhibited_{name}_ns"] = _ns(elapsed_s)
            values[f"apicv_inhibit_unchanged_{name}_ns"] = _ns(lived_s)
        if scenario.flickers is not None:
            name, share = scenario.flickers
            values[f"apicv_inhibited_{name}_ns"] = _ns(elapsed_s * share)
            values[f"apicv_inhibit_unchanged_{name}_ns"] = _ns(elapsed_s % MOMENT_S)
        return values

    def _of_vcpu(self, row: int, elapsed_s: float) -> dict[str, int]:
        owner = int(self._owner[row])
        scenario, inhibits = self._scenarios[owner], self._inhibits(owner, elapsed_s)
        moment = moments(elapsed_s, self._phase[row : row + 1])
        nests = bool(in_guest_mode(moment, float(self._nests[row]))[0]) and "is_amd" in scenario.host
        vcpu = int(self._id[row])
        return {
            "apicv_active": not inhibits and not nests,
            "apic_enabled": 1,
            "apic_x2apic": scenario.x2apic,
            "apic_id": vcpu + scenario.apic_id_off_by,
            "apic_ldr": 1 << (vcpu & 15) | vcpu >> 4 << 16 if scenario.x2apic else 1 << 24 + vcpu % 8,
            "apic_dfr": 0xFFFFFFFF,
        }


class SimulatedHosts:
    """The host on which each VM pretends to run."""

    def __init__(self, vms: Sequence[VmPlan], seed: int) -> None:
        del seed
        self.stat_sets: Mapping[Scope, StatSet] = {Scope.VM: HOST_STATS}
        self._hosts = [SCENARIOS[number % len(SCENARIOS)].host for number in range(len(vms))]

    def covers(self, scope: Scope, row: int) -> bool:
        """Every VM runs on some host."""
        del scope, row
        return True

    def words(self, scope: Scope, elapsed_s: float) -> U64Array:
        """The words, shape (subjects, words), in the order of the plan; constant over time."""
        del scope, elapsed_s
        return np.array([[name in host for name in HOST_FLAGS] for host in self._hosts], dtype=np.uint64)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


def _stat_set(provider: str, scope: Scope, descriptors: Sequence[tuple[str, Kind, Unit]]) -> StatSet:
    made = [
        Descriptor(name, kind, unit, exponent=-9 if unit is Unit.SECONDS else 0, offset=8 * place)
        for place, (name, kind, unit) in enumerate(descriptors)
    ]
    return StatSet(provider, scope, tuple(made))


def _flags(names: Sequence[str], prefix: str = "") -> list[tuple[str, Kind, Unit]]:
    return [(prefix + name, Kind.INSTANT, Unit.BOOLEAN) for name in names]


def _times() -> list[tuple[str, Kind, Unit]]:
    counted = [(f"apicv_inhibited_{name}_ns", Kind.CUMULATIVE, Unit.SECONDS) for name in REASONS]
    unchanged = [(f"apicv_inhibit_unchanged_{name}_ns", Kind.INSTANT, Unit.SECONDS) for name in REASONS]
    return [*counted, *unchanged, ("apicv_observed_ns", Kind.CUMULATIVE, Unit.SECONDS)]


APICV_STATS: Final = {
    Scope.VM: _stat_set("apicv", Scope.VM, [*_flags(REASONS, "apicv_inhibit_"), *_flags(_VM_FLAGS), *_times()]),
    Scope.VCPU: _stat_set(
        "apicv",
        Scope.VCPU,
        [*_flags(_VCPU_FLAGS), *((name, Kind.INSTANT, Unit.NONE) for name in ("apic_id", "apic_ldr", "apic_dfr"))],
    ),
}
HOST_STATS: Final = _stat_set("simulated_host", Scope.VM, _flags(HOST_FLAGS))
