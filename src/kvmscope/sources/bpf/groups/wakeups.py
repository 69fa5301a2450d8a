"""Group ``wakeups``: per vCPU the time from being woken, while halted and asleep, to running its guest again.

That is the scheduling latency that a guest feels. Where KVM does not tell when the guest runs, it is the time to where
KVM goes on with the vCPU, by other names of the stats, and the ones that are missing have a gap.
Programs: wakeups.bpf.c.
"""

from __future__ import annotations

import struct

from ....schema import Schema, Scope
from .base import TIMED_SIZE, Plan, timed
from .kernel import Isa, KernelFacts

NAME = "wakeups"


def plan(kernel: KernelFacts) -> Plan:
    """What to load. Raises Unavailable on a kernel without the tracepoints."""
    kernel.need_tracepoints("sched_waking", "kvm_vcpu_wakeup", "kvm_userspace_exit")
    to_entry = kernel.isa is not Isa.UNKNOWN and bool(kernel.has_tracepoints(["kvm_entry"]))
    programs = ("waking", "halt_ends", "leave", *(("entry",) if to_entry else ()))
    why = _NO_ENTRY.format(vendor=kernel.vendor)
    return Plan(
        NAME,
        schema_of("entry" if to_entry else "resume"),
        rows=1,
        programs=dict.fromkeys(programs),
        constants=struct.pack("=II", to_entry, 0),
        missing=() if to_entry else tuple((name, why) for name in _timed("entry")),
    )


_NO_ENTRY = (
    "{vendor}, which runs the VMs here, does not tell when a guest is entered (tracepoint kvm_entry); "
    "wakeup_to_resume_ns and wakeup_to_resume_hist end where KVM goes on with the vCPU"
)


def schema_of(end: str) -> Schema:
    """With times to ``end``: entry or resume."""
    time, histogram = _timed(end)
    return Schema(NAME, Scope.VCPU, timed(0, "wakeups", time=time, histogram=histogram), TIMED_SIZE)


def _timed(end: str) -> tuple[str, str]:
    return f"wakeup_to_{end}_ns", f"wakeup_to_{end}_hist"
