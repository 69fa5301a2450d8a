"""What ``kvmscope doctor`` says of real guests: of each that has a trouble exactly that, and of healthy ones nothing.

docs/reference/rules-by-case.md lists the rules with their cases. Those that this host's KVM cannot show are shown on
emulated kernels (tests/kernels/test_findings.py), and each once more on a crafted sample
(tests/analysis/test_rules.py). A busy machine delays guests, so a rule has several windows to fire; what must not fire
has as many to stay silent.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from stuck import stuck_vmm
from threads import QUOTA_CPUS, burning_thread, enter, pin_to_one_cpu, quota_group

from kvmscope import collect
from kvmscope.analysis.findings import EndCause, Finding
from kvmscope.lab import process
from kvmscope.lab.kvm import Kvm
from kvmscope.lab.process import Running
from kvmscope.lab.qemu import Qemu
from kvmscope.lab.spec import LabSpec
from kvmscope.lab.workloads import EVERYWHERE, Engine, find_engine
from kvmscope.scene import Scene
from kvmscope.schema import Scope
from kvmscope.view.added_causes import added_causes
from kvmscope.view.watch import HostView, Watch

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf"), pytest.mark.usefixtures("favoured")]

WINDOW_S = 0.4
WINDOWS = 3
WINDOWS_AT_MOST = 20

OF_THE_MACHINE = frozenset({"preempted", "cpu-wait", "poll-cut-short"})
"""Rules that fire truly where more wants to run than there are CPUs, as on a machine that runs tests."""


QUEUED_TOO_LONG = 0.2
"""Share of its time that a vCPU may wait for a CPU, and its guest still do what it is to do."""


@dataclass(frozen=True)
class TroubledGuest:
    """A guest, and the rules that must fire on it, of which there can be none; ``also``: that may."""

    rules: frozenset[str]
    spec: LabSpec
    also: frozenset[str] = frozenset()
    engines: frozenset[Engine] = EVERYWHERE
    groups: tuple[str, ...] = ()


def trouble(
    *rules: str,
    spec: LabSpec,
    also: tuple[str, ...] = (),
    engines: frozenset[Engine] = EVERYWHERE,
    groups: tuple[str, ...] = (),
) -> TroubledGuest:
    return TroubledGuest(frozenset(rules), spec, OF_THE_MACHINE | frozenset(also), engines, groups)


SHADOWED = frozenset({Engine.PVM})
"""Where KVM shadows the page tables of any guest."""
CHURN = ("pf-emulation", "shadow-paging-churn")

TROUBLES = {
    "short sleeps": trouble("poll-too-short", spec=LabSpec(workload="halt", period_us=20, halt_poll_ns=0)),
    "racing faults": trouble("pf-spurious", spec=LabSpec(workload="race", vcpus=2)),
    "rewritten tables": trouble(*CHURN, spec=LabSpec(workload="retable"), engines=SHADOWED),
    "dropped memory": trouble("tlb-shootdowns", "memory-refaults", spec=LabSpec(workload="drop", vcpus=2)),
    "device registers": trouble("mmio-storm", spec=LabSpec(workload="mmio")),
    "ports that are not counted": trouble("userspace-exits", spec=LabSpec(workload="pio"), engines=SHADOWED),
    "kicks": trouble("vmm-kicks", spec=LabSpec(workload="kicked", period_us=100)),
    "a slow VMM": trouble("vmm-time", "mmio-storm", spec=LabSpec(workload="mmio"), groups=("userspace",)),
    "an instruction that KVM cannot emulate": trouble(
        "kvm-internal-error",
        spec=LabSpec(workload="undecodable"),
        also=("emulation-failure", "userspace-exits", "vmm-time"),
        groups=("userspace",),
    ),
    "a lock that is held": trouble(
        "mmu-lock-contended",
        "memory-logged",
        *CHURN,
        spec=LabSpec(workload="logged", vcpus=2),
        also=("tlb-shootdowns",),
        engines=SHADOWED,
        groups=("mmu_lock",),
    ),
    "logged memory": trouble("memory-logged", spec=LabSpec(workload="dirty"), also=CHURN),
    "fresh memory": trouble(spec=LabSpec(workload="fault")),
    "a lock for one": trouble(*CHURN, spec=LabSpec(workload="retable"), engines=SHADOWED, groups=("mmu_lock",)),
}

WASTING = LabSpec(workload="uneven", period_us=60)
POLLING = LabSpec(workload="halt", period_us=100)


@contextlib.contextmanager
def guests(*specs: LabSpec) -> Iterator[list[Running]]:
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(process.start(spec)) for spec in specs]
        for each in running:
            each.go()
        yield running


def looks(host: collect.Host, windows: int = WINDOWS_AT_MOST) -> Iterator[HostView]:
    """What there is to say after each window."""
    return itertools.islice(host.watch(WINDOW_S), windows)


def found(report: HostView, pid: int) -> dict[str, Finding]:
    """The findings of one VMM, by rule."""
    pids = report.scene.sample.vms.pid
    return {finding.rule.slug: finding for finding in report.judgement.findings if int(pids[finding.vm_row]) == pid}


def look_until(host: collect.Host, holds: Callable[[HostView], bool], *, at_least: int = WINDOWS) -> HostView:
    """The report of the first window from the ``at_least``-th on in which it holds, else of the last."""
    for report in looks(host):
        if report.log.windows >= at_least and holds(report):
            break
    return report


# -- troubles --------------------------------------------------------------------------------------------------------


NOT_COUNTED = {"dirty_bytes_per_s", "dirty_fetched_pages_per_s"} | {
    "cpu_pressure_share",
    "cpu_stall_share",
    "memory_pressure_share",
}
"""Evidence that an opt-in group adds, which no case counts by; and of a cgroup of its own, which guests here lack."""


@pytest.mark.parametrize("name", TROUBLES)
def test_a_guest_with_a_trouble_has_exactly_the_findings_that_name_it(name: str) -> None:
    case = TROUBLES[name]
    if find_engine() not in case.engines:
        pytest.skip("this host's KVM runs the guest without this trouble")
    for _ in range(2):  # vCPUs of one guest may hardly meet, where those of the next one do
        with guests(case.spec) as (guest,), collect.open_host("bpf", case.groups) as host:
            start_s, waited_s = time.monotonic(), queued_s(guest.pid)
            report = look_until(host, lambda report: case.rules <= found(report, guest.pid).keys())
            findings = found(report, guest.pid)
            queued = (queued_s(guest.pid) - waited_s) / (time.monotonic() - start_s)
        if case.rules <= findings.keys():
            break
    if not case.rules <= findings.keys() and queued > QUEUED_TOO_LONG * case.spec.vcpus:
        pytest.skip(f"the CPUs are too busy for this guest: its threads were queued {queued:.0%} of the time")
    assert case.rules <= findings.keys() <= case.rules | case.also
    for slug in case.rules:
        assert {name for name, value in findings[slug].evidence.items() if value is None} <= NOT_COUNTED


def queued_s(pid: int) -> float:
    """For how long the threads of a process were ready to run and had to wait for a CPU."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text(encoding="ascii").split()[1]) for file in files) / 1e9


