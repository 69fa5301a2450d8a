"""BPF, QMP and stats fds on the same QEMU guests: three ways to one counter, which must agree to the last digit.

A guest that is stopped stands still, whoever reads it, so no stat is left out there. A guest that runs but is halted
for good is taken out of KVM_RUN by each QMP query of QEMU 7.2 (a signal to each vCPU), and goes back to halt when it
has been answered: one stat says so, all others must agree there too.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvmscope.lab.qemu import PROGRAM, Qemu
from kvmscope.sample import Sample
from kvmscope.schema import Scope
from kvmscope.sources.bpf.source import BpfSource
from kvmscope.sources.qmp import QmpSource
from kvmscope.sources.statsfd import StatsFdSource

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf", "qemu", "qmp", "setpriv")]

WRITES = 400
VCPUS = 3

Words = dict[str, list[int]]


class Monitor:
    """A QMP connection beside the source's, to stop and continue the guest."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("r")
        self._file.readline()
        self.execute("qmp_capabilities")

    def execute(self, command: str) -> Any:
        self._socket.sendall(json.dumps({"execute": command}).encode() + b"\n")
        while "return" not in (answer := json.loads(self._file.readline())):
            assert "error" not in answer, answer
        return answer["return"]

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class WitnessedGuest:
    """A QEMU whose guest did its work, with the three witnesses that can be had of it."""

    def __init__(self, opened: ExitStack, directory: Path, *, options: tuple[str, ...] = ()) -> None:
        path = directory / "control"
        control = ("-qmp", f"unix:{path},server=on,wait=off")
        self.qemu = opened.enter_context(Qemu(name="witnessed", vcpus=VCPUS, writes=WRITES, options=options + control))
        self.pid = self.qemu.pid
        self.qemu.wait_for_done()
        self.monitor = Monitor(path)
        opened.callback(self.monitor.close)
        self.bpf = BpfSource()
        opened.callback(self.bpf.close)
        self.qmp = opened.enter_context(QmpSource([self.qemu.wait_for_qmp()]))

    def stop(self) -> None:
        self.monitor.execute("stop")

    def sleep_often(self, times: int = 20) -> None:
        """Let the vCPUs wait in the kernel for about 2 ms again and again; every wait is ended, and so counted."""
        for _ in range(times):
            self.monitor.execute("cont")
            end = time.monotonic() + 0.002
            while time.monotonic() < end:
                os.sched_yield()
            self.monitor.execute("stop")


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[WitnessedGuest]:
    with ExitStack() as opened:
        yield WitnessedGuest(opened, tmp_path)


@pytest.fixture
def new_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WitnessedGuest]:
    """On the QEMU of bookworm-backports, which keeps its stats fds open."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvmscope" / "qemu-bookworm-backports"
    if not (root / "usr/bin" / PROGRAM).exists():
        pytest.skip("no QEMU of bookworm-backports in the cache; tests/live/test_qmp_live.py fetches it")
    monkeypatch.setenv("PATH", f"{root / 'usr/bin'}:{os.environ['PATH']}")
    data = ("-L", str(root / "usr/share/qemu"), "-L", str(root / "usr/share/seabios"))
    with ExitStack() as opened:
        yield WitnessedGuest(opened, tmp_path, options=data)


def words_of(sample: Sample, pid: int, scope: Scope) -> dict[int, Words]:
    """The kernel's statistics of one VMM: by vCPU id (0 for the VM), the words of each stat."""
    block = sample.block("kvm", scope)
    (vm,) = np.flatnonzero(sample.vms.pid == pid).tolist()
    found: dict[int, Words] = {}
    if block is None:
        return found
    for place, row in enumerate(block.rows.tolist()):
        of_vm, subject = (row, 0) if scope is Scope.VM else (int(sample.vcpus.vm[row]), int(sample.vcpus.id[row]))
        if of_vm == vm:
            found[subject] = {name: np.atleast_1d(block.column(name)[place]).tolist() for name in block.schema.names}
    return found


