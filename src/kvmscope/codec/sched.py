"""Provider ``sched``: the scheduler's statistics of the threads of a VM, from the records of a snapshot.

The counts of a vCPU are those of the thread that last ran it, as in /proc/PID/task/TID/schedstat; they include all the
thread's work in KVM and in the VMM. The counts of a VM are of all other threads of its process, some of them by name.
The scheduler updates the run time at a tick and when the thread leaves the CPU, and the run-queue wait when the thread
gets a CPU. The layout of the words is in sources/bpf/snapshot.h.
Source: kernel/sched/stats.h (sched_info_arrive), kernel/sched/fair.c (update_curr), kernel/exit.c (__exit_signal),
fs/proc/base.c (proc_pid_schedstat); Documentation/scheduler/sched-stats.rst.
"""

from __future__ import annotations

import numpy as np

from ..sample import Block, I64Array
from ..schema import Descriptor, Kind, Schema, Scope, Unit
from .records import VcpuRecords, VmRecords, words_of_rows
from .snapshot import HAS_SCHED, VCPU_SCHED_WORDS, VM_SCHED_WORDS, Feature

PROVIDER = "sched"


def _times(first: int, *names: str) -> tuple[Descriptor, ...]:
    return tuple(
        Descriptor(name, Kind.CUMULATIVE, Unit.SECONDS, exponent=-9, offset=8 * place)
        for place, name in enumerate(names, first)
    )


# enum vcpu_sched
_VCPU_STATS = (*_times(0, "run_ns", "run_delay_ns"), Descriptor("timeslices", Kind.CUMULATIVE, offset=16))
# enum vm_sched
_VM_STATS = _times(
    0,
    "vmm_run_ns",
    *("main_run_ns", "main_run_delay_ns"),
    *("iothread_run_ns", "iothread_run_delay_ns"),
    *("vhost_run_ns", "vhost_run_delay_ns"),
    *("pit_run_ns", "pit_run_delay_ns"),
)


def vm_schema(features: Feature) -> Schema | None:
    """The VM's stats; None on a kernel that does not keep them."""
    if Feature.SCHED_INFO not in features:
        return None
    return Schema(PROVIDER, Scope.VM, _VM_STATS, 8 * VM_SCHED_WORDS)


def vcpu_schema(features: Feature) -> Schema | None:
    """The vCPU's stats; None on a kernel that does not keep them."""
    if Feature.SCHED_INFO not in features:
        return None
    return Schema(PROVIDER, Scope.VCPU, _VCPU_STATS, 8 * VCPU_SCHED_WORDS)


def rows(records: VmRecords | VcpuRecords) -> I64Array:
    """The subjects that have these stats: VMs that are alone in their process, and vCPUs that have run and whose thread
    still exists."""
    return np.flatnonzero(records.flags & HAS_SCHED)


def block(schema: Schema, records: VmRecords | VcpuRecords, rows: I64Array) -> Block:
    """The stats of the subjects in ``rows``, as chosen by the function ``rows``."""
    return Block(schema, words_of_rows(records.sched, rows), rows)
