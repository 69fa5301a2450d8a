"""Groups userspace, accesses, wakeups and mmu_lock here: what they count is what guests did, by other witnesses.

The witnesses: the lab's VMM counts the returns of its own KVM_RUNs, KVM has a histogram of the halts in which a thread
slept, and the scheduler sums for each thread how long it waited for a CPU.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvmscope.lab import process
from kvmscope.lab.process import Running
from kvmscope.lab.spec import LabSpec, Report
from kvmscope.sample import Sample, U64Array
from kvmscope.schema import Scope
from kvmscope.sources.bpf.groups.kernel import Isa, KernelFacts
from kvmscope.sources.bpf.source import BpfSource

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf", "root"), pytest.mark.usefixtures("favoured")]

END = "resume" if KernelFacts().isa is Isa.UNKNOWN else "entry"


@pytest.fixture
def counting() -> Iterator[Callable[[str], BpfSource]]:
    with contextlib.ExitStack() as stack:
        yield lambda name: stack.enter_context(contextlib.closing(BpfSource(groups=(name,))))


def run(spec: LabSpec, source: BpfSource) -> tuple[Report, Sample]:
    """What guests did from beginning to end, and a sample after it."""
    with process.start(spec) as guests:
        guests.go()
        return guests.wait_for_done(60), source.read()


def column(sample: Sample, report: Report, provider: str, stat: str, scope: Scope = Scope.VCPU) -> U64Array:
    """A stat of the VMs of a report, or of their vCPUs, in their order."""
    block = sample.block(provider, scope)
    assert block is not None
    vms = [row for vm in report.vms for row in range(len(sample.vms)) if sample.vms.pid[row] == vm.pid]
    of_vm = block.rows if scope is Scope.VM else sample.vcpus.vm[block.rows]
    found: U64Array = block.column(stat)[[place for vm in vms for place, row in enumerate(of_vm) if row == vm]]
    return found


# -- userspace -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workload", "reason"), [("pio", "io"), ("mmio", "mmio"), ("kicked", "intr")])
def test_exits_to_the_vmm_are_as_many_as_the_vmm_saw(
    workload: str, reason: str, counting: Callable[[str], BpfSource]
) -> None:
    report, sample = run(LabSpec(workload=workload, vcpus=2, count=300), counting("userspace"))
    for place, vcpu in enumerate(report.vms[0].vcpus):
        counted = {
            name: int(column(sample, report, "userspace", f"userspace_exit_{name}")[place])
            for name in ("io", "mmio", "intr", "hlt", "error", "other")
        }
        assert {name: count for name, count in counted.items() if count} == vcpu.exits
        assert counted[reason] >= 300
        total = sum(vcpu.exits.values())
        assert column(sample, report, "userspace", "userspace_exits")[place] == total
        # The last return is still going on: the thread is parked.
        assert column(sample, report, "userspace", "userspace_hist")[place].sum() == total - 1


def test_time_in_the_vmm_is_that_of_its_reason_and_less_than_all(counting: Callable[[str], BpfSource]) -> None:
    report, sample = run(LabSpec(workload="mmio", count=500), counting("userspace"))
    (vcpu,) = report.vms[0].vcpus
    (total_ns,) = column(sample, report, "userspace", "userspace_ns")
    (mmio_ns,) = column(sample, report, "userspace", "userspace_exit_mmio_ns")
    assert vcpu.elapsed_s is not None
    assert 500 * 1_000 < total_ns < vcpu.elapsed_s * 1e9
    assert mmio_ns == total_ns, "the one exit for another reason is the last"


def test_a_vcpu_that_is_long_away_counts_that_time_for_the_reason(counting: Callable[[str], BpfSource]) -> None:
    """The VMM of `fault` drops memory in each of its exits, which takes far longer than an empty exit."""
    report, sample = run(LabSpec(workload="fault", count=20_000), counting("userspace"))
    (exits,) = column(sample, report, "userspace", "userspace_exit_io")
    (took_ns,) = column(sample, report, "userspace", "userspace_exit_io_ns")
    (histogram,) = column(sample, report, "userspace", "userspace_hist")
    lowest_ns = sum(int(count) << (bucket - 1) for bucket, count in enumerate(histogram) if bucket)
    assert exits == report.vms[0].vcpus[0].exits["io"]
    assert lowest_ns <= took_ns <= 2 * lowest_ns, "each value of a bucket is below twice its lower bound"


def test_an_instruction_that_cannot_be_emulated_is_counted_by_its_suberror(
    counting: Callable[[str], BpfSource],
) -> None:
    report, sample = run(LabSpec(workload="undecodable", vcpus=2, count=300), counting("userspace"))
    for name, count in (("emulation", 300), ("simul_ex", 0), ("delivery_ev", 0), ("other", 0)):
        assert column(sample, report, "userspace", f"internal_error_{name}").tolist() == [count, count]
    assert column(sample, report, "userspace", "entry_failure_other").tolist() == [0, 0]


# -- accesses --------------------------------------------------------------------------------------------------------


def test_accesses_to_a_port_are_as_many_as_the_guest_made(counting: Callable[[str], BpfSource]) -> None:
    report, sample = run(LabSpec(workload="pio", vcpus=2, count=300), counting("accesses"))
    for place, vcpu in enumerate(report.vms[0].vcpus):
        assert column(sample, report, "accesses", "port_other")[place] == vcpu.exits["io"]
    assert column(sample, report, "accesses", "port_serial").tolist() == [0, 0]


def test_ipis_are_counted_as_writes_of_their_msr(counting: Callable[[str], BpfSource]) -> None:
    report, sample = run(LabSpec(workload="ipi", vcpus=2, count=300), counting("accesses"))
    sent = int(column(sample, report, "accesses", "msr_x2apic_icr").sum())
    assert sent >= 300
    assert column(sample, report, "accesses", "msr_x2apic_eoi").sum() == pytest.approx(sent, abs=4)
    assert column(sample, report, "accesses", "msr_tsc_deadline").sum() == 0


# -- wakeups ---------------------------------------------------------------------------------------------------------


def test_wakeups_are_the_halts_that_slept_but_the_first(counting: Callable[[str], BpfSource]) -> None:
    """The first sleep of a thread is not seen where no event comes before it; a sleep that found its interrupt on the
    way, or was left by itself, has no wake-up: few, but some on a machine that is itself a guest."""
    report, sample = run(LabSpec(workload="halt", vcpus=2, count=300, halt_poll_ns=0), counting("wakeups"))
    slept = column(sample, report, "kvm", "halt_wait_hist").sum(axis=1)
    counted = column(sample, report, "wakeups", "wakeups")
    assert (slept > 250).all()
    assert (counted <= slept).all()
    assert (counted >= 0.95 * slept - 1).all()
    assert (column(sample, report, "wakeups", f"wakeup_to_{END}_hist").sum(axis=1) == counted).all()


def test_halts_that_polling_ends_are_no_wakeups(counting: Callable[[str], BpfSource]) -> None:
    """KVM does not poll while something else wants the CPU, so a busy machine gives this little to say."""
    source = counting("wakeups")
    for _ in range(4):
        report, sample = run(LabSpec(workload="halt", count=300, halt_poll_ns=200_000, period_us=50), source)
        slept = int(column(sample, report, "kvm", "halt_wait_hist").sum())
        polled = int(column(sample, report, "kvm", "halt_successful_poll")[0])
        assert int(column(sample, report, "wakeups", "wakeups")[0]) <= slept <= 300 + 8 - polled
        if polled > 10:
            break


def test_what_a_wakeup_takes_is_a_part_of_what_the_guest_was_late(counting: Callable[[str], BpfSource]) -> None:
    """The guest sets its timer anew after each halt, so it runs for its periods and for what it was late each time."""
    report, sample = run(LabSpec(workload="halt", count=500, halt_poll_ns=0, period_us=1000), counting("wakeups"))
    elapsed_s = report.vms[0].vcpus[0].elapsed_s
    assert elapsed_s is not None
    (late_ns,) = column(sample, report, "wakeups", f"wakeup_to_{END}_ns")
    assert 500 * 1_000 < late_ns < elapsed_s * 1e9 - 500 * 1_000_000


def test_a_thread_that_waits_for_its_cpu_has_late_wakeups_by_as_much_as_the_scheduler_says(
    counting: Callable[[str], BpfSource],
) -> None:
    source = counting("wakeups")
    cpu = max(os.sched_getaffinity(0))
    with process.start(LabSpec(workload="halt", halt_poll_ns=0, period_us=3000)) as guests, busy(cpu):
        guests.go()
        tid = thread_of(guests)
        os.sched_setaffinity(tid, {cpu})
        os.sched_setscheduler(tid, os.SCHED_IDLE, os.sched_param(0))
        first, before_ns = source.read(), waited_ns(guests.pid, tid)
        wait_for_late(source, guests, first)
        last, after_ns = source.read(), waited_ns(guests.pid, tid)
        report = guests.report()
    moved = [
        int(column(sample, report, "wakeups", stat)[0])
        for stat in ("wakeups", f"wakeup_to_{END}_ns")
        for sample in (first, last)
    ]
    wakeups, late_ns, scheduler_ns = moved[1] - moved[0], moved[3] - moved[2], after_ns - before_ns
    # How long it waits is the scheduler's choice, but it must be several times what a wakeup takes by itself (5 to
    # 50 µs), or the two figures would agree for another reason.
    assert late_ns / wakeups > 200_000, "it did not have to wait for its CPU"
    # The scheduler also has the waits of a thread that lost its CPU after it was woken, and reads at another moment.
    assert 0.5 * scheduler_ns < late_ns < 1.3 * scheduler_ns


def test_waits_in_kvm_are_those_of_the_scheduler_and_all_of_them_are_behind_somebody(
    counting: Callable[[str], BpfSource],
) -> None:
    source = counting("wakeups")
    cpu = max(os.sched_getaffinity(0))
    with process.start(LabSpec(workload="spin")) as guests, busy(cpu):
        guests.go()
        tid = thread_of(guests)
        os.sched_setaffinity(tid, {cpu})
        deadline = time.monotonic() + 60
        first, before_ns = source.read(), waited_ns(guests.pid, tid)
        while waited_ns(guests.pid, tid) < before_ns + 400_000_000:
            assert time.monotonic() < deadline, "nothing made the guest wait"
            time.sleep(0.05)
        last, after_ns = source.read(), waited_ns(guests.pid, tid)
        report = guests.report()

    def moved(stat: str) -> int:
        return int(column(last, report, "wakeups", stat)[0]) - int(column(first, report, "wakeups", stat)[0])

    # A guest that spins never leaves KVM_RUN; the scheduler is read a moment before and a moment later.
    assert moved("wait_ns") == pytest.approx(after_ns - before_ns, rel=0.05)
    behind = [moved(f"wait_behind_{name}_ns") for name in ("vcpu", "own", "other", "nobody")]
    assert sum(behind) == moved("wait_ns")
    assert behind[2] > 0.5 * moved("wait_ns"), "the process beside it is no vCPU"
    assert moved("waits") > 0


@contextlib.contextmanager
def busy(cpu: int) -> Iterator[None]:
    """A process that takes all of one CPU."""
    pid = os.fork()
    if pid == 0:
        os.sched_setaffinity(0, {cpu})
        os.setpriority(os.PRIO_PROCESS, 0, 0)  # a thread of SCHED_IDLE gets a 340th of the CPU beside it, at least
        while True:
            pass
    try:
        yield
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def thread_of(guests: Running) -> int:
    return guests.report().vms[0].vcpus[0].tid


def waited_ns(pid: int, tid: int) -> int:
    """How long a thread has waited on runqueues (Documentation/scheduler/sched-stats.rst)."""
    return int(Path(f"/proc/{pid}/task/{tid}/schedstat").read_text(encoding="ascii").split()[1])


def wait_for_late(source: BpfSource, guests: Running, first: Sample) -> None:
    report, deadline = guests.report(), time.monotonic() + 30
    before = column(first, report, "wakeups", "wakeups")[0]
    while column(source.read(), report, "wakeups", "wakeups")[0] < before + 60:
        assert time.monotonic() < deadline, "the guest was not woken 60 times"
        time.sleep(0.05)


# -- mmu_lock --------------------------------------------------------------------------------------------------------


def contended(sample: Sample, guests: Report) -> int:
    sides = (
        column(sample, guests, "mmu_lock", f"mmu_lock_{side}_contended", Scope.VM)[0] for side in ("read", "write")
    )
    return int(sum(map(int, sides)))


def contend(guests: Running, source: BpfSource) -> tuple[Report, Sample]:
    """Let two vCPUs fault until they met often; on a busy machine they seldom run at the same time."""
    guests.go()
    report, deadline = guests.report(), time.monotonic() + 40
    while contended(source.read(), report) < 100:
        assert time.monotonic() < deadline, "they hardly ever met"
        time.sleep(0.02)
    guests.stop()
    return guests.wait_for_done(30), source.read()


def test_vcpus_that_fault_at_once_contend_and_a_single_one_does_not(counting: Callable[[str], BpfSource]) -> None:
    source = counting("mmu_lock")
    with process.start(LabSpec(workload="fault", vcpus=2)) as two:
        contend(two, source)
    one, sample = run(LabSpec(workload="fault", vcpus=1, count=50_000), source)
    assert contended(sample, one) == 0


def test_waits_add_up_to_less_than_the_vcpus_had(counting: Callable[[str], BpfSource]) -> None:
    with process.start(LabSpec(workload="fault", vcpus=2)) as guests:
        report, sample = contend(guests, counting("mmu_lock"))
    had_ns = sum(vcpu.elapsed_s or 0 for vcpu in report.vms[0].vcpus) * 1e9
    waited = 0
    for side in ("read", "write"):
        (count,) = column(sample, report, "mmu_lock", f"mmu_lock_{side}_contended", Scope.VM)
        (took_ns,) = column(sample, report, "mmu_lock", f"mmu_lock_{side}_wait_ns", Scope.VM)
        (histogram,) = column(sample, report, "mmu_lock", f"mmu_lock_{side}_wait_hist", Scope.VM)
        assert histogram.sum() == count
        assert took_ns >= sum(int(n) << (bucket - 1) for bucket, n in enumerate(histogram) if bucket)
        waited += int(took_ns)
    assert 0 < waited < had_ns


def test_each_vm_has_its_own_lock(counting: Callable[[str], BpfSource]) -> None:
    source = counting("mmu_lock")
    with (
        process.start(LabSpec(workload="fault", vcpus=1, name="alone")) as alone,
        process.start(LabSpec(workload="fault", vcpus=2, name="crowd")) as crowd,
    ):
        alone.go()
        _, sample = contend(crowd, source)
        single = alone.report()
        assert single.vms[0].vcpus[0].did > 100
        # Its own VMM drops its memory between faults, in the same thread.
        assert contended(sample, single) == 0