def test_the_installed_qemu_is_the_one_without_stats_fds() -> None:
    """So that the tests with ``guest`` are of the witness that disturbs."""
    done = subprocess.run([shutil.which(PROGRAM) or PROGRAM, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("QEMU emulator version 7.2.")


def test_bpf_and_qmp_agree_on_every_stat_of_a_guest_that_is_stopped(guest: WitnessedGuest) -> None:
    guest.stop()
    guest.sleep_often()
    before = guest.bpf.read()
    by_qmp = guest.qmp.read()
    after = guest.bpf.read()
    assert by_qmp.gaps == ()
    for scope, subjects in ((Scope.VM, {0}), (Scope.VCPU, set(range(VCPUS)))):
        bpf, qmp = (words_of(sample, guest.pid, scope) for sample in (after, by_qmp))
        assert bpf.keys() == qmp.keys() == subjects
        assert bpf == qmp
        assert words_of(before, guest.pid, scope) == qmp, "reading a stopped guest moves nothing"
        assert set(guest.bpf.schemas[0 if scope is Scope.VM else 1].names) == set(qmp[0])
    first = words_of(after, guest.pid, Scope.VCPU)[0]
    assert first["exits"][0] > 0
    assert sum(first["halt_wait_hist"]) >= 20
    assert any(map(any, words_of(after, guest.pid, Scope.VM)[0].values()))


def test_bpf_and_qmp_agree_on_a_guest_that_is_halted_but_for_whether_it_sleeps(guest: WitnessedGuest) -> None:
    """QEMU asks when it has called the vCPU out, so by QMP it never blocks.

    The host may wake or preempt a vCPU between the two (kvmclock does once, 100 ms after the start): then again.
    """
    for _ in range(3):
        guest.qmp.read()
    for _ in range(10):
        differing = differences(guest)
        if set(differing.values()) == {("blocking", 1, 0)}:
            return
    raise AssertionError(differing)


def differences(guest: WitnessedGuest) -> dict[tuple[Scope, int, str], tuple[str, int, int]]:
    """What bpf and qmp say otherwise: the stat, its first word by bpf, and by qmp."""
    by_qmp = guest.qmp.read()
    blocks_again(guest)
    by_bpf = guest.bpf.read()
    found = {}
    for scope, subjects in ((Scope.VM, 1), (Scope.VCPU, VCPUS)):
        bpf, qmp = words_of(by_bpf, guest.pid, scope), words_of(by_qmp, guest.pid, scope)
        assert bpf.keys() == qmp.keys() == set(range(subjects))
        for subject, stats in bpf.items():
            assert stats.keys() == qmp[subject].keys()
            for stat, words in stats.items():
                if words != qmp[subject][stat]:
                    found[scope, subject, stat] = (stat, words[0], qmp[subject][stat][0])
    assert {subject for scope, subject, stat in found if stat == "blocking"} == set(range(VCPUS))
    return found


def blocks_again(guest: WitnessedGuest) -> None:
    """Wait until what the last query woke sleeps again: two reads, 50 ms apart, that are the same."""
    deadline = time.monotonic() + 10
    seen = words_of(guest.bpf.read(), guest.pid, Scope.VCPU)
    while True:
        time.sleep(0.05)
        now = words_of(guest.bpf.read(), guest.pid, Scope.VCPU)
        if now == seen:
            return
        seen = now
        assert time.monotonic() < deadline, "the guest does not come to rest"


def test_all_three_agree_on_every_stat_of_every_vcpu(new_guest: WitnessedGuest) -> None:
    new_guest.stop()
    new_guest.sleep_often()
    with StatsFdSource() as statsfd:
        samples = [source.read() for source in (statsfd, new_guest.bpf, new_guest.qmp, new_guest.bpf, statsfd)]
    by_vcpu = [words_of(sample, new_guest.pid, Scope.VCPU) for sample in samples]
    assert by_vcpu[0].keys() == set(range(VCPUS))
    assert sum(by_vcpu[0][0]["halt_wait_hist"]) >= 20
    assert all(words == by_vcpu[0] for words in by_vcpu)
    # Of the VM itself no VMM keeps a stats fd, so that there are two witnesses.
    by_vm = [words_of(sample, new_guest.pid, Scope.VM) for sample in samples[1:4]]
    assert by_vm[0][0]
    assert all(words == by_vm[0] for words in by_vm)


def test_bpf_and_qmp_name_the_same_threads_and_ids(guest: WitnessedGuest) -> None:
    guest.stop()
    by_bpf, by_qmp = guest.bpf.read(), guest.qmp.read()

    def vcpus(sample: Sample) -> list[tuple[int, int]]:
        (vm,) = np.flatnonzero(sample.vms.pid == guest.pid).tolist()
        rows = sample.vcpus_of_vm[vm]
        return list(zip(sample.vcpus.id[rows].tolist(), sample.vcpus.tid[rows].tolist(), strict=True))

    known = dict(vcpus(by_bpf))
    assert known.keys() == dict(vcpus(by_qmp)).keys()
    # A vCPU that never ran has no thread yet for the kernel; QEMU has made one for each.
    assert all(known[vcpu] in (tid, -1) for vcpu, tid in vcpus(by_qmp))
    assert known[0] == dict(vcpus(by_qmp))[0]
