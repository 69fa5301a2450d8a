"""Requests to the lab and its reports: plain values that cross a process boundary as JSON.

Rule: a spec is checked once, when it is made; the VMM and its process trust it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

from ..errors import UsageError
from ..units import quoted
from .workloads import GuestIrqchip, GuestPit, Partner, Workload, find_workload

BARE = "bare"
CHURN = "churn"
WITHOUT_GUESTS = (BARE, CHURN)
"""Not workloads of a guest: VMs that never run, and VMs that come and go."""

PACKET = 1 << 20
"""Maximum bytes of a message between the processes."""
MAX_FDS = 200
"""Maximum file descriptors in one message; the kernel's limit is 253."""

_UNTIL_STOPPED = 2**63 - 1
MAX_VMS = 4096
"""Maximum number of VMs, in one process each or all in one."""
MAX_VCPUS = 1024
_MAX_MESSAGE_APIC_ID = 254


@dataclass(frozen=True, slots=True, kw_only=True)
class LabSpec:
    """A number of equal VMs: their guests' workload and its count, and the setup of KVM for them.

    ``count`` None means until stopped. ``irqchip`` and ``pit`` None mean the workload's default, ``halt_poll_ns`` None
    the host's. ``period_us`` is the time between timer interrupts. ``vcpu_ids`` defaults to 0 … ``vcpus`` − 1.
    ``one_process`` puts all VMs into one process; ``hold_stats_fds`` keeps their stats fds open in it, as QEMU does.
    ``publishes``: the VMM publishes its own stats.
    """

    workload: str
    vms: int = 1
    vcpus: int = 1
    count: int | None = None
    name: str = ""
    vcpu_ids: tuple[int, ...] = ()
    irqchip: GuestIrqchip | None = None
    pit: GuestPit | None = None
    halt_poll_ns: int | None = None
    period_us: int = 1000
    one_process: bool = False
    hold_stats_fds: bool = False
    publishes: bool = False

    def checked(self) -> LabSpec:
        """The spec with every default filled in. Raises UsageError if it is impossible."""
        _check(1 <= self.vcpus <= MAX_VCPUS, f"a VM has 1 to {MAX_VCPUS} vCPUs")
        ids = self.vcpu_ids or tuple(range(self.vcpus))
        filled = replace(self, vcpu_ids=ids, vcpus=len(ids), name=self.name or f"lab-{self.workload}")
        _check(1 <= filled.vms <= MAX_VMS, f"there can be 1 to {MAX_VMS} VMs")
        _check(1 <= len(ids) <= MAX_VCPUS, f"a VM has 1 to {MAX_VCPUS} vCPUs")
        _check(len(set(ids)) == len(ids) and min(ids) >= 0, "vCPU ids must be distinct and not negative")
        _check(filled.count is None or filled.count >= 1, "the count must be at least 1")
        _check(1 <= filled.period_us <= 50_000, "the period must be between 1 and 50,000 µs")
        _check(filled.halt_poll_ns is None or filled.halt_poll_ns >= 0, "the halt-poll limit must not be negative")
        _check("\0" not in filled.name and filled.name != "", "a name must not contain NUL")
        _check(filled.workload != BARE or filled.count is None, f"{BARE} VMs never run, so they have no count")
        if filled.workload in WITHOUT_GUESTS:
            return replace(
                filled, irqchip=filled.irqchip or GuestIrqchip.FULL, pit=filled.pit or GuestPit.OFF
            )._with_pit_checked()
        return filled._fitted(find_workload(filled.workload))

    def _fitted(self, workload: Workload) -> LabSpec:
        filled = replace(self, irqchip=self.irqchip or workload.irqchips[0], pit=self.pit or workload.pits[0])
        _check_choice("irqchip", workload, filled.irqchip, workload.irqchips)
        _check_choice("pit", workload, filled.pit, workload.pits)
        limit = workload.max_vcpus
        _check(limit is None or self.vcpus <= limit, f"{workload.name} works with at most {limit} vCPUs")
        by_message = workload.partner in (Partner.MESSAGE, Partner.MESSAGES_UNASKED)
        _check(
            not by_message or max(self.vcpu_ids) <= _MAX_MESSAGE_APIC_ID,
            f"{workload.name} reaches vCPU ids up to {_MAX_MESSAGE_APIC_ID}",
        )
        first = workload.partner in (Partner.PIC_LINE, Partner.TICKS)
        _check(not first or self.vcpu_ids == (0,), f"{workload.name} needs vCPU 0, to which the PIC is wired")
        return filled._with_pit_checked()

    def _with_pit_checked(self) -> LabSpec:
        _check(self.pit is GuestPit.OFF or self.irqchip is GuestIrqchip.FULL, "a PIT needs the full irqchip")
        return self

    @property
    def target(self) -> int:
        """The count of each vCPU's workload, as a number that fits a register."""
        return _UNTIL_STOPPED if self.count is None else self.count

    @property
    def logs_in_rings(self) -> bool:
        """Whether KVM logs dirty pages in rings."""
        return self.workload not in WITHOUT_GUESTS and find_workload(self.workload).partner is Partner.DIRTY_RING

    def vm_name(self, index: int) -> str:
        return f"{self.name}-{index}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self, dict_factory=_plain)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LabSpec:
        fields = dict(value)
        fields["vcpu_ids"] = tuple(fields["vcpu_ids"])
        fields["irqchip"] = GuestIrqchip(fields["irqchip"])
        fields["pit"] = GuestPit(fields["pit"])
        return cls(**fields)


