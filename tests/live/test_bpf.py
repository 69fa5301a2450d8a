"""The BPF source against real guests: agreement with the stats fds of the same VMs, identities, and hard moments."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from kvmscope.codec.statsfile import StatsFile, parse
from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.sample import NOT_KNOWN, Block, Sample, VmId
from kvmscope.schema import Scope
from kvmscope.sources.bpf.source import BpfSource
from kvmscope.sources.statsfd import StatsFdSource

pytestmark = [pytest.mark.needs("kvm", "bpf")]


@pytest.fixture
def source() -> Iterator[BpfSource]:
    opened = BpfSource()
    yield opened
    opened.close()


def rows_of(sample: Sample, pid: int) -> list[int]:
    return [row for row in range(len(sample.vms)) if sample.vms.pid[row] == pid]


def wait_until(holds: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.005)


def read_file(fd: int) -> StatsFile:
    return parse(os.pread(fd, 1 << 20, 0))


def as_stats(sample: Sample, scope: Scope, row: int) -> dict[str, list[int]]:
    block = sample.block("kvm", scope)
    assert block is not None
    return {name: np.atleast_1d(block.column(name)[row]).tolist() for name in block.schema.names}


def as_read(file: StatsFile) -> dict[str, list[int]]:
    names = (descriptor.name for descriptor in file.description.descriptors)
    return {name: np.atleast_1d(np.array(file[name], dtype=np.uint64)).tolist() for name in names}


@pytest.mark.parametrize("workload", ["pio", "mmio", "halt", "msi"])
def test_every_stat_of_every_vcpu_is_that_of_its_stats_fd(source: BpfSource, workload: str) -> None:
    with process.start(LabSpec(workload=workload, vms=2, vcpus=2, count=200)) as guests:
        guests.go()
        guests.wait_for_done(60)
        fds = guests.stats_fds()
        sample = source.read()
        for index, pid in enumerate(guests.pids):
            (row,) = rows_of(sample, pid)
            assert as_stats(sample, Scope.VM, row) == as_read(read_file(fds[index, None]))
            for vcpu_row in range(*sample.vcpus_of_vm[row].indices(len(sample.vcpus))):
                vcpu_id = int(sample.vcpus.id[vcpu_row])
                assert as_stats(sample, Scope.VCPU, vcpu_row) == as_read(read_file(fds[index, vcpu_id]))
    block = sample.block("kvm", Scope.VCPU)
    assert block is not None
    assert block.column("exits").any(), "guests that ran must have left something to compare"


def test_the_bpf_source_and_the_statsfd_source_give_the_same_blocks(source: BpfSource) -> None:
    with process.start(LabSpec(workload="pio", vcpus=3, count=100, hold_stats_fds=True)) as guests:
        guests.go()
        guests.wait_for_done(60)
        other = StatsFdSource()
        try:
            ours, theirs = source.read(), other.read()
        finally:
            other.close()
        for scope in Scope:
            left, right = ours.block("kvm", scope), theirs.block("kvm", scope)
            assert left is not None
            assert right is not None
            assert left.schema == right.schema
            assert values_of(ours, left, guests.pid) == values_of(theirs, right, guests.pid)


def values_of(sample: Sample, block: Block, pid: int) -> list[list[int]]:
    """All words of a process's subjects; a source that cannot see others has no rows for them."""
    (vm,) = rows_of(sample, pid)
    owner = np.arange(len(sample.vms)) if block.schema.scope is Scope.VM else sample.vcpus.vm
    values: list[list[int]] = block.values[owner[block.rows] == vm].tolist()
    assert values
    return values


def test_vms_of_one_process_come_in_order_of_creation_with_ids_of_their_own(source: BpfSource) -> None:
    before = time.time_ns()
    with process.start(LabSpec(workload="bare", vms=5, vcpus=3, one_process=True)) as guests:
        guests.wait_for_ready()
        sample = source.read()
        rows = rows_of(sample, guests.pid)
        assert len(rows) == 5
        assert len({int(sample.vms.id[row]) for row in rows}) == 5
        created = [int(sample.vms.created_ns[row]) for row in rows]
        assert created == sorted(created)
        assert before - 10**9 < created[0] <= time.time_ns()
        assert [sample.vcpus.id[sample.vcpus_of_vm[row]].tolist() for row in rows] == [[0, 1, 2]] * 5
        again = source.read()
        assert [int(again.vms.id[row]) for row in rows_of(again, guests.pid)] == [int(sample.vms.id[r]) for r in rows]


