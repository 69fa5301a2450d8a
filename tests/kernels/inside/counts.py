"""Runs inside an emulated kernel: guests as seen by groups that count events, by their VMM and the trace.

The output is one JSON object; what it should be is said in tests/kernels/test_counts.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.sample import Sample
from kvmscope.schema import Scope
from kvmscope.sources.bpf.source import BpfSource

from .arm import ArmVm

TRACE = Path("/sys/kernel/tracing")
_EVENTS = ("sched/sched_waking", "kvm/kvm_vcpu_wakeup", "kvm/kvm_entry")
_WAKING = re.compile(r" ([\d.]+): sched_waking: .* pid=(\d+) ")
_OWN = re.compile(r"-(\d+) +\[\d+\] +\S+ +([\d.]+): (kvm_vcpu_wakeup: wait|kvm_vcpu_wakeup: poll|kvm_entry)")


def stats_of(sample: Sample, pid: int) -> dict[str, Any]:
    """Every stat of these groups that moved, of the VM of a process and as lists over its vCPUs."""
    found: dict[str, Any] = {}
    (vm,) = [row for row in range(len(sample.vms)) if sample.vms.pid[row] == pid]
    for block in sample.blocks:
        if block.schema.provider not in ("userspace", "accesses", "wakeups", "mmu_lock"):
            continue
        of_vm = block.rows if block.schema.scope is Scope.VM else sample.vcpus.vm[block.rows]
        places = [place for place, row in enumerate(of_vm) if row == vm]
        for name in block.schema.names:
            values = block.column(name)[places]
            if values.any() or block.schema.provider == "mmu_lock":
                found[name] = values.tolist()
    return found


@contextlib.contextmanager
def tracing(name: str) -> Iterator[Path]:
    """The events in a trace of their own; the kernel calls who hooks a tracepoint in the order in which they came."""
    place = TRACE / "instances" / name
    place.mkdir()
    (place / "buffer_size_kb").write_text("8192")
    (place / "trace_clock").write_text("mono")
    for event in _EVENTS:
        (place / f"events/{event}/enable").write_text("1")
    try:
        yield place
    finally:
        for event in _EVENTS:
            (place / f"events/{event}/enable").write_text("0")
        place.rmdir()


def wakeups_traced(trace: Path, thread: int) -> list[tuple[int, int]]:
    """When each sleep in a halt was ended and when the guest was entered next, in ns, by the trace alone."""
    found, waking, woken = [], 0, 0
    for line in (trace / "trace").read_text(encoding="ascii", errors="replace").splitlines():
        assert "LOST" not in line
        if (match := _WAKING.search(line)) and int(match[2]) == thread:
            waking = _ns(match[1])
        elif (match := _OWN.search(line)) and int(match[1]) == thread:
            if match[3].startswith("kvm_vcpu_wakeup"):
                woken, waking = waking if match[3].endswith("wait") else 0, 0
            elif woken:
                found.append((woken, _ns(match[2])))
                woken = 0
    return found


def _ns(seconds: str) -> int:
    whole, micros = seconds.split(".")
    return (int(whole) * 10**6 + int(micros)) * 1000


def x86() -> dict[str, Any]:
    """Guests of the lab, in processes of their own."""
    source = BpfSource(groups=("userspace", "accesses", "wakeups", "mmu_lock"))
    answer: dict[str, Any] = {"gaps": [gap.reason for gap in source.read().gaps]}
    for workload, vcpus in (("pio", 2), ("mmio", 1), ("ipi", 2), ("undecodable", 1)):
        with process.start(LabSpec(workload=workload, vcpus=vcpus, count=50)) as guests:
            guests.go()
            report = guests.wait_for_done(120)
            counted = stats_of(source.read(), guests.pid)
            answer[workload] = {"counted": counted, "exits": [vcpu.exits for vcpu in report.vms[0].vcpus]}
    source.close()
    answer["halt"], gaps = halts()
    answer["gaps"] += gaps
    return answer


def halts() -> tuple[dict[str, Any], list[str]]:
    """Wakeups as the group counts them, as KVM does, and between which moments by traces.

    The group's programs run between the probes of two traces: its clock is read after the one's and before the other's.
    """
    spec = LabSpec(workload="halt", count=40, halt_poll_ns=0, period_us=20_000)
    with (
        tracing("before") as before,
        contextlib.closing(BpfSource(groups=("wakeups", "mmu_lock"))) as source,
        tracing("after") as after,
        process.start(spec) as guests,
    ):
        guests.go()
        thread = guests.wait_for_done(120).vms[0].vcpus[0].tid
        sample = source.read()
        kvm = sample.block("kvm", Scope.VCPU)
        assert kvm is not None
        moments = {place.name: wakeups_traced(place, thread) for place in (before, after)}
        counted = {"counted": stats_of(sample, guests.pid), "slept": int(kvm.column("halt_wait_hist").sum())}
    return {**counted, **moments}, [gap.reason for gap in sample.gaps]


def arm64() -> dict[str, Any]:
    """A VM of this process, whose vCPUs do MMIO; its runs are all in this thread."""
    source = BpfSource(groups=("userspace", "wakeups", "mmu_lock"))
    answer: dict[str, Any] = {"gaps": [gap.reason for gap in source.read().gaps]}
    vm = ArmVm(0, 1)
    for vcpu_id, times in ((0, 30), (1, 20), (0, 10)):
        vm.run(vcpu_id, times)
    answer["mmio"] = {"counted": stats_of(source.read(), os.getpid())}
    source.close()
    return answer


if __name__ == "__main__":
    print(json.dumps(x86() if platform.machine() == "x86_64" else arm64()))
