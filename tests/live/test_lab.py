"""Real guests do what they are told, exactly as often, and the kernel's statistics agree.

The oracle is the guest's own count in its memory and the stats fds that its VMM opened itself.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import pytest

from kvmscope.codec.statsfile import parse
from kvmscope.errors import SourceError, Unavailable
from kvmscope.lab import process
from kvmscope.lab.process import StatsFds
from kvmscope.lab.qemu import Qemu
from kvmscope.lab.spec import LabSpec, Report, VcpuState
from kvmscope.lab.workloads import HARDWARE, WORKLOADS, Engine, GuestIrqchip, GuestPit, Partner, Workload, find_engine

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm")]

TIMEOUT_S = 60.0
COUNT = 200

Words = dict[str, list[int]]

ending = [workload for workload in WORKLOADS.values() if workload.ends]


def read_stats(fds: StatsFds) -> dict[tuple[int, int | None], Words]:
    found = {}
    for key, fd in fds.items():
        file = parse(os.pread(fd, 1 << 20, 0))
        words = file.words()
        found[key] = {
            d.name: [int(word) for word in words[d.offset // 8 : d.offset // 8 + d.size]]
            for d in file.description.descriptors
        }
    return found


def engine_name() -> str:
    engine = find_engine()
    return "an unknown engine" if engine is None else engine.value


def require_end(name: str) -> None:
    if not WORKLOADS[name].ends_on(find_engine()):
        pytest.skip(f"{name} does not come to its end on {engine_name()}")


def run_to_end(spec: LabSpec) -> tuple[Report, dict[tuple[int, int | None], Words]]:
    require_end(spec.workload)
    with process.start(spec) as running:
        running.wait_for_ready(TIMEOUT_S)
        fds = running.stats_fds()
        running.go()
        return running.wait_for_done(TIMEOUT_S), read_stats(fds)


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def count_fds(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def count_vm_fds(pid: int) -> int:
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(str(entry.readlink()))
        except FileNotFoundError:
            continue
    return sum(link == "anon_inode:kvm-vm" for link in links)


@pytest.mark.parametrize("workload", ending, ids=lambda workload: workload.name)
def test_each_guest_does_its_thing_exactly_n_times(workload: Workload) -> None:
    report, stats = run_to_end(LabSpec(workload=workload.name, vcpus=workload.max_vcpus or 2, count=COUNT))
    assert report.errors == ()
    engine = find_engine()
    for vm in report.vms:
        for vcpu in vm.vcpus:
            assert (vcpu.state, vcpu.did) == (VcpuState.DONE, COUNT)
            for expectation in workload.expectations:
                (moved,) = stats[vm.index, vcpu.id][expectation.stat]
                if engine in expectation.engines:
                    assert expectation.allows(moved, COUNT), f"{expectation.stat} moved by {moved}: {expectation.bound}"


@pytest.mark.parametrize(
    ("name", "exits"),
    [
        ("pio", {"io": COUNT + 1}),
        ("mmio", {"mmio": COUNT, "io": 1}),
        ("hlt", {"hlt": COUNT, "io": 1}),
        ("msi", {"io": COUNT + 1}),
        ("spin", {"io": 1}),
        ("undecodable", {"internal_error": COUNT, "io": 1}),
    ],
)
def test_the_vmm_sees_the_exits_that_the_guest_causes(name: str, exits: dict[str, int]) -> None:
    report, _ = run_to_end(LabSpec(workload=name, count=COUNT))
    assert report.vms[0].vcpus[0].exits == exits


@pytest.mark.parametrize("name", ["pic", "ioapic", "msi", "kick", "wake", "pit", "ipi", "halt"])
def test_no_interrupt_is_lost_or_merged(name: str) -> None:
    report, _ = run_to_end(LabSpec(workload=name, count=COUNT))
    taken = report.vms[0].vcpus[0].interrupts
    if WORKLOADS[name].partner is Partner.TICKS:
        # The next tick can come before the guest has looked at its count.
        assert taken >= COUNT
    else:
        assert taken == COUNT


def test_fresh_memory_never_runs_out() -> None:
    pages = 2500  # more than twice what one vCPU has
    report, stats = run_to_end(LabSpec(workload="fault", count=pages))
    assert report.vms[0].vcpus[0].did == pages
    assert stats[0, 0]["pf_fixed"][0] >= pages


def test_pages_are_watched_for_writes_anew_after_each_look_at_the_log() -> None:
    writes = 2500  # more than twice what one vCPU has
    report, stats = run_to_end(LabSpec(workload="dirty", count=writes))
    assert report.vms[0].vcpus[0].exits == {"io": writes // 1024 + 1}
    taken = stats[0, 0]["pf_taken"][0]
    if find_engine() in (Engine.PVM, Engine.FORCED_AVIC):  # on Intel, the processor keeps the log
        assert taken >= writes


def test_two_vcpus_that_touch_pages_together_find_them_mended_by_the_other() -> None:
    if os.cpu_count() == 1:
        pytest.skip("two vCPUs do nothing in the same moment on one CPU")
    with process.start(LabSpec(workload="race", vcpus=2, hold_stats_fds=True)) as running:
        fds = running.stats_fds()
        running.go()

        def spurious() -> int:
            stats = read_stats(fds)
            return sum(stats[0, vcpu]["pf_spurious"][0] for vcpu in (0, 1))

        wait_until(lambda: spurious() > 200, "the vCPUs hardly ever fault at once")


def test_memory_that_is_taken_from_running_vcpus_flushes_their_translations() -> None:
    with process.start(LabSpec(workload="drop", vcpus=2, hold_stats_fds=True)) as running:
        fds = running.stats_fds()
        running.go()
        wait_until(lambda: read_stats(fds)[0, None]["remote_tlb_flush"][0] >= 50, "no vCPU is made to flush")


def test_statistics_stand_still_once_all_is_done() -> None:
    with process.start(LabSpec(workload="mmio", vcpus=2, count=COUNT)) as running:
        fds = running.stats_fds()
        running.go()
        running.wait_for_done(TIMEOUT_S)
        first = read_stats(fds)
        for _ in range(100):
            assert read_stats(fds) == first


def test_vms_run_in_processes_of_their_own_that_carry_their_names() -> None:
    with process.start(LabSpec(workload="pio", vms=3, count=1, name="three")) as running:
        running.wait_for_ready(TIMEOUT_S)
        assert len(set(running.pids)) == 3
        for index, pid in enumerate(running.pids):
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            assert b"kvmscope.lab.process" in arguments
            assert arguments[arguments.index(b"--name") + 1] == f"three-{index}".encode()
            assert count_vm_fds(pid) == 1


def test_one_process_can_hold_all_vms() -> None:
    with process.start(LabSpec(workload="pio", vms=3, count=COUNT, one_process=True)) as running:
        fds = running.stats_fds()
        running.go()
        report = running.wait_for_done(TIMEOUT_S)
        assert {vm.pid for vm in report.vms} == {running.pid}
        assert [vm.name for vm in report.vms] == ["lab-pio-0", "lab-pio-1", "lab-pio-2"]
        assert set(fds) == {(vm, vcpu) for vm in range(3) for vcpu in (None, 0)}
        assert count_vm_fds(running.pid) == 3


@pytest.mark.parametrize("name", ["idle", "spin", "pio", "halt", "kick", "hlt"])
def test_a_guest_without_an_end_can_be_stopped(name: str) -> None:
    if name != "idle":
        require_end(name)
    with process.start(LabSpec(workload=name, vcpus=2)) as running:
        running.go()
        wait_until(lambda: all(v.did for v in running.report().vms[0].vcpus), "the guests do not start")
        running.stop()
        report = running.wait_for_done(TIMEOUT_S)
        assert [vcpu.state for vcpu in report.vms[0].vcpus] == [VcpuState.STOPPED] * 2


def test_stopping_an_idle_guest_costs_it_one_halt_and_one_signal() -> None:
    with process.start(LabSpec(workload="idle")) as running:
        fds = running.stats_fds()
        running.go()
        wait_until(lambda: read_stats(fds)[0, 0]["blocking"] == [1], "the guest does not halt")
        running.stop()
        running.wait_for_done(TIMEOUT_S)
        words = read_stats(fds)[0, 0]
        assert (words["halt_exits"], words["signal_exits"]) == ([1], [1])


def test_polling_can_be_limited_while_the_guest_runs() -> None:
    require_end("halt")
    with process.start(LabSpec(workload="halt", period_us=60, hold_stats_fds=True)) as running:
        fds = running.stats_fds()
        running.go()
        wait_until(lambda: read_stats(fds)[0, 0]["halt_attempted_poll"][0] > 100, "KVM does not poll")
        running.limit_halt_poll(0)
        before = read_stats(fds)[0, 0]
        wait_until(lambda: read_stats(fds)[0, 0]["halt_exits"][0] > before["halt_exits"][0] + 500, "it does not halt")
        polls = read_stats(fds)[0, 0]["halt_attempted_poll"][0] - before["halt_attempted_poll"][0]
        assert polls <= 1, "one may have been under way"


def test_vcpu_ids_are_those_asked_for() -> None:
    report, stats = run_to_end(LabSpec(workload="msi", vcpu_ids=(0, 5, 9), count=COUNT))
    assert [vcpu.id for vcpu in report.vms[0].vcpus] == [0, 5, 9]
    assert [vcpu.did for vcpu in report.vms[0].vcpus] == [COUNT] * 3
    assert set(stats) == {(0, None), (0, 0), (0, 5), (0, 9)}


@pytest.mark.parametrize(
    ("irqchip", "pit"),
    [
        (GuestIrqchip.NONE, GuestPit.OFF),
        (GuestIrqchip.SPLIT, GuestPit.OFF),
        (GuestIrqchip.FULL, GuestPit.OFF),
        (GuestIrqchip.FULL, GuestPit.REINJECT),
        (GuestIrqchip.FULL, GuestPit.DISCARD),
    ],
)
def test_a_guest_runs_with_every_irqchip_and_pit(irqchip: GuestIrqchip, pit: GuestPit) -> None:
    report, _ = run_to_end(LabSpec(workload="pio", count=COUNT, irqchip=irqchip, pit=pit))
    assert (report.errors, report.vms[0].vcpus[0].did) == ((), COUNT)


def test_a_halt_poll_limit_of_zero_ends_polling() -> None:
    _, stats = run_to_end(LabSpec(workload="halt", count=COUNT, period_us=20, halt_poll_ns=0))
    assert stats[0, 0]["halt_attempted_poll"] == [0]


def test_stats_fds_are_held_in_the_vmm_only_when_asked() -> None:
    def held(pid: int) -> int:
        links = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        return sum(link.startswith("anon_inode:kvm-vcpu-stats:") for link in links)

    for hold, expected in ((True, 2), (False, 0)):
        with process.start(LabSpec(workload="pio", vcpus=2, count=1, hold_stats_fds=hold)) as running:
            running.wait_for_ready(TIMEOUT_S)
            running.stats_fds()
            running.report()  # an answer to this means that the one before is complete
            assert held(running.pid) == expected


def test_stats_fds_are_refused_while_a_vcpu_runs() -> None:
    with process.start(LabSpec(workload="idle")) as running:
        running.go()
        with pytest.raises(SourceError, match="outside KVM_RUN"):
            running.stats_fds()


def test_bare_vms_have_vcpus_that_never_ran() -> None:
    with process.start(
        LabSpec(workload="bare", vms=16, vcpus=4, one_process=True, irqchip=GuestIrqchip.NONE)
    ) as running:
        running.go()
        stats = read_stats(running.stats_fds())
        assert len(stats) == 16 * 5
        assert all(words["exits"] == [0] for (_, vcpu), words in stats.items() if vcpu is not None)
        assert count_vm_fds(running.pid) == 16


def test_churn_makes_and_unmakes_its_vms_and_leaks_no_fd() -> None:
    with process.start(LabSpec(workload="churn", vcpus=2, count=50)) as running:
        running.wait_for_ready(TIMEOUT_S)
        before = count_fds(running.pid)
        running.go()
        report = running.wait_for_done(TIMEOUT_S)
        assert [vm.churned for vm in report.vms] == [50]
        assert count_vm_fds(running.pid) == 0
        assert count_fds(running.pid) == before


def test_what_kvm_refuses_comes_back_from_the_process() -> None:
    with process.start(LabSpec(workload="bare", vcpu_ids=(2**31 - 1,))) as running:
        with pytest.raises(SourceError, match="KVM_CREATE_VCPU") as caught:
            running.wait_for_ready(TIMEOUT_S)
        assert caught.value.errno is not None


def test_closing_ends_every_process() -> None:
    with process.start(LabSpec(workload="spin", vms=2, vcpus=2)) as running:
        running.go()
        pids = running.pids
    assert not any(is_alive(pid) for pid in pids)


def test_a_process_that_dies_is_an_error_that_says_so() -> None:
    with process.start(LabSpec(workload="spin")) as running:
        running.go()
        os.kill(running.pid, signal.SIGKILL)
        with pytest.raises(SourceError, match="ended unexpectedly"):
            running.wait_for_done(TIMEOUT_S)


STARTER = """
import sys, threading
from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
running = process.start(LabSpec(workload=sys.argv[1], vms=2))
running.go()
print(*running.pids, flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize("name", ["idle", "spin", "churn"])
def test_no_vm_outlives_a_parent_that_is_killed(name: str) -> None:
    with subprocess.Popen([sys.executable, "-c", STARTER, name], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(is_alive(pid) for pid in pids)
        parent.kill()
    wait_until(lambda: not any(is_alive(pid) for pid in pids), f"{pids} live on")


@pytest.mark.needs("qemu")
def test_a_qemu_guest_does_its_writes_and_stands_still() -> None:
    with Qemu(name="oracle", vcpus=2, writes=COUNT) as qemu:
        qemu.wait_for_done(TIMEOUT_S)
        first, second = query_vcpu_stats(qemu), query_vcpu_stats(qemu)
        assert len(first) == 2
        # QEMU 7.2 stops a vCPU to read its statistics, so what a query itself moves is left out.
        moved_by_query = {
            "signal_exits",
            "fpu_reload",
            "halt_wait_ns",
            "halt_wait_hist",
            "halt_wakeup",
            "host_state_reload",
        }
        for before, after in zip(first, second, strict=True):
            assert {k: v for k, v in before.items() if k not in moved_by_query} == {
                k: v for k, v in after.items() if k not in moved_by_query
            }
        busiest = max(first, key=lambda stats: stats["exits"])
        assert busiest["exits"] >= COUNT
        if find_engine() in HARDWARE:
            assert busiest["io_exits"] == COUNT + 1


@pytest.mark.needs("qemu")
def test_qemu_carries_its_name_and_leaves_nothing_behind() -> None:
    with Qemu(name="named guest") as qemu:
        directory = qemu.wait_for_qmp(TIMEOUT_S).parent
        assert b"named guest" in Path(f"/proc/{qemu.pid}/cmdline").read_bytes().split(b"\0")
        wait_until(lambda: count_vm_fds(qemu.pid) == 1, "QEMU makes no VM")
    assert not is_alive(qemu.pid)
    assert not directory.exists()


@pytest.mark.needs("qemu")
def test_a_qemu_that_cannot_start_says_why() -> None:
    with Qemu(name="x", options=["-no-such-option"]) as qemu, pytest.raises(SourceError, match="no-such-option"):
        qemu.wait_for_done(TIMEOUT_S)


def test_without_qemu_it_is_unavailable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="not installed"):
        Qemu(name="x")


def query_vcpu_stats(qemu: Qemu) -> list[dict[str, int]]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(qemu.wait_for_qmp(TIMEOUT_S)))
        with connection.makefile("rw") as stream:
            json.loads(stream.readline())
            ask(stream, "qmp_capabilities")
            answer = ask(stream, "query-stats", target="vcpu")
    return [{stat["name"]: stat["value"] for stat in vcpu["stats"]} for vcpu in answer]


def ask(stream: TextIO, command: str, **arguments: str) -> Any:
    print(json.dumps({"execute": command, "arguments": arguments}), file=stream, flush=True)
    while "return" not in (answer := json.loads(stream.readline())):
        assert "event" in answer, answer
    return answer["return"]
