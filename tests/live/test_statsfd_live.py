"""Stats fds of real VMs: right numbers, right VM, and nothing held of a VM that is gone.

Guests of the lab hold their stats fds open as QEMU does from 8.1 on. ``VmmInterpreter`` below is for what they do not
do: close a VM and live on, fork, exec, hold what is another's.
"""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kvmscope.codec.statsfile import parse
from kvmscope.errors import SourceError, UsageError
from kvmscope.lab.process import Running, start
from kvmscope.lab.spec import LabSpec
from kvmscope.sample import Sample, VmId
from kvmscope.schema import Scope
from kvmscope.sources.statsfd import StatsFdSource, receive

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm")]

COUNT = 500

_VMM = """
import fcntl, os, signal, sys
from kvmscope.linux.pidfd import duplicate_fd, open_pidfd
KVM_CREATE_VM, KVM_CREATE_VCPU, KVM_GET_STATS_FD = 0xAE01, 0xAE41, 0xAECE
kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
vms = {}

def make(name, vcpus=1, stats=1):
    vm = fcntl.ioctl(kvm, KVM_CREATE_VM)
    ids = [fcntl.ioctl(vm, KVM_CREATE_VCPU, n) for n in range(vcpus)]
    vms[name] = [vm, *ids]
    vms[name] += [fcntl.ioctl(fd, KVM_GET_STATS_FD) for fd in [vm, *ids] for _ in range(stats)]
    return vms[name]

def close(name):
    for fd in reversed(vms.pop(name)):
        os.close(fd)

def fork():
    pid = os.fork()
    if pid == 0:
        signal.pause()
    return pid

def take(pid, fd):
    return duplicate_fd(open_pidfd(pid), fd)

for line in sys.stdin:
    print(repr(eval(line)), flush=True)
"""


