"""Group ``mmu_lock``: per VM how often somebody had to wait for its mmu_lock and how long, readers and writers apart.

Waiting counts in whatever thread it happens: a vCPU's, another of the VMM's, one of the kernel's.
Programs: mmu_lock.bpf.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from ....errors import Unavailable
from ....schema import Descriptor, Kind, Schema, Scope, Unit
from .base import Plan
from .kernel import KernelFacts

NAME = "mmu_lock"
_BUCKETS = 32
_SIDE_SIZE = 8 * (2 + _BUCKETS)
_HAS_RWLOCK = frozenset({"x86_64", "aarch64"})
"""Where mmu_lock is an rwlock in every kernel that has the tracepoints; those tell of no other lock as surely."""


def plan(kernel: KernelFacts) -> Plan:
    """What to load. Raises Unavailable on a kernel without the tracepoints."""
    if kernel.machine not in _HAS_RWLOCK:
        raise Unavailable(
            f"KVM's mmu_lock on {kernel.machine} may be of a kind whose waiters the kernel tells nobody of"
        )
    tracepoints = ("contention_begin", "contention_end")
    if lacking := set(tracepoints) - kernel.has_tracepoints(tracepoints):
        raise Unavailable(
            f"this kernel has no tracepoint {' and no '.join(sorted(lacking))}, which came with Linux 5.19"
        )
    return Plan(NAME, schema(), rows=1, programs=dict.fromkeys(("begin", "end")))


def schema() -> Schema:
    """The stats of readers, then those of writers."""
    found = [each for place, side in enumerate(("read", "write")) for each in _descriptors(place * _SIDE_SIZE, side)]
    return Schema(NAME, Scope.VM, tuple(found), 2 * _SIDE_SIZE)


def _descriptors(at: int, side: str) -> Iterator[Descriptor]:
    wait = f"mmu_lock_{side}_wait"
    yield Descriptor(f"mmu_lock_{side}_contended", Kind.CUMULATIVE, offset=at)
    yield Descriptor(f"{wait}_ns", Kind.CUMULATIVE, Unit.SECONDS, exponent=-9, offset=at + 8)
    yield Descriptor(f"{wait}_hist", Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=_BUCKETS, offset=at + 16)
