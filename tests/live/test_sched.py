"""Provider ``sched`` against other interfaces of the same counts: schedstat of each thread, cpu.stat of a cgroup."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from threads import PERIOD_US, QUOTA_US, enter, quota_group

from kvmscope.lab import process
from kvmscope.lab.kvm import Kvm
from kvmscope.lab.process import Running
from kvmscope.lab.spec import LabSpec
from kvmscope.lab.workloads import GuestPit
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
    with process.start(LabSpec(workload="spin")) as guest, closing(BpfSource()) as source, spinner(cpu):
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
    with process.start(LabSpec(workload="bare")) as guest, closing(BpfSource()) as source:
        guest.wait_for_ready()
        sample = source.read()
        (row,) = (row for row, each in enumerate(sample.vms.pid.tolist()) if each == guest.pid)
        block = sample.block("sched", Scope.VCPU)
        assert block is not None
        assert sample.vcpus_of_vm[row].start not in block.rows


# -- of a VM ---------------------------------------------------------------------------------------------------------


def of_vm(sample: Sample, pid: int, provider: str = "sched") -> Mapping[str, int]:
    """What is counted for the only VM of a process."""
    (row,) = (row for row, each in enumerate(sample.vms.pid.tolist()) if each == pid)
    block = sample.block(provider, Scope.VM)
    assert block is not None
    (place,) = (place for place, each in enumerate(block.rows.tolist()) if each == row)
    return {name: int(block.column(name)[place]) for name in block.schema.names}


@contextmanager
def running(source: BpfSource, spec: LabSpec) -> Iterator[tuple[Running, int]]:
    """A guest whose vCPU runs, and its thread."""
    with process.start(spec) as guest:
        guest.wait_for_ready()
        guest.go()
        deadline = time.monotonic() + 60
        while not (tid := vcpu_tid(source, guest.pid)):
            assert time.monotonic() < deadline, "the guest did not start"
        yield guest, tid


def other_threads(pid: int, vcpu: int) -> Mapping[int, Schedstat]:
    found = {}
    for path in Path(f"/proc/{pid}/task").iterdir():
        if int(path.name) != vcpu:
            found[int(path.name)] = schedstat(pid, int(path.name))
    return found


def test_threads_that_are_no_vcpus_are_counted_without_the_vcpu() -> None:
    with closing(BpfSource()) as source, running(source, LabSpec(workload="spin")) as (guest, tid):
        before = other_threads(guest.pid, tid)
        counted = of_vm(source.read(), guest.pid)
        after = other_threads(guest.pid, tid)
        vcpu_ns = schedstat(guest.pid, tid).run_ns
    assert before.keys() == after.keys()
    low, high = (sum(each.run_ns for each in threads.values()) for threads in (before, after))
    assert low <= counted["vmm_run_ns"] <= high + vcpu_ns // 2, "those that have ended count too, and the vCPU does not"
    assert before[guest.pid].run_ns <= counted["main_run_ns"] <= after[guest.pid].run_ns
    assert before[guest.pid].run_delay_ns <= counted["main_run_delay_ns"] <= after[guest.pid].run_delay_ns


def test_time_of_a_thread_that_ended_stays_with_its_vm() -> None:
    with closing(BpfSource()) as source, Kvm() as kvm, kvm.create_vm():
        before = of_vm(source.read(), os.getpid())["vmm_run_ns"]
        burner = threading.Thread(target=burn, args=(0.1,))
        burner.start()
        burner.join()
        after = of_vm(source.read(), os.getpid())["vmm_run_ns"]
    assert after - before >= 90_000_000


def burn(cpu_s: float) -> None:
    while time.thread_time() < cpu_s:
        pass


def test_threads_named_as_io_threads_and_vhost_workers_are_counted_by_kind() -> None:
    with (
        closing(BpfSource()) as source,
        Kvm() as kvm,
        kvm.create_vm(),
        named_threads("IO iothread0", "vhost-77") as tids,
    ):
        before = [schedstat(os.getpid(), tid) for tid in tids]
        counted = of_vm(source.read(), os.getpid())
        after = [schedstat(os.getpid(), tid) for tid in tids]
    for kind, low, high in zip(("iothread", "vhost"), before, after, strict=True):
        assert 0 < low.run_ns <= counted[f"{kind}_run_ns"] <= high.run_ns
        assert low.run_delay_ns <= counted[f"{kind}_run_delay_ns"] <= high.run_delay_ns


@contextmanager
def named_threads(*names: str) -> Iterator[list[int]]:
    """Threads of this process that have these names and have used some CPU time."""
    may_end, tids = threading.Event(), []

    def live(name: str, is_ready: threading.Event) -> None:
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name, encoding="ascii")
        burn(0.02)
        is_ready.set()
        may_end.wait(60)

    threads = []
    for name in names:
        is_ready = threading.Event()
        threads.append(threading.Thread(target=live, args=(name, is_ready)))
        threads[-1].start()
        assert is_ready.wait(60)
        assert threads[-1].native_id is not None
        tids.append(threads[-1].native_id)
    try:
        yield tids
    finally:
        may_end.set()
        for thread in threads:
            thread.join()


def test_the_kernel_thread_of_a_pit_is_counted_for_its_vm() -> None:
    with closing(BpfSource()) as source, running(source, LabSpec(workload="pit", pit=GuestPit.DISCARD)) as (guest, _):
        (thread,) = (pid for pid in numbers_in_proc() if comm(pid) == f"kvm-pit/{guest.pid}"[:15])
        before = schedstat(thread, thread)
        counted = of_vm(source.read(), guest.pid)
        after = schedstat(thread, thread)
    assert before.run_ns <= counted["pit_run_ns"] <= after.run_ns
    assert before.run_delay_ns <= counted["pit_run_delay_ns"] <= after.run_delay_ns


def numbers_in_proc() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


# -- CPU quotas ------------------------------------------------------------------------------------------------------


def cpu_stat(group: Path) -> Mapping[str, int]:
    """nr_periods, nr_throttled and the time in nanoseconds."""
    found = dict(line.split() for line in (group / "cpu.stat").read_text(encoding="ascii").splitlines())
    stopped_ns = int(found["throttled_time"]) if "throttled_time" in found else 1000 * int(found["throttled_usec"])
    return {
        "nr_periods": int(found["nr_periods"]),
        "nr_throttled": int(found["nr_throttled"]),
        "throttled_ns": stopped_ns,
    }


def test_a_quota_and_how_often_it_stopped_a_vcpu_are_those_of_its_cgroup() -> None:
    with (
        quota_group() as group,
        closing(BpfSource()) as source,
        running(source, LabSpec(workload="spin")) as (guest, _),
    ):
        assert of_vm(source.read(), guest.pid, "cgroup")["quota_set"] == 0
        enter(group, guest.pid)
        deadline = time.monotonic() + 60
        while cpu_stat(group)["nr_throttled"] < 5:
            assert time.monotonic() < deadline, "the quota stopped nobody"
            time.sleep(0.05)
        before = cpu_stat(group)
        counted = of_vm(source.read(), guest.pid, "cgroup")
        after = cpu_stat(group)
    assert counted["quota_set"] == 1
    assert (counted["quota_ns"], counted["period_ns"]) == (1000 * QUOTA_US, 1000 * PERIOD_US)
    for name, low in before.items():
        assert low <= counted[name] <= after[name] + (1000 if name == "throttled_ns" else 0), name


_ENDING_THREADS = """
import sys, threading
from kvmscope.lab.kvm import Kvm
kvm = Kvm()
vm = kvm.create_vm()
print(flush=True)
while not sys.stdin.closed:
    threads = [threading.Thread(target=sum, args=(range(3000),)) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
"""
READS_OF_ENDING_THREADS = 15_000


def test_a_thread_that_ends_while_it_is_read_does_not_count_twice() -> None:
    command = [sys.executable, "-c", _ENDING_THREADS]
    with (
        closing(BpfSource()) as source,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        times = [run_ns for _ in range(READS_OF_ENDING_THREADS) if (run_ns := vmm_run_ns(source, process.pid))]
        process.kill()
    assert len(times) > READS_OF_ENDING_THREADS / 2
    assert times == sorted(times)


def vmm_run_ns(source: BpfSource, pid: int) -> int | None:
    """Of the only VM of a process; None where threads ended in each attempt to read them."""
    sample = source.read()
    (row,) = (row for row, each in enumerate(sample.vms.pid.tolist()) if each == pid)
    block = sample.block("sched", Scope.VM)
    assert block is not None
    places = [place for place, each in enumerate(block.rows.tolist()) if each == row]
    return int(block.column("vmm_run_ns")[places[0]]) if places else None