class VmmInterpreter:
    """A process that makes and closes VMs as told. Its vCPUs never run: all their statistics are 0."""

    def __init__(self, *before: str) -> None:
        command = [*before, sys.executable, "-c", _VMM]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid

    def do(self, expression: str) -> str:
        """Evaluate one of its functions there; the result as Python writes it."""
        self.tell(expression)
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def tell(self, expression: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        with self.process:
            self.process.wait()


@pytest.fixture
def new_vmm() -> Iterator[Callable[..., VmmInterpreter]]:
    """Starts VMMs; what it is given stands before the command."""
    vmms: list[VmmInterpreter] = []

    def make(*before: str) -> VmmInterpreter:
        vmms.append(VmmInterpreter(*before))
        return vmms[-1]

    yield make
    for vmm in vmms:
        vmm.kill()


@pytest.fixture
def vmm(new_vmm: Callable[..., VmmInterpreter]) -> VmmInterpreter:
    return new_vmm()


@pytest.fixture
def source() -> Iterator[StatsFdSource]:
    with StatsFdSource(rescan_every=1) as source:
        yield source


def vms_of(sample: Sample, *pids: int) -> list[VmId]:
    """This host may have other VMs than ours."""
    return [sample.vms.vm_id(row) for row, pid in enumerate(sample.vms.pid) if pid in pids]


def vcpus_of(sample: Sample, vm: VmId) -> list[int]:
    row = sample.vms.id.tolist().index(vm.value)
    return [int(n) for n in sample.vcpus.id[sample.vcpus_of_vm[row]]]


def vcpus_with_stats(sample: Sample, vm: VmId) -> list[int]:
    row = sample.vms.id.tolist().index(vm.value)
    block = sample.block("kvm", Scope.VCPU)
    rows = [] if block is None else block.rows.tolist()
    return [int(sample.vcpus.id[i]) for i in rows if sample.vcpus.vm[i] == row]


def reasons(sample: Sample, vm: VmId) -> str:
    return "\n".join(gap.reason for gap in sample.gaps if gap.vm == vm)


def own_stats_fds(pid: int) -> list[str]:
    """The stats files that this process holds of VMs and vCPUs that ``pid`` made, by their id strings."""
    ids = []
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            if re.fullmatch("anon_inode:kvm-(vm-stats|vcpu-stats:[0-9]+)", str(path.readlink())):
                ids.append(os.pread(int(path.name), 48, 24).rstrip(b"\0").decode())
    return sorted(name for name in ids if name.partition("/")[0] == f"kvm-{pid}")


def pidfds_of(pid: int) -> int:
    """How many pidfds of that process this one holds."""
    count = 0
    for path in Path("/proc/self/fdinfo").iterdir():
        with suppress(FileNotFoundError):
            count += bool(re.search(rf"^Pid:\t{pid}$", path.read_text(), re.MULTILINE))
    return count


def own_fd_count() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def vms_in_kernel(pid: int) -> int:
    """How many VMs that ``pid`` made the kernel has, by debugfs in a mount namespace that ends with the command."""
    script = "mount -t debugfs none /sys/kernel/debug && ls /sys/kernel/debug/kvm"
    listing = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip(f"no debugfs to count VMs by: {listing.stderr.strip()}")
    return len(re.findall(rf"^{pid}-\d+$", listing.stdout, re.MULTILINE))


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        os.sched_yield()


def done(running: Running) -> Running:
    running.go()
    running.wait_for_done(60)
    return running


def test_vmms_that_keep_stats_fds_are_read_to_the_last_digit(source: StatsFdSource) -> None:
    with start(LabSpec(workload="mmio", vms=2, vcpus=2, count=COUNT, hold_stats_fds=True)) as running:
        done(running)
        sample = source.read()
        direct = {key: parse(os.pread(fd, 1 << 16, 0)) for key, fd in running.stats_fds().items()}
        assert len(direct) == 6
        for (index, vcpu), stats_file in direct.items():
            pid = running.pids[index]
            (vm,) = vms_of(sample, pid)
            assert vcpus_of(sample, vm) == [0, 1]
            assert reasons(sample, vm) == ""
            vm_row = sample.vms.id.tolist().index(vm.value)
            scope = Scope.VM if vcpu is None else Scope.VCPU
            row = vm_row if vcpu is None else sample.vcpus_of_vm[vm_row].start + vcpu
            block = sample.block("kvm", scope)
            assert block is not None
            values = block.values[block.rows.tolist().index(row)]
            assert values.tolist() == stats_file.words().tolist()
            if vcpu is not None:
                assert values[block.schema["mmio_exits"].offset // 8] == COUNT


def test_a_sample_keeps_its_numbers_when_the_next_is_read(source: StatsFdSource) -> None:
    with start(LabSpec(workload="mmio", count=COUNT, hold_stats_fds=True)) as running:
        running.wait_for_ready()
        before = source.read()
        done(running)
        after = source.read()
        column = []
        for sample in (before, after):
            (vm,) = vms_of(sample, running.pid)
            row = sample.vcpus.vm.tolist().index(sample.vms.id.tolist().index(vm.value))
            block = sample.block("kvm", Scope.VCPU)
            assert block is not None
            column.append(int(block.column("mmio_exits")[block.rows.tolist().index(row)]))
    assert column == [0, COUNT]


def test_a_vmm_without_stats_fds_is_seen_and_its_stats_a_gap(source: StatsFdSource) -> None:
    with start(LabSpec(workload="idle", vcpus=2)) as running:
        running.wait_for_ready()
        sample = source.read()
        (vm,) = vms_of(sample, running.pid)
        assert vcpus_of(sample, vm) == [0, 1]
        assert vcpus_with_stats(sample, vm) == []
        assert "holds no statistics fd open" in reasons(sample, vm)


def test_a_killed_vmm_is_gone_at_the_next_read_and_its_vm_from_the_kernel(source: StatsFdSource) -> None:
    with start(LabSpec(workload="mmio", vcpus=2, count=COUNT, hold_stats_fds=True)) as running:
        pid = done(running).pid
        assert len(vms_of(source.read(), pid)) == 1
        assert (len(own_stats_fds(pid)), pidfds_of(pid)) == (3, 1)
        running.kill()
        assert vms_of(source.read(), pid) == []
        assert (own_stats_fds(pid), pidfds_of(pid)) == ([], 0)
        wait_until(lambda: vms_in_kernel(pid) == 0, "the VM is still there")


def test_a_held_fd_of_a_dead_vm_would_have_kept_it(vmm: VmmInterpreter) -> None:
    """The trap that the source has to avoid, so that the test before this one is known to be able to fail."""
    fd = int(vmm.do("make('a')").strip("[]").split(",")[-1])
    with StatsFdSource(discover=False) as source:
        source.adopt([_duplicate(vmm, fd)], vm="a")
        vmm.kill()
        assert len(source.read().vms) == 1
        assert vms_in_kernel(vmm.pid) == 1
        source.release("a")
        assert len(source.read().vms) == 0
    wait_until(lambda: vms_in_kernel(vmm.pid) == 0, "the VM is still there")


def test_an_event_loop_hears_of_the_end_and_frees_the_vm(vmm: VmmInterpreter, source: StatsFdSource) -> None:
    vmm.do("make('a')")
    (vm,) = vms_of(source.read(), vmm.pid)
    vmm.process.kill()
    assert select.select([source], [], [], 10)[0] == [source]
    assert vm in source.close_dead()
    assert own_stats_fds(vmm.pid) == []


def test_a_vm_closed_by_a_living_vmm_is_gone_at_the_next_read(vmm: VmmInterpreter) -> None:
    with StatsFdSource(rescan_every=1000) as source:
        vmm.do("make('a', vcpus=2)")
        assert len(vms_of(source.read(), vmm.pid)) == 1
        vmm.do("close('a')")
        assert vms_of(source.read(), vmm.pid) == []
        assert vms_in_kernel(vmm.pid) == 0


def test_a_vm_made_in_the_place_of_another_is_another(vmm: VmmInterpreter) -> None:
    with StatsFdSource(rescan_every=1000) as source:
        fds = vmm.do("make('a')")
        (old,) = vms_of(source.read(), vmm.pid)
        vmm.do("close('a')")
        assert vmm.do("make('b')") == fds
        (new,) = vms_of(source.read(), vmm.pid)
        assert new != old
        vmm.do("close('b')")
        source.read()
        assert vms_in_kernel(vmm.pid) == 0


def test_a_vm_of_which_a_file_was_closed_stays_the_same_vm(vmm: VmmInterpreter) -> None:
    with StatsFdSource(rescan_every=1000) as source:
        vmm.do("make('a', vcpus=2)")
        (vm,) = vms_of(source.read(), vmm.pid)
        vmm.do("os.close(vms['a'].pop(3))")  # after those of the VM and its vCPUs comes the VM's own stats fd
        sample = source.read()
        assert vms_of(sample, vmm.pid) == [vm]
        assert vcpus_with_stats(sample, vm) == [0, 1]
        assert "no statistics fd of the VM itself" in reasons(sample, vm)
        assert own_stats_fds(vmm.pid) == [f"kvm-{vmm.pid}/vcpu-0", f"kvm-{vmm.pid}/vcpu-1"]


def test_a_vmm_that_becomes_another_program_is_gone_at_the_next_read(vmm: VmmInterpreter) -> None:
    with StatsFdSource(rescan_every=1000) as source:
        vmm.do("make('a')")
        assert len(vms_of(source.read(), vmm.pid)) == 1
        vmm.tell("os.execvp('cat', ['cat'])")
        comm = Path(f"/proc/{vmm.pid}/comm")
        wait_until(lambda: comm.read_text() == "cat\n", "it has not become cat")
        assert vms_of(source.read(), vmm.pid) == []
        assert vms_in_kernel(vmm.pid) == 0


def test_a_vm_that_two_processes_hold_after_a_fork_counts_once(vmm: VmmInterpreter, source: StatsFdSource) -> None:
    vmm.do("make('a')")
    child = int(vmm.do("fork()"))
    try:
        sample = source.read()
        (vm,) = vms_of(sample, vmm.pid)
        assert vms_of(sample, child) == []
        assert vcpus_with_stats(sample, vm) == [0]
    finally:
        os.kill(child, 9)


def test_two_vms_of_one_process_are_not_told_apart_and_that_is_said(vmm: VmmInterpreter, source: StatsFdSource) -> None:
    vmm.do("make('a')")
    vmm.do("make('b')")
    sample = source.read()
    vms = vms_of(sample, vmm.pid)
    assert len(vms) == 2
    for vm in vms:
        assert vcpus_of(sample, vm) == []
        assert "has 2 VMs" in reasons(sample, vm)


def test_what_was_certain_before_a_second_vm_came_stays(vmm: VmmInterpreter, source: StatsFdSource) -> None:
    vmm.do("make('a', vcpus=2)")
    (first,) = vms_of(source.read(), vmm.pid)
    vmm.do("make('b', vcpus=3)")
    sample = source.read()
    assert len(vms_of(sample, vmm.pid)) == 2
    assert vcpus_with_stats(sample, first) == [0, 1]
    vmm.do("close('a')")
    sample = source.read()
    (second,) = vms_of(sample, vmm.pid)
    assert second != first
    assert vcpus_with_stats(sample, second) == [0, 1, 2]


def test_several_stats_fds_of_one_vcpu_are_one_row(vmm: VmmInterpreter, source: StatsFdSource) -> None:
    vmm.do("make('a', vcpus=2, stats=3)")
    for _ in range(3):
        sample = source.read()
    (vm,) = vms_of(sample, vmm.pid)
    assert vcpus_with_stats(sample, vm) == [0, 1]
    assert reasons(sample, vm) == ""
    assert own_stats_fds(vmm.pid) == [f"kvm-{vmm.pid}", f"kvm-{vmm.pid}/vcpu-0", f"kvm-{vmm.pid}/vcpu-1"]


def test_stats_fds_of_another_vmms_vm_are_not_put_to_the_holders_own(
    new_vmm: Callable[..., VmmInterpreter], source: StatsFdSource
) -> None:
    watched, watcher = new_vmm(), new_vmm()
    fd = watched.do("make('a')").strip("[]").split(",")[-1]
    watcher.do("make('b', stats=0)")
    watcher.do(f"take({watched.pid}, {fd})")
    sample = source.read()
    (vm,) = vms_of(sample, watcher.pid)
    assert vcpus_with_stats(sample, vm) == []
    assert f"made by process {watched.pid}" in reasons(sample, vm)
    assert vcpus_with_stats(sample, *vms_of(sample, watched.pid)) == [0]


def test_fds_that_were_passed_are_read_until_their_vmm_ends() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, StatsFdSource(discover=False) as source, start(LabSpec(workload="mmio", count=COUNT)) as running:
        running.wait_for_ready()
        socket.send_fds(theirs, [b"stats"], list(running.stats_fds().values()))
        text, fds = receive(ours)
        assert text == b"stats"
        vm = source.adopt(fds, vm="web", pid=running.pid)
        done(running)
        sample = source.read()
        assert vms_of(sample, running.pid) == [vm]
        assert vcpus_with_stats(sample, vm) == [0]
        block = sample.block("kvm", Scope.VCPU)
        assert block is not None
        assert block.column("mmio_exits")[0] == COUNT
        assert sample.gaps == ()
        running.kill()
        assert len(source.read().vms) == 0


def test_adopted_vms_are_not_found_a_second_time(vmm: VmmInterpreter, source: StatsFdSource) -> None:
    fd = int(vmm.do("make('a')").strip("[]").split(",")[-1])
    vm = source.adopt([_duplicate(vmm, fd)], vm="a", pid=vmm.pid)
    assert vms_of(source.read(), vmm.pid) == [vm]
    vmm.do("make('b')")
    sample = source.read()
    assert vms_of(sample, vmm.pid) == [vm]
    assert any("has 2 VMs, of which 1 were handed over" in gap.reason for gap in sample.gaps)


def test_adopted_vms_that_a_living_vmm_closed_are_let_go_of(vmm: VmmInterpreter, source: StatsFdSource) -> None:
    fd = int(vmm.do("make('a')").strip("[]").split(",")[-1])
    source.adopt([_duplicate(vmm, fd)], vm="a", pid=vmm.pid)
    vmm.do("close('a')")
    assert vms_of(source.read(), vmm.pid) == []
    assert vms_in_kernel(vmm.pid) == 0


def test_what_cannot_be_adopted_is_closed_and_said(vmm: VmmInterpreter, source: StatsFdSource) -> None:
    fds = [int(fd) for fd in vmm.do("make('a')").strip("[]").split(",")]
    before = own_fd_count()
    with pytest.raises(UsageError, match="not a statistics fd"):
        source.adopt([_duplicate(vmm, fds[-1]), os.dup(0), os.dup(0)], vm="a")
    with pytest.raises(SourceError, match="no process"):
        source.adopt([_duplicate(vmm, fds[-1])], vm="a", pid=2**22 + 1)
    with pytest.raises(UsageError, match="adopted as"):
        source.release("a")
    assert own_fd_count() == before


@pytest.mark.needs("nobody")
def test_an_unprivileged_reader_is_told_what_it_lacks(vmm: VmmInterpreter) -> None:
    vmm.do("make('a')")
    code = """if True:
        from kvmscope.errors import PermissionNeeded
        from kvmscope.sources.statsfd import StatsFdSource
        with StatsFdSource() as source:
            sample = source.read()
            print(len(sample.vms), [gap.reason for gap in sample.gaps])
            try:
                source.check()
            except PermissionNeeded as error:
                print(error.remedy)
    """
    nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", sys.executable, "-c"]
    said = subprocess.run([*nobody, code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("0 [")
    assert "could not be inspected" in said
    assert "CAP_SYS_PTRACE" in said
    assert "sudo kvmscope attach" in said


@pytest.mark.needs("root", "setpriv")
def test_fds_that_may_be_seen_but_not_duplicated_are_a_gap(new_vmm: Callable[..., VmmInterpreter]) -> None:
    """Looking asks for the reader's effective user, duplicating for its real one."""
    no_rights = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    vmm = new_vmm(*no_rights)
    vmm.do("make('a')")
    code = f"""if True:
        from kvmscope.sources.statsfd import StatsFdSource
        with StatsFdSource() as source:
            sample = source.read()
            (row,) = [row for row, pid in enumerate(sample.vms.pid) if pid == {vmm.pid}]
            print([gap.reason for gap in sample.gaps if gap.vm == sample.vms.vm_id(row)], len(sample.blocks))
    """
    reader = [*no_rights, "--ruid=nobody", "--euid=root", "--", sys.executable, "-c", code]
    said = subprocess.run(reader, capture_output=True, text=True, check=True).stdout
    assert "may not be duplicated" in said
    assert "CAP_SYS_PTRACE" in said
    assert said.endswith("] 0\n")


def test_fds_stay_flat_over_200_vms_that_come_and_go(vmm: VmmInterpreter, source: StatsFdSource) -> None:
    seen = set()
    for _ in range(200):
        vmm.do("make('a', vcpus=2)")
        (vm,) = vms_of(source.read(), vmm.pid)
        seen.add(vm)
        vmm.do("close('a')")
        assert vms_of(source.read(), vmm.pid) == []
    assert len(seen) == 200
    assert (own_stats_fds(vmm.pid), pidfds_of(vmm.pid)) == ([], 1)
    assert vms_in_kernel(vmm.pid) == 0


def test_reading_without_pause_stands_vms_that_come_and_go(source: StatsFdSource) -> None:
    with start(LabSpec(workload="churn", vms=1, vcpus=2, count=200, hold_stats_fds=True)) as running:
        running.go()
        pid = running.pid
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            sample = source.read()
            for block in sample.blocks:
                # Its guests never run: whatever is not 0 would be of another VM.
                table = sample.vms.pid if block.schema.scope is Scope.VM else sample.vms.pid[sample.vcpus.vm]
                assert block.values[table[block.rows] == pid].max(initial=0) == 0
        running.stop()
        running.kill()
    assert vms_of(source.read(), pid) == []
    assert vms_in_kernel(pid) == 0


def _duplicate(vmm: VmmInterpreter, fd: int) -> int:
    from kvmscope.linux.pidfd import duplicate_fd, open_pidfd

    pidfd = open_pidfd(vmm.pid)
    try:
        return duplicate_fd(pidfd, fd)
    finally:
        os.close(pidfd)
