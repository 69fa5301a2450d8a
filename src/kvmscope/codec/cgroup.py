"""Provider ``cgroup``: the CPU quotas that a VM's vCPU threads are subject to, from the records of a snapshot.

These are the quotas of each vCPU thread's cgroup and of all its ancestors, in cgroups v1 or v2: the limits of cpu.max
and the counts of cpu.stat. The layout of the words is in sources/bpf/snapshot.h.
Source: kernel/sched/core.c (cpu_cfs_stat_show, tg_set_cfs_bandwidth), kernel/sched/fair.c
(do_sched_cfs_period_timer); Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import numpy as np

from ..sample import Block, I64Array
from ..schema import Descriptor, Kind, Schema, Scope, Unit
from .records import VmRecords, words_of_rows
from .snapshot import HAS_QUOTA, VM_QUOTA_WORDS, Feature

PROVIDER = "cgroup"

# enum vm_quota
_STATS = (
    Descriptor("quota_set", Kind.INSTANT, Unit.BOOLEAN, offset=0),
    Descriptor("quota_ns", Kind.INSTANT, Unit.SECONDS, exponent=-9, offset=8),
    Descriptor("period_ns", Kind.INSTANT, Unit.SECONDS, exponent=-9, offset=16),
    Descriptor("nr_periods", Kind.CUMULATIVE, offset=24),
    Descriptor("nr_throttled", Kind.CUMULATIVE, offset=32),
    Descriptor("throttled_ns", Kind.CUMULATIVE, Unit.SECONDS, exponent=-9, offset=40),
)


def vm_schema(features: Feature) -> Schema | None:
    """The VM's stats; None on a kernel without CPU quotas."""
    return Schema(PROVIDER, Scope.VM, _STATS, 8 * VM_QUOTA_WORDS) if Feature.CPU_QUOTA in features else None


def vm_rows(vms: VmRecords) -> I64Array:
    """The VMs that have these stats: those with a vCPU that has run."""
    return np.flatnonzero(vms.flags & HAS_QUOTA)


def block(schema: Schema, vms: VmRecords, rows: I64Array) -> Block:
    """The stats of the VMs in ``rows``, as chosen by ``vm_rows``."""
    return Block(schema, words_of_rows(vms.quota, rows), rows)
