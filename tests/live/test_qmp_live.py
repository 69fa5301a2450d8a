"""Real QEMUs: what QMP says is what the kernel's files say, and QEMU from 8.1 on can be read without asking it.

QEMU 7.2 is this distribution's; 10.0 is fetched from bookworm-backports, unpacked (never installed) into the cache.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kvmscope.lab.qemu import PROGRAM, Qemu
from kvmscope.sample import Sample
from kvmscope.schema import Scope
from kvmscope.sources.qmp import QmpSource
from kvmscope.sources.statsfd import StatsFdSource

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "qemu", "qmp", "setpriv")]

WRITES = 300


class Control:
    """A QMP connection beside the one that the source uses, to stop and continue the guest."""

    def __init__(self, path: Path) -> None:
        deadline = time.monotonic() + 10
        while not path.exists():
            assert time.monotonic() < deadline, "QEMU has not made its control socket"
            os.sched_yield()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("r")
        self._file.readline()
        self.execute("qmp_capabilities")

    def execute(self, command: str) -> Any:
        self._socket.sendall(json.dumps({"execute": command}).encode() + b"\n")
        while True:
            answer = json.loads(self._file.readline())
            if "event" not in answer:
                return answer["return"]

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class MonitoredGuest:
    """A QEMU whose guest has done its writes and stands still, and a way to stop and continue it."""

    def __init__(self, qemu: Qemu, control: Control) -> None:
        self.qemu = qemu
        self.control = control

    def halt_a_while(self) -> None:
        """Let vCPUs wait in the kernel for about 2 ms and call them back, which ends and counts their waits."""
        self.control.execute("cont")
        end = time.monotonic() + 0.002
        while time.monotonic() < end:
            os.sched_yield()
        self.control.execute("stop")


@pytest.fixture
def start_guest(tmp_path: Path) -> Iterator[Callable[..., MonitoredGuest]]:
    started: list[MonitoredGuest] = []

    def start(*, vcpus: int = 2, options: tuple[str, ...] = ()) -> MonitoredGuest:
        path = tmp_path / "control"
        qemu = Qemu(
            name="qmp-test",
            vcpus=vcpus,
            writes=WRITES,
            options=("-qmp", f"unix:{path},server=on,wait=off", *options),
        )
        try:
            qemu.wait_for_done()
            guest = MonitoredGuest(qemu, Control(path))
        except BaseException:
            qemu.close()
            raise
        started.append(guest)
        guest.control.execute("stop")
        return guest

    yield start
    for guest in started:
        guest.control.close()
        guest.qemu.close()


@pytest.fixture
def start_new_guest(
    new_qemu_root: Path, start_guest: Callable[..., MonitoredGuest], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., MonitoredGuest]:
    """Guests of the newer QEMU."""
    monkeypatch.setenv("PATH", f"{new_qemu_root / 'usr/bin'}:{os.environ['PATH']}")
    assert shutil.which(PROGRAM) == str(new_qemu_root / "usr/bin" / PROGRAM)
    data = ("-L", str(new_qemu_root / "usr/share/qemu"), "-L", str(new_qemu_root / "usr/share/seabios"))

    def start(*, vcpus: int = 2, options: tuple[str, ...] = ()) -> MonitoredGuest:
        return start_guest(vcpus=vcpus, options=(*data, *options))

    return start


@pytest.fixture(params=["installed", "backports"])
def start_any_guest(request: pytest.FixtureRequest) -> Callable[..., MonitoredGuest]:
    name = "start_guest" if request.param == "installed" else "start_new_guest"
    starter: Callable[..., MonitoredGuest] = request.getfixturevalue(name)
    return starter


def stats(sample: Sample, pid: int, scope: Scope) -> dict[int, dict[str, list[int]]]:
    """By vCPU id (0 for the VM), the words of each stat; of one process, for this host may have other VMs."""
    (vm_row,) = [row for row, vm_pid in enumerate(sample.vms.pid) if vm_pid == pid]
    found = {}
    for block in sample.blocks_of(scope):
        for row, words in zip(block.rows.tolist(), block.values, strict=True):
            if (row if scope is Scope.VM else sample.vcpus.vm[row]) == vm_row:
                subject = 0 if scope is Scope.VM else int(sample.vcpus.id[row])
                found[subject] = {
                    d.name: words[d.offset // 8 : d.offset // 8 + d.size].tolist() for d in block.schema.descriptors
                }
    return found


def test_qmp_and_the_stats_fds_that_qemu_keeps_agree_to_the_last_digit(
    start_new_guest: Callable[..., MonitoredGuest],
) -> None:
    guest = start_new_guest(vcpus=3)
    with QmpSource([guest.qemu.wait_for_qmp()]) as qmp, StatsFdSource() as statsfd:
        for _ in range(20):
            guest.halt_a_while()
        before = stats(statsfd.read(), guest.qemu.pid, Scope.VCPU)
        by_qmp = qmp.read()
        after = stats(statsfd.read(), guest.qemu.pid, Scope.VCPU)
    assert by_qmp.gaps == ()
    assert before.keys() == {0, 1, 2}
    assert sum(before[0]["halt_wait_hist"]) > 0
    assert before[0]["halt_wait_hist"] != before[0]["halt_wait_hist"][::-1]
    assert stats(by_qmp, guest.qemu.pid, Scope.VCPU) == before == after


def test_qmp_adds_what_no_stats_fd_shows(start_new_guest: Callable[..., MonitoredGuest]) -> None:
    guest = start_new_guest()
    with QmpSource([guest.qemu.wait_for_qmp()]) as qmp, StatsFdSource() as statsfd:
        by_fd, by_qmp = statsfd.read(), qmp.read()
    (row,) = [row for row, pid in enumerate(by_fd.vms.pid) if pid == guest.qemu.pid]
    assert stats(by_fd, guest.qemu.pid, Scope.VM) == {}
    assert ["no statistics fd of the VM itself" in g.reason for g in by_fd.gaps if g.vm == by_fd.vms.vm_id(row)] == [
        True
    ]
    assert "pages_4k" in stats(by_qmp, guest.qemu.pid, Scope.VM)[0]
    assert by_qmp.vms.vm_id(0) == by_fd.vms.vm_id(row)


def test_a_killed_qemu_that_was_read_by_its_fds_is_gone_at_the_next_read(
    start_new_guest: Callable[..., MonitoredGuest],
) -> None:
    guest = start_new_guest()
    with StatsFdSource() as source:
        assert stats(source.read(), guest.qemu.pid, Scope.VCPU).keys() == {0, 1}
        guest.qemu.kill()
        assert guest.qemu.pid not in source.read().vms.pid


def test_a_qemu_that_keeps_no_stats_fd_is_a_gap_that_says_what_helps(
    start_guest: Callable[..., MonitoredGuest],
) -> None:
    guest = start_guest()
    links = [str(path.readlink()) for path in Path(f"/proc/{guest.qemu.pid}/fd").iterdir()]
    if any("stats" in link for link in links):
        pytest.skip("the installed QEMU keeps its stats fds open")
    with StatsFdSource() as source:
        sample = source.read()
    (row,) = [row for row, pid in enumerate(sample.vms.pid) if pid == guest.qemu.pid]
    (gap,) = [gap for gap in sample.gaps if gap.vm == sample.vms.vm_id(row)]
    assert "QEMU does from 8.1 on" in gap.reason
    assert "qmp" in gap.reason
    assert sample.vcpus.id[sample.vcpus_of_vm[row]].tolist() == [0, 1]


def test_bucket_order_is_told_from_waits_that_happened(start_any_guest: Callable[..., MonitoredGuest]) -> None:
    guest = start_any_guest()
    with QmpSource([guest.qemu.wait_for_qmp()]) as source:
        for _ in range(20):
            guest.halt_a_while()
        sample = source.read()
    assert sample.gaps == ()
    vcpu = stats(sample, guest.qemu.pid, Scope.VCPU)[0]
    waits, total = vcpu["halt_wait_hist"], vcpu["halt_wait_ns"][0]
    assert sum(waits) > 0
    assert sum(count << bucket - 1 for bucket, count in enumerate(waits) if bucket) <= total


def test_vcpus_have_the_ids_that_kvm_knows_them_by(start_any_guest: Callable[..., MonitoredGuest]) -> None:
    """Three cores take four APIC ids of a socket, so that ids and QEMU's own indices differ."""
    guest = start_any_guest(vcpus=4, options=("-smp", "4,sockets=2,cores=3,threads=1,maxcpus=6"))
    links = [str(path.readlink()) for path in Path(f"/proc/{guest.qemu.pid}/fd").iterdir()]
    ids = sorted(int(link.rpartition(":")[2]) for link in links if link.startswith("anon_inode:kvm-vcpu:"))
    assert ids == [0, 1, 2, 4]
    with QmpSource([guest.qemu.wait_for_qmp()]) as source:
        sample = source.read()
    assert sample.vcpus.id.tolist() == ids
    assert len({int(tid) for tid in sample.vcpus.tid}) == 4
    assert all(Path(f"/proc/{guest.qemu.pid}/task/{tid}").exists() for tid in sample.vcpus.tid)


