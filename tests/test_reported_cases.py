"""What operators reported of slow VMs, case by case: the finding, the name and the words that end the search.

Each case has the shape of a public report, varied over VMMs, managers and CPU vendors; a test's id is the case. What
needs a live guest or another kernel is in tests/live and tests/kernels, by rule in docs/reference/rules-by-case.md.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from crafted import ListSource
from crafted_host import CraftedHost
from processes import BuildProcess
from reported import INTERVAL_S, PID, Doctor, ReportedVm
from troubles import BUSY, MS

from kvmscope.analysis.caveats import TruthValue, facts_of, judge_all
from kvmscope.catalog.caveats import load_caveats
from kvmscope.catalog.stats import load_stats
from kvmscope.codec.apicv import Counted
from kvmscope.collect import Host
from kvmscope.errors import UsageError
from kvmscope.host.apicv import Hardware
from kvmscope.host.config import config_of
from kvmscope.host.vmm import identify
from kvmscope.sample import Gap
from kvmscope.scene import Scene
from kvmscope.schema import Scope
from kvmscope.sources.bpf.group import choose_hooks
from kvmscope.sources.vmms import Vmm
from kvmscope.view.apicv import apicv_view
from kvmscope.view.check import opened_source
from kvmscope.view.listing import vm_list_view
from kvmscope.view.overview_text import overview_lines, vm_lines
from kvmscope.view.subjects import Selection, find_subject, follow
from kvmscope.view.text import plain

# --- who runs the VM --------------------------------------------------------------------------------------------------

WINDOWS = ("-cpu", "host,hv-relaxed,hv-vapic,hv-spinlocks=0x1fff")
Q35 = ("-machine", "pc-q35-8.2,usb=off")
MONITOR = ("-chardev", "socket,id=charmonitor,fd=20,server=on,wait=off", "-mon", "chardev=charmonitor,id=monitor")
UUID = "83a66210-c446-4ff1-8fce-91f57f3c48f1"
POD = "0c0ffee0-1111-2222-3333-444455556666"


def smbios(text: str) -> tuple[str, str]:
    return "-smbios", f"type=1,{text}"


def qemu(program: str, name: str, *options: str, cgroup: str = "/") -> Mapping[str, Any]:
    """A Windows guest of a QEMU that is started so."""
    return {"argv": [program, "-name", name, *Q35, *WINDOWS, *options], "cgroup": [f"0::{cgroup}"]}


def program(*argv: str) -> Mapping[str, Any]:
    return {"argv": list(argv)}


RUN_BY: Mapping[str, Mapping[str, Any]] = {
    "qemu": qemu("/usr/bin/qemu-system-x86_64", "win"),
    "libvirt": qemu(
        "/usr/bin/qemu-system-x86_64",
        "guest=win,debug-threads=on",
        *MONITOR,
        cgroup="/machine.slice/machine-qemu\\x2d3\\x2dwin.scope/libvirt/emulator",
    ),
    "openstack": qemu(
        "/usr/libexec/qemu-kvm",
        "guest=instance-0000002a",
        *smbios(f"product=OpenStack Compute,uuid={UUID},family=Virtual Machine"),
        *MONITOR,
    ),
    "kubevirt": qemu(
        "/usr/libexec/qemu-kvm",
        "guest=shop_win",
        *smbios("manufacturer=KubeVirt,product=None,family=KubeVirt"),
        *MONITOR,
        cgroup=f"/kubepods.slice/kubepods-pod{POD.replace('-', '_')}.slice/cri-containerd-aa.scope",
    ),
    "proxmox": qemu(
        "/usr/bin/kvm",
        "win,debug-threads=on",
        *("-id", "100", "-pidfile", "/var/run/qemu-server/100.pid"),
        cgroup="/qemu.slice/100.scope",
    ),
    "incus": qemu("/opt/incus/bin/qemu-system-x86_64", "win", "-readconfig", "/run/incus/win/qemu.conf"),
    "opennebula": qemu("/usr/bin/qemu-kvm-one", "guest=one-42", *MONITOR),
    "cloud-hypervisor": program("cloud-hypervisor", "--cpus", "boot=2", "--disk", "path=/srv/win.raw"),
    "firecracker": program("firecracker", "--id", "win", "--api-sock", "/run/win.sock"),
    "crosvm": program("crosvm", "run", "--name", "win", "/srv/vmlinux"),
}


# --- wrong answers ----------------------------------------------------------------------------------------------------

XAPIC = {"pf_taken": 4000, "pf_emulate": 3900, "pf_fixed": 50, "insn_emulation": 3900, "irq_injections": 1500}


@pytest.mark.parametrize("vcpus", [1, 4])
@pytest.mark.parametrize(
    ("module", "reasons", "rule"),
    [
        ("kvm_amd", {"hyperv"}, "apicv-inhibited"),
        ("kvm_amd", {"pit_reinj"}, "apicv-inhibited"),
        ("kvm_intel", {"hyperv"}, "apicv-inhibited"),
        ("kvm_amd", {"disabled"}, None),
        ("kvm_intel", None, None),
    ],
)
def test_xapic_accesses_while_apicv_is_inhibited_are_not_blamed_on_page_tables(
    doctor: Doctor, module: str, reasons: set[str] | None, rule: str | None, vcpus: int
) -> None:
    apicv = None if reasons is None else frozenset(reasons)
    told = doctor(ReportedVm(XAPIC, module=module, apicv=apicv, vcpus=vcpus))
    assert told.rules == ({rule} if rule else set())
    assert "ept=1" not in told.text


@pytest.mark.parametrize(
    ("module", "flags", "parameters", "advises"),
    [
        ("kvm_intel", {"ept"}, {"ept": "N"}, True),
        ("kvm_amd", {"npt"}, {"npt": "N"}, True),
        ("kvm_intel", set(), {"ept": "N"}, False),
        ("kvm_intel", {"ept"}, {"ept": "Y"}, False),
        ("kvm_pvm", set(), {}, False),
    ],
)
def test_page_tables_in_hardware_are_advised_only_to_a_cpu_that_has_them(
    doctor: Doctor, module: str, flags: set[str], parameters: dict[str, str], advises: bool
) -> None:
    rates = {"pf_taken": 4000, "pf_emulate": 2000, "pf_fixed": 2000, "mmu_pte_write": 4000, "insn_emulation": 2000}
    told = doctor(ReportedVm(rates, module=module, cpu_flags=frozenset(flags), parameters=parameters))
    assert "pf-emulation" in told.rules
    assert ("ept=1" in told.text) == advises


NOTIFIED = {"pf_taken": 30_000, "pf_emulate": 29_000, "pf_fixed": 500, "insn_emulation": 29_000, "exits": 40_000}
"""A guest whose virtio devices are notified by MMIO, where KVM does not cache MMIO addresses: an AMD CPU all of whose
52 address bits are in use, or kvm.mmio_caching=N."""


@pytest.mark.parametrize(
    ("caching", "written", "rules"),
    [
        ("N", 0, set()),
        ("N", 20_000, {"pf-emulation"}),
        ("Y", 0, {"pf-emulation"}),
        (None, 0, {"pf-emulation"}),
    ],
)
@pytest.mark.parametrize("module", ["kvm_amd", "kvm_intel"])
def test_notifications_of_devices_are_no_writes_to_page_tables_where_mmio_is_not_cached(
    doctor: Doctor, module: str, caching: str | None, written: int, rules: set[str]
) -> None:
    parameters = {} if caching is None else {"mmio_caching": caching}
    told = doctor(
        ReportedVm({**NOTIFIED, "mmu_pte_write": 2 * written}, module=module, active=True, kvm_parameters=parameters)
    )
    assert told.rules == rules


@pytest.mark.parametrize(("caching", "cost_cpus"), [("N", 2 * 1000 * 4e-6), ("Y", 2 * 1000 * 2e-6 + 2 * 28_980 * 5e-6)])
def test_the_cost_of_inhibited_apicv_has_no_notifications_where_mmio_is_not_cached(
    doctor: Doctor, caching: str, cost_cpus: float
) -> None:
    rates = {**NOTIFIED, "irq_injections": 1000}
    told = doctor(
        ReportedVm(rates, apicv=frozenset({"hyperv"}), module="kvm_amd", kvm_parameters={"mmio_caching": caching})
    )
    assert told.rules == {"apicv-inhibited"}
    assert told.finding("apicv-inhibited").cost_cpus == pytest.approx(cost_cpus, rel=0.01)


@pytest.mark.parametrize(
    ("nested_runs", "rules"), [(18_000, {"nested-cost"}), (2500, {"nested-cost", "pf-retries"}), (0, {"pf-retries"})]
)
def test_faults_that_a_nested_hypervisor_handles_are_no_retries(
    doctor: Doctor, nested_runs: int, rules: set[str]
) -> None:
    told = doctor(ReportedVm({"exits": 90_000, "nested_run": nested_runs, "pf_taken": 12_000, "pf_fixed": 200}))
    assert told.rules == rules


@pytest.mark.parametrize(
    ("module", "paging", "tdp_mmu", "advises"),
    [
        ("kvm_intel", {"ept": "Y"}, "N", True),
        ("kvm_amd", {"npt": "1"}, "N", True),
        ("kvm_intel", {"ept": "Y"}, "Y", False),
        ("kvm_intel", {"ept": "N"}, "N", False),
    ],
)
def test_shadow_pages_of_a_kvm_without_its_tdp_mmu_are_told_from_those_of_nested_guests(
    doctor: Doctor, module: str, paging: dict[str, str], tdp_mmu: str, advises: bool
) -> None:
    rates = {"mmu_shadow_zapped": 1500}
    told = doctor(ReportedVm(rates, module=module, parameters=paging, kvm_parameters={"tdp_mmu": tdp_mmu}))
    assert told.rules == {"shadow-paging-churn"}
    assert ("tdp_mmu=1" in told.text) == advises


def test_the_meaning_of_emulated_faults_has_the_local_apic() -> None:
    stat = load_stats().find("kvm", Scope.VCPU, "pf_emulate")
    assert stat is not None
    assert "local APIC" in stat.meaning


@pytest.mark.parametrize(
    "cpu",
    [
        "host,hv_passthrough,hv-synic=off",
        "host,hv-synic=off,hv-passthrough=on",
        "EPYC-Rome,hv_synic=off,hv_passthrough",
        "host,hv-passthrough,-hv-synic,-hv-time,hv-stimer=off",
    ],
)
def test_hv_passthrough_overrides_what_is_said_of_each_enlightenment(cpu: str, build_process: BuildProcess) -> None:
    facts = {"argv": ["qemu-kvm-renamed", "-machine", "q35", "-accel", "kvm", "-cpu", cpu]}
    process = identify(PID, proc_root=build_process(PID, facts))
    assert config_of(process, hardware=Hardware.INTEL).synic.value is True


@pytest.mark.parametrize(
    ("cpu", "hardware", "nested", "is_sure"),
    [
        ("host,-vmx", Hardware.AMD, None, False),
        ("host,-vmx", Hardware.INTEL, False, True),
        ("host,-svm", Hardware.INTEL, None, False),
        ("host,svm=off", Hardware.AMD, False, True),
        ("Haswell,+vmx", Hardware.AMD, False, True),
        ("Haswell,+vmx", Hardware.INTEL, True, True),
        ("EPYC-Milan,svm=on", Hardware.AMD, True, True),
        ("EPYC-Milan,svm=on", None, True, False),
    ],
)
def test_vmx_and_svm_are_told_apart_by_the_vendor_of_the_host(
    cpu: str, hardware: Hardware | None, nested: bool | None, is_sure: bool, build_process: BuildProcess
) -> None:
    facts = {"argv": ["/usr/bin/kvm", "-machine", "q35", "-cpu", cpu]}
    said = config_of(identify(PID, proc_root=build_process(PID, facts)), hardware=hardware).nested
    assert (said.value, said.is_sure) == (nested, is_sure)


def test_time_in_the_vmm_leaves_out_the_wait_for_a_cpu(doctor: Doctor) -> None:
    rates = {"userspace.userspace_exits": 500, "userspace.userspace_ns": 600 * MS}
    told = doctor(ReportedVm({**rates, "sched.run_delay_ns": 60 * MS}, vcpus=1))
    assert told.finding("vmm-time").lost_vcpus == pytest.approx(0.54)
    assert doctor(ReportedVm({**rates, "sched.run_delay_ns": 500 * MS}, vcpus=1)).rules & {"vmm-time"} == set()


SHORT_SLEEPS = {
    "halt_wakeup": 3000,
    "wait_us:59": 3000,
    "halt_attempted_poll": 1700,
    "halt_successful_poll": 700,
}


@pytest.mark.parametrize("vcpus", [1, 8])
@pytest.mark.parametrize(
    ("failed_after_ns", "limit_ns", "rule"),
    [(128, 200_000, "poll-cut-short"), (128, None, "poll-cut-short"), (2000, 2000, "poll-too-short")],
)
def test_polls_that_end_at_once_are_contention_and_no_reason_to_raise_the_limit(
    doctor: Doctor, failed_after_ns: int, limit_ns: int | None, rule: str, vcpus: int
) -> None:
    rates = {**SHORT_SLEEPS, "halt_poll_fail_ns": 1000 * failed_after_ns}
    told = doctor(ReportedVm(rates, halt_poll_ns=limit_ns, vcpus=vcpus))
    assert told.rules == {rule}
    assert ("Raise the halt polling limit" in told.text) == (rule == "poll-too-short")


@pytest.mark.parametrize("success_ms", [20, 600])
def test_no_vm_is_told_to_poll_less_and_more(doctor: Doctor, success_ms: int) -> None:
    rates = {**SHORT_SLEEPS, "halt_poll_fail_ns": 80 * MS, "halt_poll_success_ns": success_ms * MS}
    told = doctor(ReportedVm(rates, halt_poll_ns=200_000, facts=RUN_BY["libvirt"]))
    assert told.rules & {"poll-waste", "poll-heavy"}
    assert "poll-too-short" not in told.rules
    assert all(finding.polling is not None for finding in told.report.findings)


def test_emulated_faults_and_what_they_drop_are_counted_once(doctor: Doctor) -> None:
    faults = {"pf_taken": 6000, "pf_emulate": 3000, "pf_fixed": 3000, "insn_emulation": 3000}
    told = doctor(ReportedVm({**faults, "mmu_pte_write": 6000, "mmu_pde_zapped": 2000, "mmu_shadow_zapped": 600}))
    assert told.rules == {"pf-emulation", "shadow-paging-churn"}
    costs = {rule: told.finding(rule).cost_cpus for rule in told.rules}
    assert costs == {
        "pf-emulation": pytest.approx(2 * 3000 * 5e-6, rel=0.02),
        "shadow-paging-churn": pytest.approx(2600 * 2e-6),
    }


@pytest.mark.parametrize(("injections", "fires"), [(100, False), (199.9, False), (220, False), (700, True)])
def test_the_ticks_of_a_pit_at_100_hz_are_no_finding_while_apicv_is_active(
    doctor: Doctor, injections: float, fires: bool
) -> None:
    told = doctor(ReportedVm({"irq_injections": injections}, vcpus=1, active=True))
    assert told.rules == ({"injected-despite-apicv"} if fires else set())


@pytest.mark.parametrize(
    "stats",
    [
        {"exits.exit_apic_write_ns": 400 * MS},
        {"exits.exit_apic_access_ns": 400 * MS},
        {"exits.exit_eoi_induced_ns": 400 * MS},
        {"exits.exit_avic_incomplete_ipi_ns": 400 * MS},
        {"exits.exit_avic_unaccelerated_access_ns": 400 * MS},
        {"exits.exit_msr_write_ns": 300 * MS, "exits.exit_msr_read_ns": 100 * MS},
    ],
    ids=lambda stats: next(iter(stats)),
)
def test_accesses_to_the_local_apic_are_costly_exits_of_timers_and_ipis(
    doctor: Doctor, stats: dict[str, float]
) -> None:
    # Those of both tables of exits are counted where either is; a kernel has one of them.
    msr = {} if any("msr" in name for name in stats) else {"exits.exit_msr_ns": 0}
    told = doctor(ReportedVm({**stats, **msr}))
    assert "exits-costly" in told.rules
    assert told.finding("exits-costly").lost_vcpus == pytest.approx(0.8, rel=0.01)


@pytest.mark.parametrize(
    ("msr", "number", "words"),
    [
        ("hv_clock", "0x40000020", "reference TSC"),
        ("x2apic_icr", "0x830", "IPIs"),
        ("tsc_deadline", "0x6e0", "timer"),
    ],
)
def test_an_msr_that_costs_is_named_by_its_number(doctor: Doctor, msr: str, number: str, words: str) -> None:
    rates = {"exits.exit_msr_ns": 400 * MS, f"accesses.msr_{msr}": 90_000, "accesses.msr_other": 0}
    told = doctor(ReportedVm({**rates, "accesses.msr_other_number": 0}, facts=RUN_BY["proxmox"], module="kvm_amd"))
    assert told.causes("exits-costly")[f"MSR {msr}"] == f"MSR {number}"
    assert words in told.text


@pytest.mark.parametrize("program", ["qemu-system-x86_64", "microvm@", "one-qemu"])
def test_with_its_stats_fd_open_a_vm_goes_by_its_vmms_name_and_not_by_the_kernels_label(
    program: str, spawn: Any, eventually: Any, crafted: Any
) -> None:
    argv = [program, "-c", "read line", "-name", "guest=web", "-machine", "q35", "-smp", "2"]
    child = spawn(argv, executable="/bin/sh", stdin=subprocess.PIPE)
    eventually(lambda: (found := identify(child.pid)) is not None and found.name == "web")
    vm = crafted.vm(f"kvm-{child.pid}", [crafted.vcpu(0)], pid=child.pid)
    with Host(ListSource([crafted.make_sample([vm])]), {}) as host:
        scene = host.look()
    assert scene.identities[0].name == "web"
    assert find_subject(scene, "web") == find_subject(scene, str(child.pid)) == Selection(0, None)


@pytest.mark.parametrize("vms", [1, 11])
def test_a_source_that_reads_no_vm_that_it_sees_does_not_work(crafted: Any, vms: int) -> None:
    made = [crafted.vm(f"{number:02}", [crafted.vcpu(0, readable=False)]) for number in range(vms)]
    sample = crafted.with_gaps(crafted.make_sample(made), [Gap(f"its stats fd is not open ({n})") for n in range(vms)])
    source = opened_source("statsfd", replace(sample, blocks=()))
    assert (source.works, source.vms, source.readable_vms) == (False, vms, 0)
    assert len(source.gaps) == vms, "JSON has every reason"
    assert not any("--json" in gap for gap in source.gaps)


def test_a_source_that_does_not_know_a_vms_name_names_its_process() -> None:
    assert Vmm(120, 4242, "python3").title == "process 120 (python3)"
    assert Vmm(120, 4242).title == "process 120"


def test_the_first_line_of_the_doctor_has_the_whole_time_that_it_watched(doctor: Doctor) -> None:
    told = doctor(ReportedVm({}))
    assert "watched for 6 s in 3 intervals" in told.text
    assert told.report.watched_s == pytest.approx(3 * INTERVAL_S)


@pytest.mark.parametrize("module", ["kvm_intel", "kvm_amd"])
def test_between_the_end_of_the_last_reason_and_the_next_run_the_verdict_is_pending(
    doctor: Doctor, module: str
) -> None:
    on = {"kvm_intel": {"enable_apicv": "Y"}, "kvm_amd": {"avic": "Y"}}[module]
    (vm,) = doctor(ReportedVm({}, active=False, apicv=frozenset(), module=module, parameters=on)).view.apicv.vms
    assert (vm.apicv.state.value, vm.apicv.reasons) == ("pending", ())


@pytest.mark.parametrize(
    ("vcpus", "ipiv", "branch", "remedy"),
    [(1, "N", "active", ""), (4, "Y", "active", ""), (4, "N", "partly", "nothing on this host")],
)
def test_without_ipi_virtualization_only_a_vm_with_several_vcpus_is_active_in_part(
    doctor: Doctor, vcpus: int, ipiv: str, branch: str, remedy: str
) -> None:
    on = {"enable_apicv": "Y", "enable_ipiv": ipiv}
    flags = frozenset({"vtpr", "mtf", "vapic_reg", "vid", "posted_intr"})
    told = doctor(ReportedVm({}, vcpus=vcpus, active=True, parameters=on, cpu_flags=flags))
    (vm,) = told.view.apicv.vms
    assert vm.apicv.branch.value == branch
    assert [limit.name for limit in vm.apicv.limits] == (["ipi-virtualization-off"] if remedy else [])
    assert all(limit.cost and remedy in limit.remedy for limit in vm.apicv.limits)
    assert not told.view.apicv.gaps


@pytest.mark.needs("bpf")
def test_what_only_avic_has_is_no_gap_on_intel() -> None:
    hooks = choose_hooks("kvm_intel")
    of_avic = {Counted.INCOMPLETE_IPI, Counted.UNACCELERATED, Counted.GA_LOG}
    assert hooks.foreign == of_avic
    assert not of_avic & hooks.why_not.keys()
    assert choose_hooks("kvm_amd").foreign == frozenset()


def test_a_kernel_without_tdx_has_no_open_question_of_tdx_guests() -> None:
    machine = ReportedVm({}, module="kvm_intel", parameters={"enable_apicv": "Y"}).machine
    (truth,) = judge_all(load_caveats(), ["tdx-injections"], facts_of(machine, CraftedHost().sample())).values()
    assert truth.verdict is TruthValue.DOES_NOT_HOLD


NO_IRQCHIP = {"argv": ["/usr/bin/kvm", "-name", "old", "-machine", "pc,kernel_irqchip=off"]}


def test_what_if_of_a_vm_without_a_local_apic_in_the_kernel_notes_nothing_else(doctor: Doctor) -> None:
    vm = ReportedVm({}, apicv=frozenset({"absent"}), module="kvm_amd", parameters={"avic": "N"}, facts=NO_IRQCHIP)
    (found,) = apicv_view(doctor(vm).view.scene, with_what_if=True).vms
    assert found.what_if is not None
    assert ([each.reason for each in found.what_if.predictions if each.holds], found.what_if.notes) == (["absent"], ())


# --- findings that were missing ---------------------------------------------------------------------------------------

PORTS = {"io_exits": 6144, "fpu_reload": 6144}


@pytest.mark.parametrize("run_by", ["qemu", "libvirt", "cloud-hypervisor", "firecracker"])
def test_returns_to_the_vmm_by_the_ten_thousand_are_found_where_port_io_is_not_counted(
    doctor: Doctor, run_by: str
) -> None:
    told = doctor(ReportedVm({"io_exits": 0, "fpu_reload": 18_000}, module="kvm_pvm", facts=RUN_BY[run_by], vcpus=1))
    assert told.rules == {"userspace-exits"}
    assert told.finding("userspace-exits").cost_cpus == pytest.approx(0.18, rel=0.05)


HYPERV_CLOCK: Mapping[str, str] = {
    "qemu": "QEMU: -cpu …,hv-time=on",
    "libvirt": "libvirt: <timer name='hypervclock' present='yes'/>",
    "openstack": "OpenStack Nova: image property os_type=windows",
    "kubevirt": "KubeVirt: spec.template.spec.domain: clock.timer.hyperv.present: true",
    "proxmox": "Proxmox VE: ostype: win10 or win11",
    "incus": "Incus: raw.qemu=",
    "opennebula": "OpenNebula: FEATURES=[HYPERV=YES]",
    "cloud-hypervisor": "cloud-hypervisor: --cpus …,kvm_hyperv=on",
    "firecracker": "Firecracker runs no Windows guests",
    "crosvm": "crosvm has no Hyper-V features on Linux hosts",
}


@pytest.mark.parametrize("run_by", RUN_BY)
def test_a_windows_guest_on_emulated_clocks_is_offered_hyperv_s_in_the_words_of_who_runs_it(
    doctor: Doctor, run_by: str
) -> None:
    told = doctor(ReportedVm(PORTS, facts=RUN_BY[run_by]))
    assert told.rules == {"port-io-storm"}
    assert any(way.startswith(HYPERV_CLOCK[run_by]) for way in told.ways("port-io-storm"))
    assert HYPERV_CLOCK[run_by] in told.text


@pytest.mark.parametrize("run_by", ["qemu", "libvirt", "openstack", "kubevirt", "proxmox", "opennebula"])
def test_the_clocks_that_a_windows_guest_is_offered_are_causes_of_its_port_io(doctor: Doctor, run_by: str) -> None:
    causes = doctor(ReportedVm(PORTS, facts=RUN_BY[run_by])).causes("port-io-storm")
    assert causes["hyperv-clock"] == "-cpu without hv-time"
    assert causes["hpet"].endswith("hpet=on by default")
    assert "acpi-pm-timer" in causes


XML = b"""<domain type='kvm'><name>win</name><features><acpi/><hyperv><relaxed state='on'/></hyperv></features>
<clock><timer name='rtc' tickpolicy='catchup'/><timer name='hpet' present='yes'/></clock></domain>"""


def test_the_clocks_of_libvirts_xml_are_causes_where_the_command_line_does_not_have_them(doctor: Doctor) -> None:
    facts = {"argv": [*RUN_BY["libvirt"]["argv"], "-readconfig", "/etc/qemu/more.cfg"]}
    causes = doctor(ReportedVm(PORTS, facts=facts, xml=XML)).causes("port-io-storm")
    assert causes.keys() == {"hyperv-clock", "acpi-pm-timer", "hpet", "rtc-catchup"}
    assert causes["rtc-catchup"] == "<timer name='rtc' tickpolicy='catchup'/>"


@pytest.mark.parametrize(
    ("options", "caused"),
    [
        ("boot=4", {"hyperv-clock", "acpi-pm-timer"}),
        ("boot=4,kvm_hyperv=off", {"hyperv-clock", "acpi-pm-timer"}),
        ("boot=4,kvm_hyperv=on", set()),
    ],
)
def test_the_clocks_of_a_windows_guest_of_cloud_hypervisor_are_causes_too(
    doctor: Doctor, options: str, caused: set[str]
) -> None:
    facts = {"argv": ["cloud-hypervisor", "--cpus", options, "--disk", "path=/srv/win.raw"]}
    assert doctor(ReportedVm(PORTS, facts=facts)).causes("port-io-storm").keys() == caused


@pytest.mark.parametrize("vcpus", [1, 2, 16])
@pytest.mark.parametrize(
    ("stat", "rule"),
    [
        ("exit_pause_instruction_ns", "pause-exits"),
        ("exit_pause_ns", "pause-exits"),
        ("exit_ac_excp_ns", "split-locks"),
        ("exit_exception_nmi_ns", "split-locks"),
        ("exit_cpuid_ns", "cpuid-exits"),
        ("exit_wbinvd_ns", "wbinvd-exits"),
        ("exit_rdtsc_ns", "exits-of-one-reason"),
        ("exit_vmgexit_ns", "exits-of-one-reason"),
        ("exit_hypercall_ns", "exits-of-one-reason"),
        ("exit_hlt_ns", None),
    ],
)
def test_a_storm_of_exits_of_any_reason_is_found_with_its_own_text(
    doctor: Doctor, stat: str, rule: str | None, vcpus: int
) -> None:
    told = doctor(ReportedVm({f"exits.{stat}": 600 * MS}, vcpus=vcpus))
    assert told.rules == ({rule} if rule else set())
    if rule == "exits-of-one-reason":
        assert told.causes(rule).keys() == {stat.removeprefix("exit_").removesuffix("_ns")}


@pytest.mark.parametrize("module", ["kvm_amd", "kvm_intel"])
@pytest.mark.parametrize("run_by", ["qemu", "libvirt", "kubevirt", "proxmox", "incus", "firecracker"])
def test_the_price_of_nested_guests_is_found_with_what_to_turn_off(doctor: Doctor, module: str, run_by: str) -> None:
    rates = {"exits": 120_000, "nested_run": 30_000, "irq_injections": 900}
    told = doctor(ReportedVm(rates, module=module, active=module == "kvm_intel", facts=RUN_BY[run_by]))
    assert told.rules == {"nested-cost"}, "and the PIC is not blamed for what is injected into the nested guest"
    assert "VBS" in told.text and "WSL2" in told.text
    flag, other = ("svm", "vmx") if module == "kvm_amd" else ("vmx", "svm")
    said = {"proxmox": "a cpu type without it", "firecracker": f"the bit of {flag.upper()}"}.get(run_by, flag)
    ways = told.ways("nested-cost")
    assert any(said in way for way in ways)
    assert not any(other in way.lower() for way in ways)


def test_faults_without_an_outcome_are_found(doctor: Doctor) -> None:
    told = doctor(ReportedVm({"pf_taken": 90_000, "pf_fixed": 50, "pf_fast": 0, "pf_spurious": 8}))
    assert told.rules == {"pf-retries"}
    assert told.finding("pf-retries").cost_cpus == pytest.approx(2 * 90_000 * 2e-6, rel=0.01)


@pytest.mark.parametrize("pressure_ms", [0, 80])
def test_memory_that_faults_again_and_again_while_none_is_added_is_found(doctor: Doctor, pressure_ms: int) -> None:
    rates = {"pf_taken": 4000, "pf_fixed": 4000, "remote_tlb_flush": 400, "pressure.memory_some_ns": pressure_ms * MS}
    told = doctor(ReportedVm(rates))
    assert told.rules == {"memory-refaults"}
    assert told.finding("memory-refaults").evidence["memory_pressure_share"] == pytest.approx(pressure_ms / 1000)


@pytest.mark.parametrize("halts", [30_000, 250_000])
def test_halts_that_neither_sleep_nor_poll_are_found(doctor: Doctor, halts: int) -> None:
    quiet = {"halt_wakeup": 0, "halt_attempted_poll": 0, "halt_successful_poll": 0, "wait_us:900": 0}
    polls = {"halt_poll_success_ns": 0, "halt_poll_fail_ns": 0}
    told = doctor(ReportedVm({**quiet, **polls, "exits": halts, "halt_exits": halts}))
    assert told.rules == {"halts-without-rest"}


@pytest.mark.parametrize(
    ("stat", "of_kind", "rule", "words"),
    [
        ("userspace_exit_internal_error", "internal_error_delivery_ev", "kvm-internal-error", "Suberror 3"),
        ("userspace_exit_internal_error", "internal_error_unexpected_exit_reason", "kvm-internal-error", "Suberror 4"),
        ("userspace_exit_fail_entry", "entry_failure_invalid_state", "vm-entry-failed", "0x80000021"),
    ],
)
def test_one_internal_error_or_failed_entry_is_found_with_its_kind(
    doctor: Doctor, stat: str, of_kind: str, rule: str, words: str
) -> None:
    told = doctor(ReportedVm({f"userspace.{stat}": 1, f"userspace.{of_kind}": 1}))
    assert told.rules == {rule}
    assert of_kind in told.causes(rule)
    assert words in told.text


IN_CONTAINERS: Mapping[str, str] = {
    "docker": f"/system.slice/docker-{'a' * 64}.scope",
    "podman": f"/machine.slice/libpod-{'b' * 64}.scope/container",
    "kubernetes": f"/kubepods.slice/kubepods-pod{POD.replace('-', '_')}.slice/cri-containerd-{'c' * 64}.scope",
}
RUN_OR_CONTAINED = {**RUN_BY, **{by: qemu("kvm", "win", cgroup=group) for by, group in IN_CONTAINERS.items()}}

CPU_QUOTA: Mapping[str, str] = {
    "docker": "Docker: docker update --cpus",
    "podman": "Podman: podman update --cpus",
    "kubernetes": "Kubernetes: resources.limits.cpu",
    "qemu": "QEMU: cpu.max of its cgroup",
    "libvirt": "libvirt: <vcpu_quota> in <cputune>",
    "openstack": "OpenStack Nova: extra specs quota:cpu_quota",
    "kubevirt": "KubeVirt: spec.template.spec.domain.resources.limits.cpu",
    "proxmox": "Proxmox VE: cpulimit",
    "incus": "Incus sets no quota",
    "firecracker": "Firecracker: jailer --cgroup cpu.max",
}


@pytest.mark.parametrize("run_by", CPU_QUOTA)
def test_a_vm_that_its_quota_stops_is_told_its_quota_in_the_words_of_who_set_it(doctor: Doctor, run_by: str) -> None:
    rates = {
        "sched.run_delay_ns": 300 * MS,
        "sched.run_ns": 600 * MS,
        "cgroup.nr_periods": 10,
        "cgroup.nr_throttled": 6,
    }
    quota = {"cgroup.quota_set": 1, "cgroup.quota_ns": 20_000_000, "cgroup.period_ns": 100_000_000}
    told = doctor(ReportedVm({**rates, "preemption_reported": 400}, quota, facts=RUN_OR_CONTAINED[run_by]))
    assert told.rules == {"cpu-throttled"}
    assert told.finding("cpu-throttled").evidence["cpu_quota_cpus"] == pytest.approx(0.2)
    assert any(way.startswith(CPU_QUOTA[run_by]) for way in told.ways("cpu-throttled"))


def test_preemptions_of_a_vm_whose_quota_is_not_known_name_the_quota_first(doctor: Doctor) -> None:
    told = doctor(ReportedVm({"preemption_reported": 400}, facts=RUN_BY["kubevirt"]))
    assert told.rules == {"preempted"}
    assert told.ways("preempted")[0].startswith("KubeVirt: spec.template.spec.domain.resources.limits.cpu")


@pytest.mark.parametrize("vcpus", [1, 4])
def test_few_accesses_to_a_slow_device_are_found_by_their_time(doctor: Doctor, vcpus: int) -> None:
    accesses = {"mmio_exits": 400, "fpu_reload": 400, "exits.exit_npf": 400, "exits.exit_npf_ns": 400 * 0.352 * MS}
    told = doctor(ReportedVm(accesses, vcpus=vcpus))
    assert told.rules == {"faults-slow"}
    assert told.finding("faults-slow").lost_vcpus == pytest.approx(vcpus * 0.1408, rel=0.01)
    returns = {"userspace.userspace_exits": 400, "userspace.userspace_ns": 400 * 0.6 * MS, "sched.run_delay_ns": 0}
    assert doctor(ReportedVm({"mmio_exits": 400, "fpu_reload": 400, **returns}, vcpus=vcpus)).rules == {"vmm-time"}


@pytest.mark.parametrize("thread", ["main", "iothread", "vhost", "pit"])
def test_a_thread_of_the_vmm_that_burns_a_cpu_is_found_by_its_kind(doctor: Doctor, thread: str) -> None:
    kinds = {f"sched.{kind}_run_ns": 0.0 for kind in ("main", "iothread", "vhost", "pit")}
    rates = {**kinds, f"sched.{thread}_run_ns": 950 * MS, "sched.vmm_run_ns": 0 if thread == "pit" else 960 * MS}
    told = doctor(ReportedVm(rates, facts=RUN_BY["libvirt"]))
    assert told.rules == {"vmm-threads-busy"}
    of_thread = {"main": "vmm_main_cpus"}.get(thread, f"{thread}_cpus")
    assert told.finding("vmm-threads-busy").evidence[of_thread] == pytest.approx(0.95)


def test_a_guest_that_waits_most_of_its_time_is_told_so_and_not_only_that_it_is_preempted(doctor: Doctor) -> None:
    wait = {"sched.run_ns": 185 * MS, "sched.run_delay_ns": 815 * MS, "cgroup.nr_periods": 0, "cgroup.nr_throttled": 0}
    told = doctor(ReportedVm({**wait, "preemption_reported": 400}, vcpus=1, facts=RUN_BY["proxmox"]))
    assert told.rules == {"cpu-wait"}
    assert told.finding("cpu-wait").evidence["run_delay_share"] == pytest.approx(0.815)


# --- who is it --------------------------------------------------------------------------------------------------------

KVM_GUEST = ("-machine", "q35", "-accel", "kvm", "-smp", "2", "-m", "2048")


@pytest.mark.parametrize(
    ("facts", "vmm", "name"),
    [
        (program("/opt/x/qemu-kvm-custom", "-name", "guest=one,debug-threads=on", *KVM_GUEST), "qemu", "one"),
        (program("/usr/bin/qemu-system-x86_64-ev", "-name", "one", *KVM_GUEST), "qemu", "one"),
        (program("/usr/local/bin/one-qemu", "-name", "guest=one-7", *KVM_GUEST), "qemu", "one-7"),
        ({"argv": ["x", "-name", "one"], "executable": "/usr/bin/qemu-system-x86_64 (deleted)"}, "qemu", "one"),
        (program("microvm@web", *KVM_GUEST), "qemu", "web"),
        (program("microvm@web", "-name", "shop", *KVM_GUEST), "qemu", "shop"),
        (program("microvm@web", "--api-socket", "/run/ch.sock", "--cpus", "boot=2"), "cloud-hypervisor", "web"),
        ({"argv": ["microvm@web", "--cpus", "boot=2"], "comm": "cloud-hyperviso"}, "cloud-hypervisor", "web"),
        (program("microvm@web", "--api-sock", "/run/fc.sock"), "firecracker", "web"),
        ({"argv": ["vmm-web"], "threads": {4001: "vmm-web", 4002: "fc_vcpu 0"}}, "firecracker", None),
        (program("/usr/lib/virtualbox/VBoxHeadless", "--comment", "shop", "--startvm", UUID), "virtualbox", "shop"),
        (program("VirtualBoxVM", "--startvm", UUID), "virtualbox", UUID),
        (program("runsc-sandbox", "--root=/run/runsc", "boot", "--bundle=/b", "a" * 64), "gvisor", "a" * 12),
        (program("/opt/kata/bin/containerd-shim-kata-v2", "-id", "b" * 64), "dragonball", "b" * 12),
        (program("/usr/bin/stratovirt", "-name", "guest", "-machine", "microvm"), "stratovirt", "guest"),
        (program("openvmm", "--disk", "file:/srv/a.raw"), "openvmm", None),
        (program("alioth", "boot", "--name", "shop", "--kernel", "/srv/k"), "alioth", "shop"),
        (program("crosvm", "run", "--name", "shop", "/srv/k"), "crosvm", "shop"),
        (program("msb", "machine", "--name", "shop-db"), "libkrun", "shop-db"),
        (program("/home/ann/.boxlite/boxes/01JXA9/bin/boxlite-shim", "run"), "libkrun", "01JXA9"),
    ],
    ids=lambda part: " ".join(part["argv"])[:40] if isinstance(part, dict) else str(part),
)
def test_a_vmm_of_any_name_is_known_by_what_it_is(
    facts: dict[str, Any], vmm: str, name: str | None, build_process: BuildProcess
) -> None:
    process = identify(PID, proc_root=build_process(PID, facts))
    assert process is not None
    assert (process.vmm, process.name) == (vmm, name)


MULTIPASS = "/var/snap/multipass/common/data/multipassd/vault/instances/primary/noble.img"
UNNAMED: Mapping[str, tuple[Mapping[str, Any], str | None, str | None, str | None]] = {
    "disk": (program("kvm", *KVM_GUEST, "-hda", "/srv/a.img"), None, None, "disk /srv/a.img"),
    "socket": (program("kvm", *KVM_GUEST, "-qmp", "unix:/run/b.sock"), None, None, "socket /run/b.sock"),
    "kernel": (program("kvm", *KVM_GUEST, "-kernel", "/srv/k"), None, None, "kernel /srv/k"),
    "cgroup": ({**program("kvm", *KVM_GUEST), "cgroup": ["0::/user.slice/c"]}, None, None, "cgroup /user.slice/c"),
    "cloud-hypervisor": (program("cloud-hypervisor", "--disk", "path=/d.raw"), None, None, "disk /d.raw"),
    "multipass": (program("kvm", *KVM_GUEST, "-drive", f"file={MULTIPASS}"), "primary", "multipass", None),
    "lima": (program("kvm", *KVM_GUEST, "-pidfile", "/home/ann/.lima/default/qemu.pid"), "default", "lima", None),
    "podman machine": (
        program("kvm", *KVM_GUEST, "-qmp", "unix:/run/podman/qmp_dev.sock"),
        "dev",
        "podman-machine",
        None,
    ),
    "android": (program("/opt/qemu/qemu-system-x86_64", "-avd", "Pixel_9"), "Pixel_9", "android", None),
}


@pytest.mark.parametrize(("facts", "name", "manager", "clue"), UNNAMED.values(), ids=UNNAMED)
def test_vms_without_a_name_are_told_apart_by_what_they_have(
    facts: dict[str, Any], name: str | None, manager: str | None, clue: str | None, build_process: BuildProcess
) -> None:
    process = identify(PID, proc_root=build_process(PID, facts))
    assert process is not None
    assert (process.name, process.managed_by, process.clue) == (name, manager, clue)


KNOWN_AS: Mapping[str, Mapping[str, str]] = {
    "qemu": {},
    "libvirt": {"libvirt.domain": "win"},
    "openstack": {"openstack.uuid": UUID, "libvirt.domain": "instance-0000002a"},
    "kubevirt": {
        "kubevirt.namespace": "shop",
        "kubevirt.vm": "win",
        "libvirt.domain": "shop_win",
        "kubernetes.pod_uid": POD,
    },
    "proxmox": {"proxmox.vmid": "100"},
    "incus": {"incus.instance": "win"},
    "opennebula": {"opennebula.vm": "42", "libvirt.domain": "one-42"},
}
NOVA = b"""<domain type='kvm'><name>instance-0000002a</name><title>the shop</title><metadata>
<n:instance xmlns:n='http://openstack.org/xmlns/libvirt/nova/1.1'><n:name>shop-db</n:name>
<n:flavor name='m1.large'/><n:owner><n:user uuid='1'>ann</n:user><n:project uuid='2'>shop</n:project></n:owner>
</n:instance></metadata></domain>"""


@pytest.mark.parametrize("run_by", KNOWN_AS)
def test_a_vm_has_the_words_of_its_managers_and_goes_by_each(doctor: Doctor, run_by: str) -> None:
    scene = doctor(ReportedVm({}, facts=RUN_BY[run_by])).view.scene
    (vm,) = vm_list_view(scene).vms
    assert vm.managed_by == (None if run_by == "qemu" else run_by)
    assert vm.known_as == KNOWN_AS[run_by]
    for word, value in vm.known_as.items():
        if not word.endswith("namespace"):
            assert find_subject(scene, value) == Selection(0, None)


def test_a_vm_of_nova_goes_by_its_display_name_and_title(doctor: Doctor) -> None:
    scene = doctor(ReportedVm({}, facts=RUN_BY["openstack"], xml=NOVA)).view.scene
    (vm,) = vm_list_view(scene).vms
    told = {"openstack.name": "shop-db", "openstack.project": "shop", "openstack.flavor": "m1.large"}
    assert told.items() <= vm.known_as.items()
    for word in ("shop-db", "the shop", UUID, UUID[:8], "instance-0000002a"):
        assert find_subject(scene, word) == Selection(0, None)
    with pytest.raises(UsageError):
        find_subject(scene, "m1.large")


def test_screens_have_the_uuid_and_what_managers_call_a_vm(doctor: Doctor) -> None:
    view = doctor(ReportedVm({}, facts=RUN_BY["openstack"], xml=NOVA)).view
    text = " ".join(plain(vm_lines(view.overview, width=200)))
    for word in (UUID, "by openstack", "openstack.name shop-db", "libvirt.title the shop"):
        assert word in text


RESTS = dict.fromkeys(BUSY, 0)


@pytest.mark.parametrize(
    ("rates", "blocking", "paused"),
    [
        ({"sched.run_ns": 0}, 0, True),
        ({"sched.run_ns": 0}, 1, False),
        ({"sched.run_ns": 0, "exits": 3}, 0, False),
        ({"sched.run_ns": 900 * MS}, 0, False),
        ({}, 0, None),
    ],
    ids=["paused", "idle", "ticks", "halts without exits", "CPU time is not counted"],
)
@pytest.mark.parametrize("vcpus", [1, 8])
def test_a_paused_vm_does_not_look_idle(
    doctor: Doctor, rates: dict[str, float], blocking: int, paused: bool | None, vcpus: int
) -> None:
    view = doctor(ReportedVm({**RESTS, **rates}, vcpu_values={"blocking": blocking}, vcpus=vcpus)).view
    (vm,) = view.overview.vms
    assert vm.paused is paused
    for lines in (vm_lines(view.overview, width=100), overview_lines(view.overview, [0], width=100)):
        assert ("paused" in " ".join(plain(lines))) is bool(paused)


VIRTIO: Mapping[str, str] = {
    "qemu": "QEMU: -device virtio-net-pci",
    "libvirt": "libvirt: <target bus='virtio'/>",
    "openstack": "OpenStack Nova: image properties hw_disk_bus=virtio",
    "kubevirt": "KubeVirt: spec.template.spec.domain.devices",
    "proxmox": "Proxmox VE: scsihw",
    "incus": "Incus: io.bus=virtio-scsi",
    "opennebula": "OpenNebula: DISK=[DEV_PREFIX=vd]",
    "cloud-hypervisor": "cloud-hypervisor has only virtio devices",
    "firecracker": "Firecracker has only virtio devices",
    "crosvm": "crosvm has only virtio devices",
}


@pytest.mark.parametrize("run_by", RUN_BY)
def test_a_remedy_is_in_the_words_of_the_outermost_manager_and_of_nobody_else(doctor: Doctor, run_by: str) -> None:
    told = doctor(ReportedVm({"mmio_exits": 5000, "fpu_reload": 5000}, facts=RUN_BY[run_by]))
    assert told.rules == {"mmio-storm"}
    ways = told.ways("mmio-storm")
    assert any(way.startswith(VIRTIO[run_by]) for way in ways)
    others = {name for name in ("QEMU:", "libvirt:", "KubeVirt:", "Proxmox VE:") if not VIRTIO[run_by].startswith(name)}
    assert not any(way.startswith(tuple(others)) for way in ways if "hpet" not in way)


@pytest.mark.parametrize("run_by", IN_CONTAINERS)
def test_a_vm_in_a_container_is_told_what_its_vmm_takes(doctor: Doctor, run_by: str) -> None:
    ways = doctor(ReportedVm(PORTS, facts=RUN_OR_CONTAINED[run_by])).ways("port-io-storm")
    assert any(way.startswith("QEMU: -cpu …,hv-time=on") for way in ways)
    assert not any("podman machine" in way for way in ways)


def test_where_the_manager_has_no_setting_libvirts_words_follow(doctor: Doctor) -> None:
    rates = {"halt_poll_fail_ns": 80 * MS, "halt_poll_success_ns": 20 * MS}
    ways = doctor(ReportedVm(rates, facts=RUN_BY["openstack"])).ways("poll-waste")
    without_exits = [way for way in ways if "cpu-pm" in way or way == "Nova has no setting for it"]
    assert "libvirt: <qemu:commandline> with -overcommit cpu-pm=on" in without_exits


def test_two_vms_of_one_name_are_numbered_and_keep_their_plain_name(crafted: Any, spawn: Any, eventually: Any) -> None:
    argv = ["qemu-system-x86_64", "-c", "read line", "-name", "twin"]
    children = [spawn(argv, executable="/bin/sh", stdin=subprocess.PIPE) for _ in range(2)]
    eventually(lambda: all((found := identify(c.pid)) is not None and found.name == "twin" for c in children))
    vms = [crafted.vm(f"kvm-{child.pid}", [crafted.vcpu(0)], pid=child.pid) for child in children]
    with Host(ListSource([crafted.make_sample(vms)]), {}) as host:
        listed = vm_list_view(host.look()).vms
    assert {vm.name for vm in listed} == {"twin#1", "twin#2"}
    assert {vm.plain_name for vm in listed} == {"twin"}


def test_a_vm_is_followed_by_its_identity_when_a_migration_makes_a_twin(crafted: Any) -> None:
    first = Scene(crafted.before, crafted.identities, crafted.machine, {})
    followed_vm = follow(first, "web-1")
    names = [identity.name for identity in first.identities]
    twins = tuple(replace(each, name="web-1#1" if each.name == "web-1" else names[0]) for each in first.identities)
    assert followed_vm.locate(replace(first, identities=twins)) == find_subject(first, "web-1")
    gone = followed_vm.locate(Scene(crafted.make_sample([]), (), crafted.machine, {}))
    assert gone is None


def test_a_vm_goes_by_the_id_that_a_listing_shows(doctor: Doctor) -> None:
    scene = doctor(ReportedVm({}, facts=RUN_BY["libvirt"])).view.scene
    (vm,) = vm_list_view(scene).vms
    for word in (str(vm.id), str(vm.id)[:6], str(vm.id).upper()):
        assert find_subject(scene, word) == Selection(0, None)
