"""Provider ``sched``: what the scheduler keeps of the threads behind a VM, from the records of a snapshot.

The counts of a vCPU are those of the thread that last ran it, as in /proc/PID/task/TID/schedstat; they include all that
the thread did in KVM and in the VMM. The scheduler updates the run time at a tick and when the thread leaves the CPU,
and the run-queue wait when the thread gets a CPU. The words are laid out in sources/bpf/snapshot.h.
Source: kernel/sched/stats.h (sched_info_arrive), kernel/sched/fair.c (update_curr), fs/proc/base.c
(proc_pid_schedstat); Documentation/scheduler/sched-stats.rst.
"""

from __future__ import annotations

import numpy as np

from ..sample import Block, I64Array
from ..schema import Descriptor, Kind, Schema, Scope, Unit
from .snapshot import HAS_SCHED, VCPU_SCHED_WORDS, Feature, VcpuRecords

PROVIDER = "sched"

# enum vcpu_sched
_VCPU_STATS = (
    Descriptor("run_ns", Kind.CUMULATIVE, Unit.SECONDS, exponent=-9, offset=0),
    Descriptor("run_delay_ns", Kind.CUMULATIVE, Unit.SECONDS, exponent=-9, offset=8),
    Descriptor("timeslices", Kind.CUMULATIVE, offset=16),
)


def vcpu_schema(features: Feature) -> Schema | None:
    """The vCPU's stats; None on a kernel that does not keep them."""
    if Feature.SCHED_INFO not in features:
        return None
    return Schema(PROVIDER, Scope.VCPU, _VCPU_STATS, 8 * VCPU_SCHED_WORDS)


def vcpu_rows(vcpus: VcpuRecords) -> I64Array:
    """Which vCPUs have these stats: those that have run, and whose thread is still there."""
    return np.flatnonzero(vcpus.flags & HAS_SCHED)


def block(schema: Schema, vcpus: VcpuRecords, rows: I64Array) -> Block:
    """The stats of the vCPUs in ``rows``, as ``vcpu_rows`` has chosen them."""
    return Block(schema, vcpus.sched if len(rows) == len(vcpus) else vcpus.sched[rows], rows)
