"""The plan of a simulated host: its VMs, their behaviours, and the differences between vCPUs."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from ..errors import UsageError
from .behaviours import BEHAVIOURS, Behaviour


@dataclass(frozen=True, slots=True)
class VmPlan:
    """One VM. ``age_s``: its age when the simulation begins; ``paces`` and ``phases``: one per vCPU."""

    name: str
    behaviour: Behaviour
    age_s: float
    paces: tuple[float, ...]
    phases: tuple[float, ...]

    @property
    def vcpus(self) -> int:
        return len(self.paces)


def plan(*, vms: int, vcpus: int, seed: int) -> tuple[VmPlan, ...]:
    """The VMs of a host, with all behaviours in turn; a pure function. Raises UsageError for numbers below 1."""
    if vms < 1 or vcpus < 1:
        raise UsageError("a simulated host has at least one VM, and a VM at least one vCPU")
    return tuple(_plan_vm(number, vcpus, seed) for number in range(vms))


def _plan_vm(number: int, vcpus: int, seed: int) -> VmPlan:
    chance = random.Random(f"{seed} vm {number}")
    behaviour = BEHAVIOURS[number % len(BEHAVIOURS)]
    return VmPlan(
        name=f"{behaviour.name}-{number + 1}",
        behaviour=behaviour,
        age_s=chance.uniform(*behaviour.age_s),
        paces=tuple(chance.uniform(behaviour.slowest, 1.0) for _ in range(vcpus)),
        phases=tuple(chance.uniform(0.0, 2 * math.pi) for _ in range(vcpus)),
    )
