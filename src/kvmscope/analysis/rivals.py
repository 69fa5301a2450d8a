"""Which processes ran while the vCPUs of a VM waited for a CPU, from counts of the kernel per vCPU.

Each vCPU has a few places for the processes that it waited for most: process id, name, and how long they ran while it
waited. A process that takes over a place begins at 0 there.
Pure. Source: ``struct rival`` of sources/bpf/groups/wakeups.bpf.c.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..sample import Block, Sample, VmId
from ..schema import Scope
from .window import Window

_WAIT: Final = "wait_ns"
_FIRST: Final = "rival_1_pid"
_PLACES: Final = 16
"""An upper bound on the number of places of a vCPU."""
_SHOWN: Final = 5
_LEAST_SHARE: Final = 0.01
"""As a share of the wait: a process that ran less is not the reason why vCPUs waited."""


@dataclass(frozen=True, slots=True)
class Rival:
    """A process that ran while vCPUs of a VM waited.

    ``pid``: in the initial pid namespace. ``name``: of its task that ran last, at most 15 bytes; untrusted text.
    ``vcpus``: seconds per second that it ran, summed over all waiting vCPUs. ``share``: of their total wait.
    """

    pid: int
    name: str
    count: int
    vcpus: float
    share: float


@dataclass(slots=True)
class _Ran:
    name: str
    count: int
    ns: int


def rivals(window: Window, vm_row: int) -> Sequence[Rival]:
    """The processes that a VM's vCPUs waited for most in the window, each for at least a hundredth of the wait, the
    longest first; empty if waits are not counted."""
    vm = window.current.vms.vm_id(vm_row)
    before = _by_vcpu(window.previous, vm)
    total: dict[int, _Ran] = {}
    for vcpu, ran in _by_vcpu(window.current, vm).items():
        if vcpu not in before:
            continue
        for pid, now in ran.items():
            then = before[vcpu].get(pid, _Ran("", 0, 0))
            if now.ns < then.ns:
                then = _Ran("", 0, 0)  # it lost its place and got another one
            found = total.setdefault(pid, _Ran(now.name, 0, 0))
            found.count += now.count - then.count
            found.ns += now.ns - then.ns
    wait_ns = max(_wait_ns(window, vm_row), sum(ran.ns for ran in total.values()))
    least_ns = max(_LEAST_SHARE * wait_ns, 1)
    ranked = sorted((pid for pid in total if total[pid].ns >= least_ns), key=lambda pid: -total[pid].ns)[:_SHOWN]
    return [_rival(pid, total[pid], window.interval_s * 1e9, wait_ns) for pid in ranked]


def _rival(pid: int, ran: _Ran, length_ns: float, wait_ns: float) -> Rival:
    return Rival(pid, ran.name, ran.count, ran.ns / length_ns, ran.ns / wait_ns)


def _wait_ns(window: Window, vm_row: int) -> float:
    """The time that the VM's vCPUs waited in the window, including for processes that have no place."""
    rows = window.current.vcpus_of_vm[vm_row]
    providers = {block.schema.provider for block in _counting(window.current)}
    return sum(float(np.nansum(window.delta(each, Scope.VCPU, _WAIT)[rows])) for each in providers)


def _counting(sample: Sample) -> Iterator[Block]:
    """The blocks that have the places of vCPUs."""
    return (block for block in sample.blocks_of(Scope.VCPU) if _FIRST in block.schema.names)


def _by_vcpu(sample: Sample, vm: VmId) -> Mapping[int, Mapping[int, _Ran]]:
    """For each vCPU id of a VM, how long each process ran; empty if the VM is not in the sample."""
    vm_row = sample.vms.row_of.get(vm)
    if vm_row is None:
        return {}
    rows = sample.vcpus_of_vm[vm_row]
    found: dict[int, Mapping[int, _Ran]] = {}
    for block in _counting(sample):
        for place in np.flatnonzero((block.rows >= rows.start) & (block.rows < rows.stop)).tolist():
            found[int(sample.vcpus.id[block.rows[place]])] = dict(_ran(block, place))
    return found


def _ran(block: Block, place: int) -> Iterator[tuple[int, _Ran]]:
    for number in range(1, _PLACES):
        stat = f"rival_{number}"
        if f"{stat}_pid" not in block.schema.names:
            return
        pid, *name, count, ns = (
            int(block.column(f"{stat}_{word}")[place]) for word in ("pid", "name_1", "name_2", "count", "ns")
        )
        if pid:
            yield pid, _Ran(_text(name), count, ns)


def _text(words: Sequence[int]) -> str:
    """A task name of the kernel, 16 bytes with a NUL at the end, from words in native byte order."""
    data = np.array(words, dtype=np.uint64).tobytes()
    return data.partition(b"\0")[0].decode("utf-8", "backslashreplace")