def test_guests_that_wait_for_a_cpu_after_they_were_woken_are_told() -> None:
    """As many vCPUs as there are CPUs twice compute; the one that is woken has less claim to a CPU."""
    busy = LabSpec(workload="spin", vcpus=2 * (os.cpu_count() or 1))
    with guests(busy, LabSpec(workload="halt", period_us=4000)) as (_, guest), open_host_with("wakeups") as host:
        for task in Path(f"/proc/{guest.pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(task.name), 5)
        report = look_until(host, lambda report: "wakeups-late" in found(report, guest.pid))
        assert found(report, guest.pid).keys() - OF_THE_MACHINE == {"wakeups-late"}


def test_short_sleeps_beside_busy_cpus_are_blamed_on_contention_and_not_on_the_limit() -> None:
    """KVM polls for 200 µs at most and the guest halts for 60, but each poll ends at once: the CPU is wanted."""
    busy = LabSpec(workload="spin", vcpus=os.cpu_count() or 1)
    with guests(busy, LabSpec(workload="halt", period_us=60)) as (_, guest), collect.open_host("bpf") as host:
        report = look_until(host, lambda report: "poll-cut-short" in found(report, guest.pid))
        findings = found(report, guest.pid)
        if (
            "poll-cut-short" not in findings
            and moved(report, guest.pid, "halt_wakeup") < 600 * report.window.interval_s
        ):
            pytest.skip("the CPUs are too busy for this guest to halt 600 times a second")
        assert findings.keys() - {"preempted", "cpu-wait"} == {"poll-cut-short"}


@pytest.mark.needs("root")
def test_a_guest_beside_another_on_one_cpu_is_told_to_wait() -> None:
    with (
        guests(LabSpec(workload="spin"), LabSpec(workload="spin")) as (first, second),
        collect.open_host("bpf") as host,
    ):
        pin_to_one_cpu(first, second)
        report = look_until(host, lambda report: "cpu-wait" in found(report, first.pid))
        findings = found(report, first.pid)
    assert findings.keys() == {"cpu-wait"}
    assert findings["cpu-wait"].lost_vcpus == pytest.approx(0.5, abs=0.4)


@pytest.mark.needs("root")
def test_guests_on_one_cpu_are_told_each_other_and_the_task_that_runs_beside_them() -> None:
    with (
        guests(LabSpec(workload="spin"), LabSpec(workload="spin")) as (first, second),
        spinner() as spinning,
        collect.open_host("bpf", ("wakeups",)) as host,
    ):
        pin_to_one_cpu(first, second)
        os.sched_setaffinity(spinning, {max(os.sched_getaffinity(0))})
        report = look_until(host, lambda report: all(_is_told(report, vm, spinning) for vm in (first, second)))
        told = {vm.pid: causes_of(report, vm.pid, "cpu-wait") for vm in (first, second)}
        evidence = found(report, first.pid)["cpu-wait"].evidence
    for vm, other in ((first, second), (second, first)):
        assert any(name.startswith("VM ") and f"process {other.pid}," in who for name, who in told[vm.pid].items())
        assert any(name.startswith("task ") and f"process {spinning}," in who for name, who in told[vm.pid].items())
    assert (evidence["wait_behind_vcpus_share"] or 0.0) > 0.05


def _is_told(report: HostView, vm: Running, spinning: int) -> bool:
    return f"process {spinning}," in " ".join(causes_of(report, vm.pid, "cpu-wait").values())


def causes_of(report: HostView, pid: int, rule: str) -> dict[str, str]:
    """What is added to a finding: by name the text of the cause."""
    finding = found(report, pid).get(rule)
    if finding is None or finding.rule.adds is None:
        return {}
    added = added_causes(report.scene, report.window, [finding])
    return {cause.name: cause.cause for cause in added.get((finding.rule.adds, finding.vm), ())}


@contextlib.contextmanager
def spinner() -> Iterator[int]:
    """A process that uses a CPU all the time; its pid."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as spinning:
        try:
            yield spinning.pid
        finally:
            spinning.kill()


@pytest.mark.needs("root")
def test_a_guest_that_a_quota_stops_is_told_its_quota() -> None:
    with quota_group() as group, guests(LabSpec(workload="spin")) as (guest,), collect.open_host("bpf") as host:
        enter(group, guest.pid)
        report = look_until(host, lambda report: "cpu-throttled" in found(report, guest.pid))
        findings = found(report, guest.pid)
    assert findings.keys() - {"preempted"} == {"cpu-throttled"}
    assert findings["cpu-throttled"].evidence["cpu_quota_cpus"] == pytest.approx(QUOTA_CPUS)


@pytest.mark.needs("root")
def test_a_vmm_whose_thread_uses_a_cpu_is_told() -> None:
    """The VMM is this process; a thread of it that is no vCPU computes."""
    with Kvm() as kvm, kvm.create_vm(), burning_thread(), collect.open_host("bpf") as host:
        report = look_until(host, lambda report: "vmm-threads-busy" in found(report, os.getpid()))
        findings = found(report, os.getpid())
    if "vmm-threads-busy" not in findings:
        pytest.skip("the CPUs are too busy for this process to get one")
    assert findings.keys() - {"cpu-wait"} == {"vmm-threads-busy"}


COMPUTING_VMM = """
import threading
from kvmscope.lab.kvm import Kvm

def run_once():
    vcpu.request_exit()
    vcpu.run()
    has_run.set()
    threading.Event().wait()

with Kvm() as kvm, kvm.create_vm() as vm, vm.create_vcpu(0) as vcpu:
    has_run = threading.Event()
    threading.Thread(target=run_once, daemon=True).start()
    has_run.wait()
    print("ready", flush=True)
    while True:
        pass
"""


@pytest.mark.needs("root")
def test_a_vmm_whose_main_thread_waits_for_a_cpu_is_told() -> None:
    """Its vCPU rests, and its main thread has half of a CPU, with another program on it."""
    with (
        spinner() as rival,
        subprocess.Popen([sys.executable, "-c", COMPUTING_VMM], stdout=subprocess.PIPE) as vmm,
        collect.open_host("bpf") as host,
    ):
        try:
            assert vmm.stdout is not None and vmm.stdout.readline() == b"ready\n"
            for pid in (rival, vmm.pid):
                os.sched_setaffinity(pid, {max(os.sched_getaffinity(0))})
            report = look_until(host, lambda report: "cpu-wait" in found(report, vmm.pid))
            findings = found(report, vmm.pid)
        finally:
            vmm.kill()
    assert findings.keys() - {"vmm-threads-busy"} == {"cpu-wait"}
    assert (findings["cpu-wait"].evidence["main_run_delay_share"] or 0) > 0.2


def open_host_with(group: str) -> collect.Host:
    return collect.open_host("bpf", (group,))


def test_following_the_advice_on_polling_stops_the_waste_and_ends_the_finding() -> None:
    """The VMM lowers its limit while the guest goes on; nothing else changes."""
    with guests(WASTING) as (guest,), collect.open_host("bpf") as host:
        windows = looks(host, 2 * WINDOWS_AT_MOST)
        for report in itertools.islice(windows, WINDOWS_AT_MOST):
            if fired := found(report, guest.pid).get("poll-waste"):
                break
        require_polling(report, guest.pid, wanted=fired)
        assert fired is not None
        assert "halt-poll-limit" in fired.rule.remedies[0].settings
        guest.limit_halt_poll(0)
        for report in windows:
            if "poll-waste" not in found(report, guest.pid):
                break
        assert {ended.finding.key: ended.why for ended in report.judgement.ended}[fired.key] is EndCause.CLEARED
        before, after = fired.evidence["halt_poll_fail_cpus"], wasted_cpus(next(windows), guest.pid)
        assert before is not None
        assert before >= 0.05
        assert after < 0.005


def test_a_vcpu_that_polls_nearly_all_the_time_is_told() -> None:
    with guests(POLLING) as (guest,), collect.open_host("bpf") as host:
        report = look_until(host, lambda report: "poll-heavy" in found(report, guest.pid))
        require_polling(report, guest.pid, wanted=found(report, guest.pid).get("poll-heavy"))
        assert found(report, guest.pid).keys() - OF_THE_MACHINE == {"poll-heavy"}


def require_polling(report: HostView, pid: int, *, wanted: Finding | None) -> None:
    """Skip where nothing was found because KVM gives a poll up at once: other tasks want the CPU."""
    polls = moved(report, pid, "halt_attempted_poll")
    polled_ns = moved(report, pid, "halt_poll_success_ns") + moved(report, pid, "halt_poll_fail_ns")
    if wanted is None and polled_ns < 20_000 * polls:
        pytest.skip(f"the CPUs are too busy for polling: {polled_ns / max(polls, 1):.0f} ns a poll")


def moved(report: HostView, pid: int, stat: str) -> float:
    """By how much a vCPU stat moved in the last window, over all vCPUs of a VMM."""
    sample = report.scene.sample
    return float(report.window.delta("kvm", Scope.VCPU, stat)[sample.vms.pid[sample.vcpus.vm] == pid].sum())


def wasted_cpus(report: HostView, pid: int) -> float:
    return moved(report, pid, "halt_poll_fail_ns") / 1e9 / report.window.interval_s


@pytest.mark.needs("qemu", "setpriv")
def test_a_vm_that_may_halt_without_an_exit_is_said_to() -> None:
    with Qemu(name="dedicated", writes=1, options=["-overcommit", "cpu-pm=on"]) as qemu:
        qemu.wait_for_done()
        with collect.open_host("bpf") as host:
            report = look_until(host, lambda report: bool(found(report, qemu.pid)), at_least=1)
            assert found(report, qemu.pid).keys() - OF_THE_MACHINE == {"hlt-exits-disabled"}


def test_vcpus_that_have_not_run_for_a_minute_are_told() -> None:
    """Crafted in one thing: the samples say that the VM is a minute older than it is."""
    with guests(LabSpec(workload="bare", vcpus=2)) as (guest,), collect.open_host("bpf") as host:
        scenes = [host.look() for _ in range(3)]
        assert "vcpu-never-ran" not in rules_of(scenes, guest.pid)
        assert rules_of([a_minute_later(scene) for scene in scenes], guest.pid) == {"vcpu-never-ran"}


def a_minute_later(scene: Scene) -> Scene:
    vms = scene.sample.vms
    return replace(scene, sample=replace(scene.sample, vms=replace(vms, created_ns=vms.created_ns - 61_000_000_000)))


def rules_of(scenes: list[Scene], pid: int) -> set[str]:
    watch = Watch()
    *_, last = map(watch.add, scenes)
    assert last is not None
    return set(found(last, pid))


def test_a_vmm_that_does_not_answer_is_told(tmp_path: Path) -> None:
    """Its mmap_lock is held for real; nothing waits for it, and once the lock is free it is named."""
    with stuck_vmm(tmp_path) as (pid, page), collect.open_host("bpf") as host:
        first = host.look()
        row = first.sample.vms.pid.tolist().index(pid)
        assert (first.identities[row].name, first.identities[row].process) == (f"pid-{pid}", None)
        assert first.identities[row].silent_s is not None
        reports = looks(host)
        rules = next(rules for report in reports if (rules := found(report, pid)))
        assert set(rules) == {"vmm-not-answering"}
        page.release()
        last = next(report for report in reports if not found(report, pid))
        row = last.scene.sample.vms.pid.tolist().index(pid)
        assert last.scene.identities[row].silent_s is None
        assert last.scene.identities[row].process is not None


def test_doctor_says_it_with_what_to_do_and_fails_if_asked() -> None:
    with guests(LabSpec(workload="mmio", name="stormy")):
        options = ["--for", "2s", "--interval", "400ms", "--fail-on", "warning", "--json"]
        command = [sys.executable, "-m", "kvmscope", "doctor", "stormy-0", *options]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr.decode()
    (finding,) = [each for each in json.loads(done.stdout)["findings"] if each["rule"] not in OF_THE_MACHINE]
    assert (finding["rule"], finding["name"], finding["severity"]) == ("mmio-storm", "stormy-0", "warning")
    assert finding["evidence"]["mmio_exits_per_s"] >= 1500
    assert finding["remedies"]


# -- no trouble ------------------------------------------------------------------------------------------------------


def test_nothing_is_found_on_a_host_where_nothing_runs() -> None:
    """No VM of this process, and one that was made and waits."""
    with guests(LabSpec(workload="bare", vcpus=2)) as (waiting,), collect.open_host("bpf") as host:
        for report in looks(host, WINDOWS):
            assert waiting.pid in report.scene.sample.vms.pid
            assert found(report, waiting.pid) == found(report, os.getpid()) == {}


def test_nothing_is_found_on_healthy_guests_busy_or_idle() -> None:
    specs = (
        LabSpec(workload="spin", name="computing"),
        LabSpec(workload="halt", name="ticking", vcpus=2, period_us=4000),
        LabSpec(workload="halt", name="waiting", period_us=20_000),
        LabSpec(workload="idle", name="idle", vcpus=2),
    )
    with guests(*specs) as running, collect.open_host("bpf") as host:
        for report in looks(host, WINDOWS + 1):
            for guest in running:
                assert guest.pid in report.scene.sample.vms.pid
                assert found(report, guest.pid).keys() <= OF_THE_MACHINE


def test_nothing_is_found_on_vms_that_start_and_stop_meanwhile() -> None:
    specs = (LabSpec(workload="halt", period_us=4000), LabSpec(workload="fault"), LabSpec(workload="mmio"))
    with guests(LabSpec(workload="churn", vcpus=2)) as (churner,), collect.open_host("bpf") as host:
        watch = Watch()
        watch.add(host.look())
        pids = {churner.pid}
        for spec in specs:
            # Each lives through one end of two windows, and is in uproar while it does.
            with guests(spec) as (guest,):
                pids.add(guest.pid)
                for _ in range(2):
                    view = watch.add(host.look())
                    assert view is not None
                    found_on = [finding.vm_row for finding in view.judgement.findings]
                    by_pid = {int(view.scene.sample.vms.pid[row]) for row in found_on}
                    assert not by_pid & pids