def test_a_vcpu_has_the_thread_that_runs_it_and_none_before_it_ran(source: BpfSource) -> None:
    with process.start(LabSpec(workload="spin", vcpus=2)) as guests:
        guests.wait_for_ready()
        sample = source.read()
        (row,) = rows_of(sample, guests.pid)
        assert sample.vcpus.tid[sample.vcpus_of_vm[row]].tolist() == [NOT_KNOWN, NOT_KNOWN]
        guests.go()

        def tids() -> list[int]:
            now = source.read()
            return [int(tid) for tid in now.vcpus.tid[now.vcpus_of_vm[rows_of(now, guests.pid)[0]]]]

        wait_until(lambda: NOT_KNOWN not in tids())
        threads = {int(name) for name in os.listdir(f"/proc/{guests.pid}/task")}  # noqa: PTH208
        assert len(set(tids())) == 2
        assert set(tids()) <= threads


def test_vcpu_ids_are_those_that_the_vmm_gave(source: BpfSource) -> None:
    with process.start(LabSpec(workload="bare", vcpu_ids=(7, 0, 200), vcpus=3)) as guests:
        guests.wait_for_ready()
        sample = source.read()
        (row,) = rows_of(sample, guests.pid)
        assert sample.vcpus.id[sample.vcpus_of_vm[row]].tolist() == [7, 0, 200]


@pytest.mark.parametrize("vcpus", [1, 63, 64, 65, 130])
def test_every_shape_of_the_vcpu_array_is_walked(source: BpfSource, vcpus: int) -> None:
    with process.start(LabSpec(workload="bare", vcpus=vcpus)) as guests:
        guests.wait_for_ready()
        sample = source.read()
        (row,) = rows_of(sample, guests.pid)
        assert sample.vcpus.id[sample.vcpus_of_vm[row]].tolist() == list(range(vcpus))


def test_a_host_that_outgrows_the_arrays_is_read_whole(source: BpfSource) -> None:
    with process.start(LabSpec(workload="bare", vms=600, vcpus=4, one_process=True)) as guests:
        guests.wait_for_ready()
        sample = source.read()
        assert len(rows_of(sample, guests.pid)) == 600
        assert sum(len(range(*sample.vcpus_of_vm[r].indices(9999))) for r in rows_of(sample, guests.pid)) == 2400


def test_a_child_that_shares_the_address_space_does_not_count_its_parents_vm_again(source: BpfSource) -> None:
    with process.start(LabSpec(workload="bare")) as guests:
        guests.wait_for_ready()
        with vfork_window_in_a_vmm() as pid:
            assert len(rows_of(source.read(), pid)) == 1
            total = source.read()
            ids = total.vms.id.tolist()
            assert len(ids) == len(set(ids))


VFORK_VMM = """
import ctypes, fcntl, os, sys
kvm = os.open("/dev/kvm", os.O_RDWR)
vm = fcntl.ioctl(kvm, 0xAE01, 0)
libc = ctypes.CDLL(None)
# A child by clone(CLONE_VM | SIGCHLD) that only sleeps: the state of a VMM between vfork() and exec().
stack = ctypes.create_string_buffer(1 << 20)
@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
def child(_):
    return 0
top = ctypes.c_void_p((ctypes.addressof(stack) + (1 << 20)) & ~15)
pause = ctypes.cast(libc.pause, ctypes.c_void_p)
pid = libc.clone(pause, top, 0x100 | 17, None)
print(pid, flush=True)
sys.stdin.read()
os.kill(pid, 9)
os.waitpid(pid, 0)
"""


@contextlib.contextmanager
def vfork_window_in_a_vmm() -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", VFORK_VMM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as vmm:
        assert vmm.stdin is not None
        assert vmm.stdout is not None
        assert int(vmm.stdout.readline()) > 0
        yield vmm.pid
        vmm.stdin.close()


LEADERLESS_VMM = """
import ctypes, fcntl, os, sys, threading
kvm = os.open("/dev/kvm", os.O_RDWR)
vm = fcntl.ioctl(kvm, 0xAE01, 0)
def rest():
    print("up", flush=True)
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=rest).start()
ctypes.CDLL(None).syscall(60, 0)  # exit(2) of the first thread alone
"""


def test_a_vmm_whose_first_thread_has_ended_is_still_seen(source: BpfSource) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LEADERLESS_VMM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as vmm:
        assert vmm.stdout is not None
        vmm.stdout.readline()

        def first_thread_is_gone() -> bool:
            with open(f"/proc/{vmm.pid}/stat", encoding="ascii") as stat:  # noqa: PTH123
                return stat.read().split()[2] == "Z"

        wait_until(first_thread_is_gone)
        assert len(rows_of(source.read(), vmm.pid)) == 1


def test_a_vm_that_another_process_holds_too_counts_once(source: BpfSource) -> None:
    with process.start(LabSpec(workload="bare", vcpus=2)) as guests:
        guests.wait_for_ready()
        held = guests.stats_fds()  # now this process holds files of the VM as well
        sample = source.read()
        assert len(held) == 3
        assert len(rows_of(sample, guests.pid)) == 1
        assert not rows_of(sample, os.getpid())