def parse_ids(text: str) -> tuple[int, ...]:
    """Ids of vCPUs, as ``0,1,5``. Raises ValueError."""
    if not re.fullmatch(r"[0-9]{1,9}(,[0-9]{1,9})*", text):
        raise ValueError(f"{quoted(text)} is not a list of numbers such as 0,1,5")
    return tuple(map(int, text.split(",")))


class VcpuState(Enum):
    """The progress of a vCPU."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def is_still(self) -> bool:
        """Whether its thread is outside KVM_RUN, permanently or until it is resumed."""
        return self is not VcpuState.RUNNING


@dataclass(frozen=True, slots=True)
class VcpuReport:
    """The work of one vCPU: by the guest's own count, and as its VMM saw it.

    ``exits`` counts userspace exits by reason. ``elapsed_s`` is the time from go to now or to the end, None before go.
    """

    id: int
    tid: int
    state: VcpuState
    did: int
    interrupts: int
    exits: Mapping[str, int]
    elapsed_s: float | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class VmReport:
    """One VM, or one churner, with the number of VMs that it created and destroyed in ``churned``.

    ``dirty_pages``: pages that its VMM fetched from KVM's dirty log; None if it has none.
    """

    index: int
    name: str
    pid: int
    vcpus: tuple[VcpuReport, ...]
    churned: int | None = None
    dirty_pages: int | None = None
    error: str | None = None


class RunEnd(Enum):
    """The first event that ended a run."""

    COUNT = "count"
    TIME = "time"
    INTERRUPT = "interrupt"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Report:
    """The work of all VMs of a lab. ``ended_by`` is set by the code that ended the run; None before."""

    workload: str
    count: int | None
    vms: tuple[VmReport, ...]
    ended_by: RunEnd | None = None

    @property
    def errors(self) -> tuple[str, ...]:
        """The errors, one line per VM or vCPU."""
        found = [f"{vm.name}: {vm.error}" for vm in self.vms if vm.error]
        found += [f"{vm.name}/{vcpu.id}: {vcpu.error}" for vm in self.vms for vcpu in vm.vcpus if vcpu.error]
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        return {"format": "kvmscope/1", **asdict(self, dict_factory=_plain)}


def vm_report_from_json(value: Mapping[str, Any]) -> VmReport:
    """The inverse of ``asdict`` on a VmReport."""
    vcpus = tuple(VcpuReport(**{**vcpu, "state": VcpuState(vcpu["state"])}) for vcpu in value["vcpus"])
    return VmReport(**{**value, "vcpus": vcpus})


def vm_report_to_json(report: VmReport) -> dict[str, Any]:
    return asdict(report, dict_factory=_plain)


def _plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value.value if isinstance(value, Enum) else value for key, value in items}


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise UsageError(message)


def _check_choice(what: str, workload: Workload, chosen: Enum | None, choices: tuple[Enum, ...]) -> None:
    if chosen not in choices:
        names = " or ".join(str(choice.value) for choice in choices)
        raise UsageError(f"{workload.name} needs {what} {names}")
