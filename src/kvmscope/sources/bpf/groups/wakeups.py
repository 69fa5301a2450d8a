"""Group ``wakeups``: per vCPU the time from being woken, while halted and asleep, to running its guest again.

That is the scheduling latency that a guest feels. Where KVM does not tell when the guest runs, it is the time to where
KVM goes on with the vCPU, by other names of the stats, and the ones that are missing have a gap.
Programs: wakeups.bpf.c.
"""

from __future__ import annotations

import struct

from ....errors import Unavailable
from ....schema import Descriptor, Kind, Schema, Scope, Unit
from .base import Plan
from .kernel import Isa, KernelFacts

NAME = "wakeups"
_BUCKETS = 32


def plan(kernel: KernelFacts) -> Plan:
    """What to load. Raises Unavailable on a kernel without the tracepoints."""
    tracepoints = ("sched_waking", "kvm_vcpu_wakeup", "kvm_entry", "kvm_userspace_exit")
    there = kernel.has_tracepoints(tracepoints)
    if lacking := {*tracepoints} - {"kvm_entry"} - there:
        raise Unavailable(f"this kernel has no tracepoint {' and no '.join(sorted(lacking))}")
    to_entry = kernel.isa is not Isa.UNKNOWN and "kvm_entry" in there
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
    total, histogram = _timed(end)
    found = (
        Descriptor("wakeups", Kind.CUMULATIVE, offset=0),
        Descriptor(total, Kind.CUMULATIVE, Unit.SECONDS, exponent=-9, offset=8),
        Descriptor(histogram, Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=_BUCKETS, offset=16),
    )
    return Schema(NAME, Scope.VCPU, found, 8 * (2 + _BUCKETS))


def _timed(end: str) -> tuple[str, str]:
    return f"wakeup_to_{end}_ns", f"wakeup_to_{end}_hist"
