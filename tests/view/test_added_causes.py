"""Causes that are added to findings: what is said of clocks, of ports and MSRs, and of errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from reported import ReportedVm
from rival_samples import sample_of

from kvmscope.analysis.accesses import CountedError, FrequentAccess
from kvmscope.analysis.by_rule import by_rule
from kvmscope.analysis.findings import Finding
from kvmscope.analysis.window import Window
from kvmscope.catalog.addresses import AddressSpace, load_addresses
from kvmscope.catalog.findings import find_rule
from kvmscope.host.apicv import HostFlag, host_apicv
from kvmscope.host.config import config_of
from kvmscope.host.config.clocks import clocks_of
from kvmscope.host.config.hyperv_nesting import hyperv_nesting_of
from kvmscope.host.process import VmmProcess
from kvmscope.scene import Scene, VmIdentity
from kvmscope.view.added_causes import (
    CauseSize,
    SizeUnit,
    access_cause,
    added_causes,
    clock_causes,
    error_cause,
    host_clock_causes,
    nesting_causes,
)
from kvmscope.view.findings import FindingViews, RuleTotal
from kvmscope.view.findings_text import finding_lines, total_lines


def causes(*options: str) -> dict[str, str]:
    """Name and evidence of what is said of a QEMU with these options."""
    argv = ("qemu-system-x86_64", *options)
    process = VmmProcess(1, "qemu", "win", None, None, argv[0], argv, 1)
    return {cause.name: cause.cause for cause in clock_causes(clocks_of(process))}


def test_a_windows_guest_without_a_clock_of_hyper_v_is_told_with_the_option_that_is_missing() -> None:
    assert causes("-machine", "q35", "-cpu", "host,hv-relaxed,hv-vapic") == {
        "hyperv-clock": "-cpu without hv-time",
        "acpi-pm-timer": "machine type q35: acpi=on by default",
        "hpet": "machine type q35: hpet=on by default",
    }


def test_a_clock_without_timers_is_told() -> None:
    assert causes("-machine", "pc,hpet=off", "-cpu", "host,hv-time") == {
        "hyperv-timers": "-cpu without hv-synic, hv-stimer"
    }


def test_lost_ticks_of_the_rtc_that_are_made_up_for_are_told() -> None:
    clocks = ("-machine", "pc,hpet=off", "-cpu", "host,hv-time,hv-synic,hv-stimer")
    assert causes(*clocks, "-rtc", "base=localtime,driftfix=slew") == {"rtc-catchup": "-rtc driftfix=slew"}
    assert causes(*clocks, "-rtc", "base=localtime,driftfix=none") == {}


def test_nothing_is_said_of_a_guest_that_has_all_it_needs_or_is_not_known() -> None:
    assert causes("-machine", "pc,hpet=off", "-cpu", "host,hv-time,hv-synic,hv-stimer,hv-vpindex") == {}
    assert causes("-machine", "pc,hpet=off", "-cpu", "host,hv-passthrough,hv-time=off") == {}
    assert causes("-readconfig", "vm.conf") == {}


def test_an_msr_is_told_by_its_number_and_what_to_do() -> None:
    icr = next(each for each in load_addresses().spaces[AddressSpace.MSR] if each.name == "x2apic_icr")
    cause = access_cause(FrequentAccess(AddressSpace.MSR, icr, None, 12_345.6))
    assert (cause.name, cause.cause) == ("MSR x2apic_icr", "MSR 0x830")
    assert cause.meaning.startswith("IPIs")
    assert cause.size == CauseSize(12_345.6, SizeUnit.ACCESSES_PER_S)


def test_a_port_without_a_name_is_told_by_its_number() -> None:
    cause = access_cause(FrequentAccess(AddressSpace.PORT, None, 0x10, 500.0))
    assert (cause.name, cause.cause) == ("port other", "port 0x10, the last of its kind")


def test_an_error_is_told_by_its_suberror() -> None:
    cause = error_cause(CountedError("internal_error_delivery_ev", 3))
    assert (cause.name, cause.size) == ("internal_error_delivery_ev", CauseSize(3, SizeUnit.ERRORS))
    assert cause.meaning.startswith("Suberror 3:")


def nesting(module: str, *options: str, vmm: str = "qemu", nested: str = "Y") -> dict[str, tuple[str, str]]:
    """Meaning and evidence of what is said of a guest that runs VMs."""
    host = host_apicv(ReportedVm({}, module=module, parameters={"nested": nested}).machine)
    process = VmmProcess(1, vmm, "win", None, None, vmm, (f"{vmm}-system-x86_64", *options), 1)
    config = config_of(process, hardware=host.hardware)
    found = nesting_causes(config, host, hyperv_nesting_of(process))
    return {cause.name: (cause.meaning, cause.cause) for cause in found}


def test_a_windows_guest_that_runs_vms_is_told_why_it_can_and_what_its_hypervisor_lacks() -> None:
    said = nesting("kvm_intel", "-cpu", "Skylake-Server,vmx=on,svm=off,hv-time,hv-vapic")
    assert said == {
        "vmx": ("The guest is shown VMX, so it can run VMs of its own.", "-cpu …,vmx=on"),
        "windows-hypervisor": (
            "The guest is most likely Windows: its hypervisor is Hyper-V, under VBS (memory integrity, Credential "
            "Guard), WSL2, Docker Desktop or VMs of its own.",
            "-cpu …,hv-time and 1 more hv-*",
        ),
        "hyperv-nested": (
            "Hyper-V in the guest is not offered all that saves work between the two hypervisors.",
            "no hv-evmcs, no hv-emsr-bitmap, no hv-tlbflush-direct",
        ),
    }


def test_what_a_guest_gets_from_the_host_is_told_with_the_parameter_of_this_host() -> None:
    said = nesting("kvm_amd", "-cpu", "host,hv-time,hv-emsr-bitmap,hv-tlbflush-direct", nested="1")
    assert said.keys() == {"svm", "windows-hypervisor"}
    assert said["svm"][1].endswith("its parameter nested); kvm_amd.nested=1")


def test_a_guest_that_is_offered_nothing_of_hyper_v_runs_vms_on_purpose() -> None:
    said = nesting("kvm_amd", "-cpu", "EPYC,svm=on,vmx=on")
    assert said.keys() == {"svm", "guest-hypervisor"}
    assert said["guest-hypervisor"][0].startswith("The guest is most likely not Windows")


def test_nothing_is_said_of_a_hypervisor_by_a_configuration_that_does_not_show_it() -> None:
    assert nesting("kvm_intel", "--id", "a", vmm="firecracker") == {}
    assert nesting("kvm_intel", "-cpu", "host,-vmx,hv-passthrough") == {}, "it runs VMs though its options deny it"


def test_the_page_on_windows_has_every_cause_of_clocks_and_nesting() -> None:
    page = (Path(__file__).parents[2] / "docs" / "howto" / "windows.md").read_text(encoding="utf-8")
    clocks = causes("-machine", "q35", "-cpu", "host,hv-relaxed", "-rtc", "driftfix=slew").keys()
    host = {cause.name for cause in host_clock_causes(HostFlag(False, "said"))}
    nested = nesting("kvm_intel", "-cpu", "host,hv-time").keys() | nesting("kvm_amd", "-cpu", "EPYC,+svm").keys()
    assert {name for name in {*clocks, "hyperv-timers", *host, *nested} if f"`{name}`" not in page} == set()


@pytest.fixture
def crowded(crafted: Any) -> tuple[RuleTotal, list[str]]:
    """Two VMs that wait: one for the other and a task, the other for tasks of which one hardly ran."""
    before = sample_of(10, {0: []}, others={0: []})
    after = sample_of(
        12,
        {0: [(2, b"CPU 0/KVM", 900, 1_200_000_000), (7, b"backup", 40, 100_000_000), (9, b"backup", 2, 60_000_000)]},
        others={0: [(7, b"backup", 1, 1_300_000_000), (8, b"kworker/0:1", 1, 3_000_000)]},
    )
    scene = Scene(after, (VmIdentity("web", None), VmIdentity("db", None)), crafted.machine, {})
    rule = find_rule("cpu-wait")
    findings = [Finding(rule, vm, row, None, 2.0, None, 0.6, {}, (), 1) for row, vm in enumerate(scene.sample.vms.ids)]
    added = added_causes(scene, Window(before, after), findings)
    views = FindingViews(dict(zip(scene.sample.vms.ids, ("web", "db"), strict=True)), {}, None, {}, added)
    (total,) = map(views.total, by_rule(findings))
    lines = [line for finding in findings for line in finding_lines(views.reported(finding), width=200)]
    return total, [line.strip() for line in lines if "cause:" in line]


def test_rivals_of_a_finding_are_named_with_their_share_of_the_wait(crowded: tuple[RuleTotal, list[str]]) -> None:
    assert crowded[1] == [
        "cause: VM db: It ran while vCPUs waited for a CPU. "
        "(0.6 vCPU of wall time; 88 % of the wait, in 900 runs; process 2, task CPU 0/KVM)",
        "cause: task backup: It ran while vCPUs waited for a CPU. "
        "(0.05 vCPU of wall time; 7 % of the wait, in 40 runs; process 7, task backup)",
        "cause: task backup: It ran while vCPUs waited for a CPU. "
        "(0.03 vCPU of wall time; 4 % of the wait, in 2 runs; process 9, task backup)",
        "cause: task backup: It ran while vCPUs waited for a CPU. "
        "(0.65 vCPU of wall time; 100 % of the wait, in 1 run; process 7, task backup)",
    ]


def test_rivals_of_several_vms_are_added_up_and_the_one_that_took_most_comes_first(
    crowded: tuple[RuleTotal, list[str]],
) -> None:
    sizes = [cause.size for cause in crowded[0].causes]
    assert [(cause.name, cause.findings) for cause in crowded[0].causes] == [("task backup", 2), ("VM db", 1)]
    assert [size.value for size in sizes if size] == pytest.approx([0.73, 0.6])
    assert {size.unit for size in sizes if size} == {SizeUnit.VCPUS}
    text = "\n".join(total_lines(crowded[0], width=200))
    assert "cause of 2: task backup: It ran while vCPUs waited for a CPU. (0.73 vCPU of wall time in all)" in text
