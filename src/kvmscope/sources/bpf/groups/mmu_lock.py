"""Group ``mmu_lock``: per VM how often and for how long threads had to wait for its mmu_lock, separately for readers
and writers.

Waits of all threads count: of vCPUs, of the VMM's other threads, and of kernel threads.
Programs: mmu_lock.bpf.c.
"""

from __future__ import annotations

from ....errors import Unavailable
from ....schema import Schema, Scope
from .base import TIMED_SIZE, Plan, timed
from .kernel import KernelFacts

NAME = "mmu_lock"
_HAS_RWLOCK = frozenset({"x86_64", "aarch64"})
"""Architectures whose mmu_lock is an rwlock in every kernel that has the tracepoints; other locks may be unreported."""


def plan(kernel: KernelFacts) -> Plan:
    """What to load. Raises Unavailable on a kernel without the tracepoints."""
    if kernel.machine not in _HAS_RWLOCK:
        raise Unavailable(
            f"the kernel does not report waits for every kind of lock that KVM's mmu_lock may be on {kernel.machine}"
        )
    kernel.need_tracepoints("contention_begin", "contention_end", since="Linux 5.19")
    return Plan(NAME, schema(), rows=1, programs=dict.fromkeys(("begin", "end")))


def schema() -> Schema:
    """The stats of readers, then those of writers."""
    found = [
        descriptor
        for at, side in ((0, "mmu_lock_read"), (TIMED_SIZE, "mmu_lock_write"))
        for descriptor in timed(at, f"{side}_contended", time=f"{side}_wait_ns", histogram=f"{side}_wait_hist")
    ]
    return Schema(NAME, Scope.VM, tuple(found), 2 * TIMED_SIZE)
