"""What being read does to an idle guest: its first vCPU halted for good in QEMU under KVM, read 1,000 times.

`exits` and `signal_exits` are taken before and after, through BPF in both cases.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

from bench.result import Row
from bench.timing import duration
from kvmscope.collect import Host, open_host
from kvmscope.lab.qemu import Qemu
from kvmscope.sample import Sample
from kvmscope.schema import Scope
from kvmscope.sources.qmp import QmpSource

READS = 1000
VCPUS = 4
STATS = ("exits", "signal_exits")


def bench() -> Sequence[Row]:
    with Qemu(name="bench", vcpus=VCPUS, writes=100) as guest, open_host("bpf") as host:
        guest.wait_for_done()
        path = guest.wait_for_qmp()
        _wait_until_still(host, guest.pid)
        rows = [_row("bpf", *_disturb(host, guest.pid, host.read), must_be_none=True)]
        with QmpSource([path]) as qmp:
            qmp.read()
            _wait_until_still(host, guest.pid)
            rows.append(_row("qmp (`query-stats`)", *_disturb(host, guest.pid, qmp.read), must_be_none=False))
    return rows


def _disturb(host: Host, pid: int, read: Callable[[], Sample]) -> tuple[list[list[int]], list[int]]:
    """How far each of STATS moved on each vCPU over READS reads, and nanoseconds of each read."""
    before = _counters(host, pid)
    taken = []
    for _ in range(READS):
        began = time.perf_counter_ns()
        read()
        taken.append(time.perf_counter_ns() - began)
    after = _counters(host, pid)
    moved = [[b - a for a, b in zip(x, y, strict=True)] for x, y in zip(before, after, strict=True)]
    return moved, taken


def _row(source: str, moved: list[list[int]], taken: list[int], *, must_be_none: bool) -> Row:
    text = "; ".join(f"{name} +{', +'.join(f'{n:,}' for n in by)}" for name, by in zip(STATS, moved, strict=True))
    return Row(
        f"{READS:,} reads through {source}: what {VCPUS} idle vCPUs noticed",
        f"{text}; {duration(median(taken))} a read",
        target="nothing" if must_be_none else "",
        holds=not any(map(any, moved)) if must_be_none else None,
    )


def _counters(host: Host, pid: int) -> list[list[int]]:
    sample = host.read()
    block = sample.block("kvm", Scope.VCPU)
    assert block is not None
    (row,) = [row for row in range(len(sample.vms)) if sample.vms.pid[row] == pid]
    return [block.column(name)[sample.vcpus_of_vm[row]].tolist() for name in STATS]


def _wait_until_still(host: Host, pid: int, *, timeout_s: float = 20) -> None:
    """Until nothing has moved for a while."""
    deadline = time.monotonic() + timeout_s
    seen, since = _counters(host, pid), time.monotonic()
    while time.monotonic() - since < 0.5:
        if time.monotonic() > deadline:
            raise RuntimeError("the guest does not come to rest")
        now = _counters(host, pid)
        if now != seen:
            seen, since = now, time.monotonic()
