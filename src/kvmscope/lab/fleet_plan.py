"""The plan of a simulated fleet: its hosts, their VMs, and the VMs with a trouble.

Rule: a plan is a pure function of its arguments. A VM gets the trouble that the fewest earlier VMs have, and among
equals the one that the fewest kinds of hosts can have, so a fleet with some VMs on each kind of host has all troubles.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from ..catalog.kernels import find_kernel
from ..errors import UsageError
from ..schema import KernelTables, Scope
from .behaviours import Behaviour
from .fleet_hosts import HOST_KINDS, QEMU, VMMS, ApicvSupport, HostKind, SimulatedVmm
from .fleet_troubles import HEALTHY, TROUBLES, Trouble

_SICK_HOSTS: Final = 0.6
"""Share of the hosts that have VMs with a trouble."""
_SICK_VMS: Final = 0.3
"""Mean share of the VMs of such a host that have a trouble."""
_MOST: Final = 100_000


@dataclass(frozen=True, slots=True)
class FleetSize:
    """The size of a fleet, and the length of its recording."""

    hosts: int = 1000
    vms: int = 20
    vcpus: int = 8
    samples: int = 60
    interval_s: float = 10.0
    seed: int = 0

    def check(self) -> None:
        """Raises UsageError for an impossible fleet."""
        if min(self.hosts, self.vms, self.vcpus) < 1 or max(self.hosts, self.vms, self.vcpus) > _MOST:
            raise UsageError("a fleet has at least one host, a host one VM, and a VM one vCPU")
        if self.samples < 4:
            raise UsageError("most rules need two intervals in a row, and a fleet at least four samples")


@dataclass(frozen=True, slots=True)
class PlannedVm:
    """One VM of a fleet. ``id``: as in sources. ``paces``, ``phases``: one per vCPU."""

    id: int
    name: str
    uuid: str
    behaviour: Behaviour
    trouble: Trouble | None
    vmm: SimulatedVmm
    age_s: float
    paces: tuple[float, ...]
    phases: tuple[float, ...]

    @property
    def vcpus(self) -> int:
        return len(self.paces)


@dataclass(frozen=True, slots=True)
class PlannedHost:
    """One host of a fleet; ``id`` and ``boot`` as in ``Origin``."""

    number: int
    id: str
    boot: str
    name: str
    kind: HostKind
    vms: tuple[PlannedVm, ...]

    @property
    def is_accelerated(self) -> bool:
        return self.kind.acceleration is ApicvSupport.ON


def plan_fleet(size: FleetSize) -> Iterator[PlannedHost]:
    """The hosts of a fleet, one after another. Raises UsageError for an impossible fleet."""
    size.check()
    dealer = _Dealer(size.vcpus)
    for number in range(size.hosts):
        yield _plan_host(number, size, dealer)


def _plan_host(number: int, size: FleetSize, dealer: _Dealer) -> PlannedHost:
    chance = random.Random(f"{size.seed} host {number}")
    kind = HOST_KINDS[number % len(HOST_KINDS)]
    sick = _SICK_VMS if chance.random() < _SICK_HOSTS else 0.0
    vms = []
    for row in range(size.vms):
        trouble = dealer.deal(kind) if chance.random() < sick else None
        vms.append(_plan_vm(f"{size.seed} {number} {row}", row, kind, trouble, size.vcpus))
    return PlannedHost(
        number=number,
        id=_digits(f"{size.seed} host {number}", 16),
        boot=_digits(f"{size.seed} boot {number}", 16),
        name=f"node-{number + 1:04}",
        kind=kind,
        vms=tuple(vms),
    )


class _Dealer:
    """Assigns troubles to VMs with a given number of vCPUs."""

    def __init__(self, vcpus: int) -> None:
        self._fitting = {
            kind.name: [trouble for trouble in TROUBLES if trouble.fits(kind, _stats_of(kind.kernel), vcpus)]
            for kind in HOST_KINDS
        }
        self._kinds = Counter(trouble.name for fitting in self._fitting.values() for trouble in fitting)
        self._dealt = Counter[str]()

    def deal(self, kind: HostKind) -> Trouble | None:
        """The trouble for the next VM on a host of this kind; None if none fits."""
        found = min(self._fitting[kind.name], key=self._turn, default=None)
        if found is not None:
            self._dealt[found.name] += 1
        return found

    def _turn(self, trouble: Trouble) -> tuple[int, int]:
        return self._dealt[trouble.name], self._kinds[trouble.name]


def _plan_vm(key: str, row: int, kind: HostKind, trouble: Trouble | None, vcpus: int) -> PlannedVm:
    chance = random.Random(f"{key} vm")
    behaviour = chance.choice(HEALTHY) if trouble is None else trouble.behaviour
    digits = _digits(f"{key} uuid", 16)
    # Only QEMU's options explain the state of a VM's interrupts.
    vmm = QEMU if trouble is not None and trouble.flags else chance.choice(VMMS if kind.is_x86 else VMMS[1:])
    return PlannedVm(
        id=int(_digits(f"{key} id", 8), 16) >> 1,
        name=f"{behaviour.name}-{row + 1}",
        uuid="-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])),
        behaviour=behaviour,
        trouble=trouble,
        vmm=vmm,
        age_s=chance.uniform(7200.0, 30 * 86400.0),
        paces=tuple(chance.uniform(behaviour.slowest, 1.0) for _ in range(vcpus)),
        phases=tuple(chance.uniform(0.0, 2 * math.pi) for _ in range(vcpus)),
    )


@cache
def kernel_of(name: str) -> KernelTables:
    """A kernel of the catalogue."""
    return find_kernel(name)


@cache
def _stats_of(kernel: str) -> frozenset[str]:
    return frozenset(name for table in kernel_of(kernel).tables if table.scope in Scope for name in table.stats)


def _digits(text: str, size: int) -> str:
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()
