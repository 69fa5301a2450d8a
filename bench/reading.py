"""One read of a host with 128 VMs and 1,024 vCPUs, beside a C loop of preads over the same VMs' stats fds.

The read goes from the kernel to a finished `Sample` in Python; the C loop ends when the bytes are in memory that it had
before, and finds no VM, names none and checks none. Single calls are timed, one after another, so the memory that each
takes is in its time; the ratio is the median of those of adjacent calls. The iterator alone is the floor of a read: its
file is opened and read, and nothing is made of the records. What is left is Python: columns, blocks, one `Sample`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from statistics import median

from bench.guests import bare_vms
from bench.preads import c_loop
from bench.readers import attached, unprivileged_reader
from bench.result import Row, at_most
from bench.timing import Pairs, Timed, pairs, timed
from kvmscope.collect import open_host
from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.sample import Sample
from kvmscope.sources.bpf.source import BpfSource
from kvmscope.units import format_seconds

VMS, VCPUS_EACH, ROUNDS = 128, 8, 500
SMALL_VMS = 8


def bench() -> Sequence[Row]:
    with bare_vms(SMALL_VMS, VCPUS_EACH) as guests:
        guests.wait_for_ready()
        loop, _ = c_loop(guests.stats_fds().values())
        with open_host("bpf") as host:
            small = pairs(timed(host.read), loop, rounds=ROUNDS, calls=1)
        small_run = _iterator(loop)
    with bare_vms(VMS, VCPUS_EACH) as guests:
        guests.wait_for_ready()
        loop, raw_bytes = c_loop(guests.stats_fds().values())
        with open_host("bpf") as host:
            own = pairs(timed(host.read), loop, rounds=ROUNDS, calls=1)
        own_run = _iterator(loop)
        with attached(), unprivileged_reader() as reader:
            pinned = pairs(reader.read_once, loop, rounds=ROUNDS, calls=1)
    return [
        Row("statistics that both read", f"{raw_bytes / 1024:.0f} KiB"),
        at_most("`Host.read()`, source bpf ÷ C loop", own.ratio, 1.0, note=own.note),
        Row("the iterator alone ÷ C loop", f"{own_run.ratio:.2f} ({own_run.note})"),
        at_most("`Host.read()` with 64 vCPUs ÷ C loop", small.ratio, 2, note=small.note),
        Row("the iterator alone with 64 vCPUs ÷ C loop", f"{small_run.ratio:.2f} ({small_run.note})"),
        at_most("1,024 vCPUs by an unprivileged reader, source pinned ÷ C loop", pinned.ratio, 1.5, note=pinned.note),
        _threads(),
    ]


def _threads() -> Row:
    """What provider sched adds, at most: with guests that never ran there are no threads to read. CPU time, as it is
    measured in two runs, not in turn."""
    never_ran = _read_cpu_s("bare")
    have_run = _read_cpu_s("idle")
    note = f"medians of CPU time {format_seconds(have_run)} and {format_seconds(never_ran)}"
    return at_most(
        "`Host.read()` with threads of 1,024 vCPUs and 128 VMMs ÷ with vCPUs that never ran",
        have_run / never_ran,
        1.3,
        note=note,
    )


def _read_cpu_s(workload: str) -> float:
    """CPU time of one read of guests in a process each."""
    with process.start(LabSpec(workload=workload, vms=VMS, vcpus=VCPUS_EACH)) as guests, open_host("bpf") as host:
        guests.wait_for_ready()
        guests.go()
        while not _all_have_run(host.read(), workload):
            time.sleep(0.1)
        taken = []
        for _ in range(ROUNDS):
            began = time.process_time()
            host.read()
            taken.append(time.process_time() - began)
    return median(taken)


def _all_have_run(sample: Sample, workload: str) -> bool:
    return len(sample.vcpus) == VMS * VCPUS_EACH and (workload == "bare" or bool((sample.vcpus.tid > 0).all()))


def _iterator(loop: Timed) -> Pairs:
    """Runs of the program whose records nobody looks at."""
    with closing(BpfSource()) as source:
        source.read()
        return pairs(timed(source.arena.header), loop, rounds=ROUNDS, calls=1)
