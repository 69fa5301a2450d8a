"""Provider ``sched`` against the other interface of the same counts: schedstat of each thread in /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.sample import Sample
from kvmscope.schema import Scope
from kvmscope.sources.bpf.source import BpfSource

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf", "root")]

ENOUGH_NS = 400_000_000
"""Wait that the guest is to have: within a second or two beside one spinner."""


class Schedstat(NamedTuple):
    run_ns: int
    run_delay_ns: int
    timeslices: int


def schedstat(pid: int, tid: int) -> Schedstat:
    return Schedstat(*map(int, Path(f"/proc/{pid}/task/{tid}/schedstat").read_text(encoding="ascii").split()))


@contextmanager
def spinner(cpu: int) -> Iterator[None]:
    """A process that uses a CPU all the time."""
    code = f"import os\nos.sched_setaffinity(0, {{{cpu}}})\nprint(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as spinning:
        assert spinning.stdout is not None
        spinning.stdout.readline()
        try:
            yield
        finally:
            spinning.kill()


@contextmanager
def read_by_bpf() -> Iterator[BpfSource]:
    source = BpfSource()
    try:
        yield source
    finally:
        source.close()


def vcpu_of(sample: Sample, pid: int) -> tuple[int, Schedstat]:
    """The thread of a process's only vCPU, and what is counted for it."""
    (row,) = (row for row, each in enumerate(sample.vms.pid.tolist()) if each == pid)
    vcpu = sample.vcpus_of_vm[row].start
    block = sample.block("sched", Scope.VCPU)
    assert block is not None
    (place,) = (place for place, each in enumerate(block.rows.tolist()) if each == vcpu)
    return int(sample.vcpus.tid[vcpu]), Schedstat(*(int(block.column(name)[place]) for name in Schedstat._fields))


def witnessed(source: BpfSource, pid: int, tid: int) -> Schedstat:
    """What is counted for a vCPU, which must lie between what schedstat says before the read and after it."""
    before = schedstat(pid, tid)
    _, counted = vcpu_of(source.read(), pid)
    after = schedstat(pid, tid)
    for name, low, value, high in zip(Schedstat._fields, before, counted, after, strict=True):
        assert low <= value <= high, name
    return counted


def test_a_guest_pinned_beside_a_spinner_shows_the_wait_of_its_schedstat() -> None:
    cpu = max(os.sched_getaffinity(0))
    with process.start(LabSpec(workload="spin")) as guest, read_by_bpf() as source, spinner(cpu):
        guest.wait_for_ready()
        guest.go()
        deadline = time.monotonic() + 60
        while not (tid := vcpu_tid(source, guest.pid)):
            assert time.monotonic() < deadline, "the guest did not start"
        os.sched_setaffinity(tid, {cpu})
        first_seen, first = schedstat(guest.pid, tid), witnessed(source, guest.pid, tid)
        while schedstat(guest.pid, tid).run_delay_ns < first_seen.run_delay_ns + ENOUGH_NS:
            assert time.monotonic() < deadline, "nothing made the guest wait"
            time.sleep(0.05)
        last = witnessed(source, guest.pid, tid)
        last_seen = schedstat(guest.pid, tid)
    waited_ns = last.run_delay_ns - first.run_delay_ns
    assert waited_ns == pytest.approx(last_seen.run_delay_ns - first_seen.run_delay_ns, rel=0.01)
    assert waited_ns >= 0.99 * ENOUGH_NS


def vcpu_tid(source: BpfSource, pid: int) -> int:
    """The thread of a process's only vCPU once it has run, else 0."""
    sample = source.read()
    rows = [row for row, each in enumerate(sample.vms.pid.tolist()) if each == pid]
    return max(0, int(sample.vcpus.tid[sample.vcpus_of_vm[rows[0]].start])) if rows else 0


def test_a_vcpu_that_never_ran_has_no_times() -> None:
    with process.start(LabSpec(workload="bare")) as guest, read_by_bpf() as source:
        guest.wait_for_ready()
        sample = source.read()
        (row,) = (row for row, each in enumerate(sample.vms.pid.tolist()) if each == guest.pid)
        block = sample.block("sched", Scope.VCPU)
        assert block is not None
        assert sample.vcpus_of_vm[row].start not in block.rows
