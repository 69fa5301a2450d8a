"""The provider ``kvm`` of the simulated host: the stats of an x86 kernel, with invented values.

The stats themselves are real, from data/kvm-x86.json. Rule: values are a pure function of seed and time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..publish import StatSet
from ..sample import U64Array
from ..schema import Descriptor, Kind, Scope, Unit
from .behaviours import Behaviour, FloatArray, events_until, sum_up, sums_of_events
from .simulate_plan import VmPlan

_DATA: Final = Path(__file__).with_name("data") / "kvm-x86.json"

_GOLDEN: Final = 0.6180339887498949
MOMENT_S: Final = 0.05
"""Time for which a boolean keeps its value."""


@cache
def stat_sets() -> Mapping[Scope, StatSet]:
    """The stats of Linux 7.2 on x86, with its offsets."""
    data = json.loads(_DATA.read_text())
    return {scope: StatSet("kvm", scope, tuple(map(_descriptor, data[scope.value]))) for scope in Scope}


class SimulatedKvm:
    """The values of all VMs and vCPUs of one simulated host."""

    def __init__(self, vms: Sequence[VmPlan], seed: int) -> None:
        self.stat_sets = stat_sets()
        self._vms = vms
        self._vm_at = _places(self.stat_sets[Scope.VM])
        self._vcpu_at = _places(self.stat_sets[Scope.VCPU])
        owners = [vm for vm in vms for _ in range(vm.vcpus)]
        self._behaviours = {vm.behaviour.name: vm.behaviour for vm in vms}
        self._rows = {
            name: np.array([row for row, vm in enumerate(owners) if vm.behaviour.name == name])
            for name in self._behaviours
        }
        self._sums = {
            name: sums_of_events(behaviour, self.stat_sets[Scope.VCPU].descriptors, seed=seed)
            for name, behaviour in self._behaviours.items()
        }
        self._age_s = np.array([vm.age_s for vm in owners], dtype=np.float64)
        self._pace = np.array([pace for vm in vms for pace in vm.paces], dtype=np.float64)
        self._phase = np.array([phase for vm in vms for phase in vm.phases], dtype=np.float64)

    def covers(self, scope: Scope, row: int) -> bool:
        """Every VM and vCPU has these stats."""
        del scope, row
        return True

    def words(self, scope: Scope, elapsed_s: float) -> U64Array:
        """The words ``elapsed_s`` after the simulation began, shape (subjects, words), in the order of the plan."""
        if scope is Scope.VM:
            return np.stack([self._words_of_vm(vm, elapsed_s) for vm in self._vms])
        words = np.zeros((len(self._age_s), self.stat_sets[scope].data_size // 8), dtype=np.uint64)
        for name, behaviour in self._behaviours.items():
            rows = self._rows[name]
            pace, phase = self._pace[rows], self._phase[rows]
            events = events_until(behaviour, self._age_s[rows] + elapsed_s, pace=pace, phase=phase)
            words[rows] = sum_up(self._sums[name], events)
            self._set_states(words, rows, behaviour, moments(elapsed_s, phase))
        return words

    def _set_states(self, words: U64Array, rows: Any, behaviour: Behaviour, at: FloatArray) -> None:
        blocking = at < behaviour.usually_halted
        words[rows, self._vcpu_at["blocking"]] = blocking
        words[rows, self._vcpu_at["guest_mode"]] = in_guest_mode(at, behaviour.in_guest_mode)

    def _words_of_vm(self, vm: VmPlan, elapsed_s: float) -> U64Array:
        behaviour, lived_s = vm.behaviour, vm.age_s + elapsed_s
        words = np.zeros(len(self._vm_at), dtype=np.uint64)
        flushes = behaviour.flushes * vm.vcpus * lived_s
        words[self._vm_at["remote_tlb_flush_requests"]] = int(flushes)
        words[self._vm_at["remote_tlb_flush"]] = int(flushes * 0.7)
        for name, rate in behaviour.counts.items():
            words[self._vm_at[name]] = int(rate * lived_s)
        settled = -np.expm1(-lived_s / behaviour.settle_s)
        for name, level in behaviour.levels.items():
            words[self._vm_at[name]] = int(level * settled)
        return words


def moments(elapsed_s: float, phase: FloatArray) -> FloatArray:
    """A number in [0, 1) for each vCPU, which changes every ``MOMENT_S`` and is evenly distributed."""
    found: FloatArray = ((elapsed_s // MOMENT_S) * _GOLDEN + phase) % 1.0
    return found


def in_guest_mode(at: FloatArray, share: float) -> npt.NDArray[np.bool_]:
    """Whether vCPUs that run a nested guest for this share of the time do so at these moments."""
    # Taken from the opposite end of the range than halts, since a halted vCPU is not in its guest.
    return np.asarray(at > 1 - share)


def _places(stat_set: StatSet) -> dict[str, int]:
    return {descriptor.name: descriptor.offset // 8 for descriptor in stat_set.descriptors}


def _descriptor(data: Mapping[str, Any]) -> Descriptor:
    return Descriptor(
        name=data["name"],
        kind=Kind[data["kind"].upper()],
        unit=Unit[data["unit"].upper()],
        exponent=data["exponent"],
        size=data["size"],
        offset=data["offset"],
    )