def test_a_killed_vmm_is_gone_at_the_next_read(source: BpfSource) -> None:
    with process.start(LabSpec(workload="spin")) as guests:
        guests.go()
        assert rows_of(source.read(), guests.pid)
        os.kill(guests.pid, signal.SIGKILL)
        guests.kill()  # waits for the end
        assert not rows_of(source.read(), guests.pid)


def test_a_pid_is_the_one_that_the_reader_sees(source: BpfSource) -> None:
    with process.start(LabSpec(workload="bare")) as guests:
        guests.wait_for_ready()
        inside = (
            "from kvmscope.sources.bpf.source import BpfSource\n"
            "s = BpfSource(); x = s.read(); print(len(x.vms), sorted(set(x.vms.pid.tolist()))); s.close()"
        )
        command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", inside]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        count, _, pids = done.stdout.partition(" ")
        assert int(count) >= 1
        assert pids.strip() == "[-1]", "a VMM outside of the reader's pid namespace has no number in it"


def test_reading_does_not_disturb_an_idle_guest(source: BpfSource) -> None:
    with process.start(LabSpec(workload="idle", vcpus=2)) as guests:
        guests.go()

        def counters() -> tuple[list[int], list[int]]:
            sample = source.read()
            block = sample.block("kvm", Scope.VCPU)
            assert block is not None
            mine = sample.vcpus_of_vm[rows_of(sample, guests.pid)[0]]
            return block.column("exits")[mine].tolist(), block.column("signal_exits")[mine].tolist()

        wait_until(lambda: min(counters()[0]) > 0)
        halted: list[int] = []
        while halted != (halted := counters()[0]):  # until both are halted for good
            time.sleep(0.05)
        before = counters()
        for _ in range(1000):
            source.read()
        assert counters() == before


@pytest.mark.slow
def open_fds() -> Counter[str]:
    """What this process has open, each by its link, which names one object: what else runs in it may close its own."""
    found = Counter[str]()
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found[str(fd.readlink())] += 1
    return found


def test_no_number_strays_while_vms_come_and_go(source: BpfSource) -> None:
    """5,000 VMs, each marked by how many vCPUs it has and by which ids, while sampling without pause."""
    fds_before = open_fds()
    seen: set[VmId] = set()
    samples = 0
    # Several at a time, since whoever ends a VM mostly waits for grace periods.
    with process.start(LabSpec(workload="churn", vcpus=3, vms=8, count=625)) as guests:
        guests.go()
        while not guests.wait_for_end(0):
            sample = source.read()
            samples += 1
            for row in (row for pid in guests.pids for row in rows_of(sample, pid)):
                ids = sample.vcpus.id[sample.vcpus_of_vm[row]].tolist()
                assert ids == list(range(len(ids))), "vCPUs of a VM that is being set up or torn down"
                assert len(ids) <= 3
                seen.add(sample.vms.vm_id(row))
        block = source.read().block("kvm", Scope.VCPU)
        assert block is not None
    assert samples > 100
    assert len(seen) > 100
    assert open_fds() - fds_before == Counter(), "left open"


@pytest.mark.slow
def test_a_burst_of_vms_is_read_as_it_comes_and_never_ends_a_reader() -> None:
    """1,500 VMs that one process makes as fast as it can, while one reader reads on and others open in between."""
    with (
        contextlib.closing(BpfSource()) as source,
        process.start(LabSpec(workload="bare", vms=1500, vcpus=2, one_process=True)) as guests,
    ):
        counts = [0]
        while counts[-1] < 1500:
            counts.append(len(rows_of(source.read(), guests.pid)))
            with contextlib.closing(BpfSource()) as another:
                counts.append(len(rows_of(another.read(), guests.pid)))
        assert counts == sorted(counts)
        guests.wait_for_ready()


def test_two_readers_at_once_each_get_whole_samples() -> None:
    with process.start(LabSpec(workload="bare", vms=20, vcpus=4, one_process=True)) as guests:
        guests.wait_for_ready()
        seen: set[int] = set()

        def read_often() -> None:
            own = BpfSource()
            seen.update(len(rows_of(own.read(), guests.pid)) for _ in range(200))
            own.close()

        threads = [threading.Thread(target=read_often) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == {20}


def test_nothing_is_left_loaded_after_close() -> None:
    def programs() -> int:
        libbpf = ctypes.CDLL("libbpf.so.1")
        number, count = ctypes.c_uint32(0), 0
        while libbpf.bpf_prog_get_next_id(number, ctypes.byref(number)) == 0:
            count += 1
        return count

    before = programs()
    opened = BpfSource()
    assert programs() > before
    opened.close()
    wait_until(lambda: programs() == before)