def test_each_vcpu_has_its_own_values(start_any_guest: Callable[..., MonitoredGuest]) -> None:
    """Only the first vCPU ran: each port write is an exit of it, and none of another."""
    guest = start_any_guest(vcpus=3)
    with QmpSource([guest.qemu.wait_for_qmp()]) as source:
        vcpus = stats(source.read(), guest.qemu.pid, Scope.VCPU)
    assert vcpus[0]["exits"][0] >= WRITES
    assert max(vcpus[1]["exits"][0], vcpus[2]["exits"][0]) < WRITES


def test_a_monitor_that_another_holds_is_a_gap_and_free_after_it(
    start_any_guest: Callable[..., MonitoredGuest],
) -> None:
    guest = start_any_guest()
    path = guest.qemu.wait_for_qmp()
    with QmpSource([path]) as holder:
        assert len(holder.read().vms) == 1
        with QmpSource([path], timeout_s=0.5) as late:
            assert ["another one is connected" in gap.reason for gap in late.read().gaps] == [True]
    with QmpSource([path]) as next_one:
        assert len(next_one.read().vms) == 1


def test_a_killed_qemu_is_a_gap_of_its_vm(start_any_guest: Callable[..., MonitoredGuest]) -> None:
    guest = start_any_guest()
    with QmpSource([guest.qemu.wait_for_qmp()]) as source:
        vm = source.read().vms.vm_id(0)
        guest.qemu.kill()
        sample = source.read()
    assert len(sample.vms) == 0
    assert [gap.vm for gap in sample.gaps] == [vm]
