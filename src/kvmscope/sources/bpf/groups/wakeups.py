"""Group ``wakeups``: wakeup latency of vCPUs, and the tasks that ran while they waited for a CPU.

Wakeup latency, per vCPU: the time from the wakeup of a halted, sleeping vCPU until it runs its guest again, as the
guest experiences it. If KVM does not report guest entries, it ends where KVM resumes the vCPU; then the stats have
other names, and the missing ones are gaps. Also counted: the time that the vCPU's thread waited for a CPU in KVM_RUN,
by the kind of task that ran, and the processes that it waited for most.
Programs: wakeups.bpf.c.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ....schema import Descriptor, Kind, Schema, Scope, Unit
from .base import TIMED_SIZE, Plan, counted, summed, timed
from .kernel import Isa, KernelFacts

NAME = "wakeups"
RIVALS = 8
"""The number of processes kept per vCPU: those that it waited for most."""
_BEHIND = ("vcpu", "own", "other", "nobody")
"""``enum behind`` of the program."""
_RIVALS_AT = TIMED_SIZE + 8 * (2 + len(_BEHIND))
_RIVAL_SIZE = 8 * 6


def plan(kernel: KernelFacts) -> Plan:
    """What to load. Raises Unavailable on a kernel without the tracepoints."""
    kernel.need_tracepoints("sched_waking", "sched_switch", "kvm_vcpu_wakeup", "kvm_userspace_exit")
    to_entry = kernel.isa is not Isa.UNKNOWN and bool(kernel.has_tracepoints(["kvm_entry"]))
    programs = ("waking", "halt_ends", "leave", "change", *(("entry",) if to_entry else ()))
    why = _NO_ENTRY.format(vendor=kernel.vendor)
    return Plan(
        NAME,
        schema_of("entry" if to_entry else "resume"),
        rows=1,
        programs=dict.fromkeys(programs),
        constants=struct.pack("=II", to_entry, 1),
        missing=() if to_entry else tuple((name, why) for name in _timed("entry")),
        maps={"waiting": (None, _WAITING)},
    )


_WAITING = 32_768
"""The most vCPUs whose waits are tracked, more than a host runs; waits of others are lost. 140 bytes each."""

_NO_ENTRY = (
    "{vendor}, which runs the VMs here, does not report entries into the guest (tracepoint kvm_entry); "
    "wakeup_to_resume_ns and wakeup_to_resume_hist end where KVM resumes the vCPU"
)


def schema_of(end: str) -> Schema:
    """The schema with times until ``end``: entry or resume."""
    time, histogram = _timed(end)
    wakeups = timed(0, "wakeups", time=time, histogram=histogram)
    size = _RIVALS_AT + RIVALS * _RIVAL_SIZE
    return Schema(NAME, Scope.VCPU, (*wakeups, *_waits(), *_rivals()), size)


def _timed(end: str) -> tuple[str, str]:
    return f"wakeup_to_{end}_ns", f"wakeup_to_{end}_hist"


def _waits() -> Iterator[Descriptor]:
    yield counted(TIMED_SIZE, "waits")
    yield summed(TIMED_SIZE + 8, "wait_ns")
    yield from (summed(TIMED_SIZE + 8 * place, f"wait_behind_{name}_ns") for place, name in enumerate(_BEHIND, 2))


def _rivals() -> Iterator[Descriptor]:
    """``struct rival``: process id, name in two words, how often and how long it ran since it took this place.

    The counts go down when another process takes the place.
    """
    for number in range(RIVALS):
        at, stat = _RIVALS_AT + number * _RIVAL_SIZE, f"rival_{number + 1}"
        yield from (
            Descriptor(f"{stat}_{name}", Kind.INSTANT, offset=at + 8 * place)
            for place, name in enumerate(("pid", "name_1", "name_2"))
        )
        yield Descriptor(f"{stat}_count", Kind.INSTANT, offset=at + 24)
        yield Descriptor(f"{stat}_ns", Kind.INSTANT, Unit.SECONDS, exponent=-9, offset=at + 32)
