"""Every branch of the verdict, on samples made by hand."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from kvmscope.analysis.apicv import Branch, Certainty, From, State, VmVerdict, Witness, expect, judge
from kvmscope.analysis.window import Window
from kvmscope.catalog.inhibits import InhibitClass
from kvmscope.errors import UsageError
from kvmscope.host import libvirt_xml
from kvmscope.host.apicv import Hardware, HostApicv
from kvmscope.host.config import Confidential, InterruptConfig, Irqchip, Pit, of_domain, of_process
from kvmscope.host.process import VmmProcess

CASES = sorted((Path(__file__).parents[2] / "data" / "apicv").glob("*.toml"))


def one(
    craft: Any, vm: Any, host: HostApicv | None = None, config: InterruptConfig | None = None, **made: Any
) -> VmVerdict:
    configs = [config] if config else []
    (verdict,) = judge(craft.sample(vm, **made), host or craft.host(), configs).vms
    return verdict


def names(verdict: VmVerdict) -> list[str]:
    return [reason.name for reason in verdict.reasons]


# Active


def test_active_is_what_kvm_says_of_each_vcpu(craft: Any) -> None:
    verdict = one(craft, craft.VerdictVm([craft.VerdictVcpu(0), craft.VerdictVcpu(1)]))
    assert (verdict.state, verdict.branch, verdict.is_verified) == (State.ACTIVE, Branch.ACTIVE, True)
    assert [(vcpu.state, vcpu.active) for vcpu in verdict.vcpus] == [(State.ACTIVE, True)] * 2
    assert verdict.reasons == () and verdict.contradictions == ()
    assert "none of the 13" in verdict.evidence[0].text


def test_a_vcpu_that_never_ran_is_provisional(craft: Any) -> None:
    verdict = one(craft, craft.VerdictVm([craft.VerdictVcpu(exits=0)]))
    assert verdict.vcpus[0].is_provisional
    assert "not run yet" in verdict.vcpus[0].notes[0]


def test_an_idle_vcpu_without_any_event_is_not_active_for_that(craft: Any) -> None:
    verdict = one(craft, craft.VerdictVm([craft.VerdictVcpu(active=False)]))
    assert verdict.state is State.PENDING
    assert verdict.vcpus[0].is_provisional
    assert "next KVM_RUN" in verdict.vcpus[0].notes[0]


def test_an_x2apic_guest_without_x2avic_is_active_in_part(craft: Any) -> None:
    verdict = one(craft, craft.VerdictVm(), craft.host(x2avic=False))
    assert (verdict.state, verdict.branch) == (State.ACTIVE, Branch.PARTLY)
    assert [limit.name for limit in verdict.limits] == ["x2apic-without-x2avic"]
    assert verdict.limits[0].evidence.text == "the flag x2avic"


def test_an_xapic_guest_needs_no_x2avic(craft: Any) -> None:
    vm = craft.VerdictVm([craft.VerdictVcpu(x2apic=False)])
    assert one(craft, vm, craft.host(x2avic=False)).branch is Branch.ACTIVE


def test_x2apic_is_no_limit_on_intel(craft: Any) -> None:
    assert one(craft, craft.VerdictVm(), craft.host(Hardware.INTEL, x2avic=False)).branch is Branch.ACTIVE


@pytest.mark.parametrize(("what", "name"), [("ipi", "ipi-virtualization-off"), ("posting", "device-posting-off")])
def test_what_goes_with_it_and_is_off_is_a_limit(craft: Any, what: str, name: str) -> None:
    verdict = one(craft, craft.VerdictVm([craft.VerdictVcpu(0), craft.VerdictVcpu(1)]), craft.host(**{what: False}))
    (limit,) = verdict.limits
    assert limit.name == name
    assert limit.cost and "kvm_amd with enable_" in limit.remedy
    assert verdict.vcpus[0].branch is Branch.PARTLY


@pytest.mark.parametrize(
    ("cpu_has_it", "text", "remedy"),
    [
        (False, "this CPU has no IPI virtualization", "nothing on this host"),
        (True, "switched off, though this CPU has it", "load kvm_intel with enable_ipiv=1"),
        (None, "IPI virtualization is off", "it stays off where the CPU lacks it"),
    ],
)
def test_a_cpu_that_lacks_ipi_virtualization_is_told_from_one_where_it_is_off(
    craft: Any, cpu_has_it: bool | None, text: str, remedy: str
) -> None:
    host = craft.host(Hardware.INTEL, ipi=False, cpu_ipi=cpu_has_it)
    (limit,) = one(craft, craft.VerdictVm([craft.VerdictVcpu(0), craft.VerdictVcpu(1)]), host).limits
    assert text in limit.text
    assert "VM exit of the sender" in limit.cost
    assert remedy in limit.remedy
    assert ("enable_ipiv=1" in limit.remedy) is (cpu_has_it is not False), "what cannot help is not advised"


def test_erratum_1235_cannot_be_switched_off(craft: Any) -> None:
    host = craft.host(Hardware.AMD, ipi=False, cpu_ipi=False)
    (limit,) = one(craft, craft.VerdictVm([craft.VerdictVcpu(0), craft.VerdictVcpu(1)]), host).limits
    assert "erratum 1235" in limit.text
    assert "nothing on this host" in limit.remedy and "enable_ipiv" not in limit.remedy


@pytest.mark.parametrize("hardware", [Hardware.INTEL, Hardware.AMD])
def test_a_guest_of_one_vcpu_lacks_nothing_without_ipi_virtualization(craft: Any, hardware: Hardware) -> None:
    assert one(craft, craft.VerdictVm(), craft.host(hardware, ipi=False)).branch is Branch.ACTIVE


def test_between_the_end_of_the_last_reason_and_the_next_run_a_vm_is_neither_inhibited_nor_active(craft: Any) -> None:
    vcpus = [craft.VerdictVcpu(0, active=False), craft.VerdictVcpu(1, active=False)]
    before = craft.sample(craft.VerdictVm(vcpus, ["irqwin"]))
    after = craft.sample(craft.VerdictVm(vcpus), at_s=1)
    (verdict,) = judge(after, craft.host(), window=Window(before, after)).vms
    assert (verdict.state, verdict.branch, verdict.reasons) == (State.PENDING, Branch.PENDING, ())
    assert {(vcpu.state, vcpu.is_provisional) for vcpu in verdict.vcpus} == {(State.PENDING, True)}
    assert any("irqwin was set when the window began" in note for note in verdict.notes)


@pytest.mark.parametrize(
    ("others", "state", "branch"),
    [
        ([{"active": True}], State.ACTIVE, Branch.PARTLY),
        ([{"enabled": False}], State.INHIBITED, Branch.INHIBITED),
    ],
)
def test_a_vcpu_that_is_pending_leaves_the_verdict_to_the_others(
    craft: Any, others: list[dict[str, bool]], state: State, branch: Branch
) -> None:
    vcpus = [
        craft.VerdictVcpu(0, active=False),
        *(craft.VerdictVcpu(1, **{"active": False} | other) for other in others),
    ]
    verdict = one(craft, craft.VerdictVm(vcpus))
    assert (verdict.state, verdict.branch) == (state, branch)
    assert state is not State.INHIBITED or verdict.reasons


def test_a_verdict_of_inhibited_always_has_a_reason(craft: Any) -> None:
    for vcpu in (
        craft.VerdictVcpu(active=False),
        craft.VerdictVcpu(active=False, enabled=False),
        craft.VerdictVcpu(has_apic=False),
    ):
        for inhibits in ([], ["absent"], ["irqwin"], ["disabled"]):
            verdict = one(craft, craft.VerdictVm([vcpu], inhibits), craft.host(on="disabled" not in inhibits))
            assert (verdict.state is State.INHIBITED) == bool(verdict.reasons)


def test_what_is_not_known_is_no_limit(craft: Any) -> None:
    assert one(craft, craft.VerdictVm(), craft.host(x2avic=None, ipi=None, posting=None)).branch is Branch.ACTIVE


# Off on the host


def test_a_module_without_it_is_unsupported_with_the_evidence(craft: Any) -> None:
    host = craft.host(Hardware.OTHER, supported=False, on=False)
    verdict = one(craft, craft.VerdictVm([craft.VerdictVcpu(active=False)], ["disabled"]), host)
    assert (verdict.state, verdict.branch) == (State.UNSUPPORTED, Branch.NOT_SUPPORTED)
    assert [vcpu.state for vcpu in verdict.vcpus] == [State.UNSUPPORTED]
    assert {evidence.source for evidence in verdict.evidence} == {From.STATE, From.HOST}
    assert verdict.reasons[0].cause == "the CPU's flags"
    assert verdict.reasons[0].remedy.startswith("None on this host")


def test_off_by_parameter_is_another_thing_and_has_a_remedy(craft: Any) -> None:
    verdict = one(craft, craft.VerdictVm([craft.VerdictVcpu(active=False)], ["disabled"]), craft.host(on=False))
    assert (verdict.state, verdict.branch) == (State.INHIBITED, Branch.OFF_BY_PARAMETER)
    assert verdict.reasons[0].cause == "kvm_amd.parameter=False"
    assert "kvm_amd with avic=1" in verdict.reasons[0].remedy
    intel = one(craft, craft.VerdictVm([], ["disabled"]), craft.host(Hardware.INTEL, on=False))
    assert "kvm_intel with enable_apicv=1" in intel.reasons[0].remedy


def test_off_without_knowing_the_cpu_says_what_would_tell(craft: Any) -> None:
    verdict = one(craft, craft.VerdictVm([], ["disabled"]), craft.host(supported=None, on=None))
    assert (verdict.state, verdict.branch) == (State.INHIBITED, Branch.OFF)
    assert verdict.would_tell


def test_absent_beside_disabled_is_not_blamed(craft: Any) -> None:
    """6.1 never clears ABSENT where it is off."""
    vm = craft.VerdictVm([craft.VerdictVcpu(active=False)], ["disabled", "absent"], ["irqchip_kernel"])
    verdict = one(craft, vm, craft.host(on=False), reasons=craft.REASONS_6_1)
    assert names(verdict) == ["disabled"]
    assert not any("absent" in evidence.text for evidence in verdict.evidence)


def test_a_vm_that_has_it_off_on_a_host_that_has_it_on_is_a_contradiction(craft: Any) -> None:
    assert "says on" in one(craft, craft.VerdictVm([], ["disabled"]), craft.host(on=True)).contradictions[0]


# Inhibited


def test_no_irqchip_in_the_kernel_is_a_branch_of_its_own(craft: Any) -> None:
    vm = craft.VerdictVm([craft.VerdictVcpu(has_apic=False)], ["absent"], [])
    verdict = one(craft, vm, config=craft.config(irqchip=Irqchip.OFF))
    assert (verdict.state, verdict.branch) == (State.INHIBITED, Branch.NO_APIC)
    assert verdict.vcpus[0].active is None
    assert verdict.reasons[0].cause == "option irqchip"
    assert verdict.reasons[0].witness is Witness.AGREES


def test_a_vm_that_is_just_made_may_yet_get_its_irqchip(craft: Any) -> None:
    verdict = one(craft, craft.VerdictVm([], ["absent"], []))
    assert any("may pass" in note for note in verdict.notes)


REASONS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "hyperv": ({}, ["synic_auto_eoi_used"]),
    "blockirq": ({"blockirq": True}, []),
    "physical_id_aliased": ({"id": 1, "apic_id": 0}, []),
    "apic_id_modified": ({"x2apic": False, "apic_id": 5}, []),
    "apic_base_modified": ({"base_moved": True}, []),
    "irqwin": ({}, []),
    "pit_reinj": ({}, ["pit_reinject_mode", "pit_in_kernel"]),
    "sev": ({}, ["sev_active"]),
    "logical_id_aliased": ({"id": 1, "x2apic": False, "apic_id": 1, "ldr": 0x03000000}, []),
    "physical_id_too_big": ({"id": 600, "apic_id": 600}, []),
}


@pytest.mark.parametrize("name", REASONS)
def test_a_reason_comes_with_its_cause_remedy_and_second_witness(craft: Any, name: str) -> None:
    of_vcpu, flags = REASONS[name]
    xapic = {"x2apic": False, "ldr": None} if name == "logical_id_aliased" else {"ldr": 0}
    vcpus = [
        craft.VerdictVcpu(0, active=False, **xapic),
        craft.VerdictVcpu(**{"id": 2, "active": False, "ldr": 0} | of_vcpu),
    ]
    verdict = one(craft, craft.VerdictVm(vcpus, [name], ["irqchip_split", *flags]))
    assert (verdict.state, verdict.branch, names(verdict)) == (State.INHIBITED, Branch.INHIBITED, [name])
    reason = verdict.reasons[0]
    assert reason.certainty is Certainty.CERTAIN
    assert reason.evidence[0].text == f"apicv_inhibit_{name} is set"
    assert reason.cause and reason.remedy and reason.meaning
    assert reason.witness is (Witness.CANNOT_TELL if name == "irqwin" else Witness.AGREES)
    assert verdict.contradictions == ()


@pytest.mark.parametrize("name", ["hyperv", "blockirq", "pit_reinj", "sev", "physical_id_too_big"])
def test_a_reason_whose_condition_is_not_there_is_a_contradiction(craft: Any, name: str) -> None:
    verdict = one(craft, craft.VerdictVm([craft.VerdictVcpu(active=False)], [name]))
    assert verdict.reasons[0].witness is Witness.CONTRADICTS
    assert len(verdict.contradictions) == 1


@pytest.mark.parametrize("name", ["hyperv", "blockirq", "apic_id_modified", "apic_base_modified", "pit_reinj", "sev"])
def test_a_condition_whose_reason_is_not_set_is_a_contradiction(craft: Any, name: str) -> None:
    of_vcpu, flags = REASONS[name]
    verdict = one(craft, craft.VerdictVm([craft.VerdictVcpu(**of_vcpu)], [], ["irqchip_split", *flags]))
    assert verdict.state is State.ACTIVE
    assert verdict.contradictions[0].startswith(f"{name} is not set, but")


def test_reasons_that_outlive_their_condition_are_no_contradiction(craft: Any) -> None:
    vm = craft.VerdictVm([craft.VerdictVcpu(active=False)], ["apic_base_modified", "apic_id_modified", "irqwin"])
    verdict = one(craft, vm)
    assert {reason.witness for reason in verdict.reasons} == {Witness.CANNOT_TELL}
    assert verdict.contradictions == ()


def test_registers_that_were_not_read_contradict_nothing(craft: Any) -> None:
    vcpus = [craft.VerdictVcpu(1, x2apic=False), craft.VerdictVcpu(2, x2apic=False)]
    verdict = one(craft, craft.VerdictVm(vcpus), registers=False)
    assert (verdict.state, verdict.contradictions) == (State.ACTIVE, ())
    inhibited = one(craft, craft.VerdictVm(vcpus, ["apic_id_modified"]), registers=False)
    assert inhibited.reasons[0].witness is Witness.CANNOT_TELL
    assert "writing the id register" in inhibited.reasons[0].cause


def test_intel_ignores_what_only_amd_heeds(craft: Any) -> None:
    vm = craft.VerdictVm([craft.VerdictVcpu(guest_mode=True)], [], ["irqchip_kernel", "pit_reinject_mode"])
    verdict = one(craft, vm, craft.host(Hardware.INTEL))
    assert (verdict.state, verdict.contradictions) == (State.ACTIVE, ())


def test_a_moved_flag_of_the_vcpu_lags_behind_its_vm(craft: Any) -> None:
    verdict = one(craft, craft.VerdictVm([craft.VerdictVcpu(active=True)], ["pit_reinj"], ["pit_reinject_mode"]))
    assert verdict.state is State.INHIBITED
    assert verdict.vcpus[0].active is True
    assert verdict.vcpus[0].is_provisional
    assert "still says active" in verdict.vcpus[0].notes[0]


def test_an_unknown_reason_of_a_newer_kernel_is_shown_by_its_name(craft: Any) -> None:
    vm = craft.VerdictVm([craft.VerdictVcpu(active=False)], ["moon_phase"])
    verdict = one(craft, vm, reasons=[*craft.REASONS, "moon_phase"])
    assert names(verdict) == ["moon_phase"]
    assert verdict.state is State.INHIBITED


# vCPUs of their own


def test_a_nested_guest_takes_avic_from_its_vcpu_alone(craft: Any) -> None:
    vcpus = [craft.VerdictVcpu(0), craft.VerdictVcpu(1, active=False, guest_mode=True)]
    verdict = one(craft, craft.VerdictVm(vcpus))
    assert (verdict.state, verdict.branch) == (State.ACTIVE, Branch.PARTLY)
    assert "active on 1 of 2 vCPUs" in verdict.notes
    assert [reason.name for reason in verdict.vcpus[1].reasons] == ["nested"]
    assert verdict.vcpus[1].state is State.INHIBITED
    assert names(verdict) == ["nested"]


def test_a_local_apic_that_the_guest_switched_off(craft: Any) -> None:
    verdict = one(craft, craft.VerdictVm([craft.VerdictVcpu(active=False, enabled=False)]))
    assert (verdict.state, names(verdict)) == (State.INHIBITED, ["apic_disabled"])
    assert verdict.reasons[0].cls is InhibitClass.GUEST


def test_a_vm_without_vcpus_has_no_verdict_yet(craft: Any) -> None:
    verdict = one(craft, craft.VerdictVm([]))
    assert (verdict.state, verdict.would_tell) == (State.UNKNOWN, ("the VM has no vCPU yet",))


# Without KVM's state


def test_without_state_the_configuration_is_an_expectation_and_the_verdict_unknown(craft: Any) -> None:
    verdict = one(craft, craft.VerdictVm(), config=craft.config(pit=Pit.REINJECT), with_state=False)
    assert (verdict.state, verdict.is_verified, names(verdict)) == (State.UNKNOWN, False, ["pit_reinj"])
    assert verdict.reasons[0].certainty is Certainty.CERTAIN
    assert verdict.reasons[0].evidence[0].source is From.CONFIGURATION
    assert verdict.vcpus[0].active is None
    assert "root" in verdict.would_tell[0]


def test_without_state_nothing_is_claimed_active(craft: Any) -> None:
    settings = craft.config(irqchip=Irqchip.SPLIT, pit=Pit.ABSENT, synic=False, confidential=Confidential.NONE)
    verdict = one(craft, craft.VerdictVm(), config=settings, with_state=False)
    assert (verdict.state, verdict.reasons) == (State.UNKNOWN, ())


def test_without_state_a_host_that_lacks_it_is_unsupported_all_the_same(craft: Any) -> None:
    host = craft.host(Hardware.OTHER, supported=False, on=False)
    verdict = one(craft, craft.VerdictVm(), host, with_state=False)
    assert (verdict.state, verdict.is_verified) == (State.UNSUPPORTED, False)


def test_without_state_a_parameter_that_is_off_is_expected_to_count(craft: Any) -> None:
    verdict = one(craft, craft.VerdictVm(), craft.host(on=False), craft.config(pit=Pit.REINJECT), with_state=False)
    assert (verdict.state, names(verdict)) == (State.UNKNOWN, ["disabled", "pit_reinj"])


# Configuration against state


def test_a_vm_that_is_not_as_its_command_line_says(craft: Any) -> None:
    vm = craft.VerdictVm([craft.VerdictVcpu(active=False)], ["pit_reinj"], ["irqchip_kernel", "pit_reinject_mode"])
    verdict = one(craft, vm, config=craft.config(pit=Pit.DISCARD, irqchip=Irqchip.SPLIT))
    assert len(verdict.contradictions) == 2
    assert verdict.reasons[0].cause == "the in-kernel PIT reinjects ticks"


def test_the_remedy_is_in_the_words_of_who_manages_the_vm(craft: Any) -> None:
    vm = craft.VerdictVm([craft.VerdictVcpu(active=False)], ["pit_reinj"], ["irqchip_kernel", "pit_reinject_mode"])
    assert "<timer" in one(craft, vm, config=craft.config(managed_by="libvirt")).reasons[0].remedy
    assert "-global" in one(craft, vm, config=craft.config(managed_by="proxmox")).reasons[0].remedy
    assert "KVM_REINJECT_CONTROL" in one(craft, vm, config=craft.config(vmm="other")).reasons[0].remedy


# Windows


def test_a_window_says_what_changed_in_it(craft: Any) -> None:
    before = craft.sample(craft.VerdictVm(inhibits=["irqwin", "sev"], flags=["sev_active"]), at_s=0)
    after = craft.sample(
        craft.VerdictVm(inhibits=["sev", "hyperv"], flags=["sev_active", "synic_auto_eoi_used"]), at_s=1
    )
    (verdict,) = judge(after, craft.host(), window=Window(before, after)).vms
    history = {reason.name: reason.history for reason in verdict.reasons}
    assert history == {"hyperv": "set since the window began", "sev": "set at both ends of the window"}
    assert any("irqwin was set" in note for note in verdict.notes)
    assert {reason.share for reason in verdict.reasons} == {None}


def test_with_the_group_a_reason_has_its_share_and_its_beginning(craft: Any) -> None:
    def counted(inhibited_ns: int, unchanged_ns: int, observed_ns: int) -> dict[str, int]:
        return {
            "apicv_inhibited_pit_reinj_ns": inhibited_ns,
            "apicv_inhibit_unchanged_pit_reinj_ns": unchanged_ns,
            "apicv_inhibited_irqwin_ns": inhibited_ns // 2,
            "apicv_observed_ns": observed_ns,
        }

    flags = ["pit_reinject_mode"]
    vcpu = craft.VerdictVcpu(active=False)
    before = craft.sample(craft.VerdictVm([vcpu], ["pit_reinj"], flags, counted(0, 0, 10**9)), counts=True)
    vm = craft.VerdictVm(
        [craft.VerdictVcpu(active_ns=5 * 10**8)], ["pit_reinj"], flags, counted(10**9, 10**9, 3 * 10**9)
    )
    after = craft.sample(vm, at_s=2, counts=True)
    (verdict,) = judge(after, craft.host(), window=Window(before, after)).vms
    reason = verdict.reasons[0]
    assert (reason.share, reason.inhibited_s, reason.since_s, reason.is_older) == (0.5, 1.0, 1.0, False)
    assert any("irqwin held for 25.0%" in note for note in verdict.notes)
    assert verdict.vcpus[0].active_share == 0.25


def test_a_reason_from_before_the_counting_is_at_least_as_old_as_that(craft: Any) -> None:
    counted = {"apicv_inhibit_unchanged_sev_ns": 2 * 10**9, "apicv_observed_ns": 2 * 10**9}
    vm = craft.VerdictVm([craft.VerdictVcpu(active=False)], ["sev"], ["sev_active"], counted)
    reason = one(craft, vm, counts=True).reasons[0]
    assert (reason.since_s, reason.is_older) == (2.0, True)


def test_irq_windows_in_the_window_are_the_witness_of_irqwin(craft: Any) -> None:
    before = craft.sample(craft.VerdictVm([craft.VerdictVcpu()]))
    after = craft.sample(craft.VerdictVm([craft.VerdictVcpu(active=False, irq_windows=7)], ["irqwin"]), at_s=1)
    (verdict,) = judge(after, craft.host(), window=Window(before, after)).vms
    assert verdict.reasons[0].witness is Witness.AGREES
    assert "moved by 7" in verdict.reasons[0].cause


# Simulated, and misuse


def test_a_simulated_vm_is_not_judged_by_this_host(craft: Any) -> None:
    host = craft.host(Hardware.OTHER, supported=False, on=False)
    verdict = one(craft, craft.VerdictVm([], ["disabled"]), host, simulated=True)
    assert verdict.branch is Branch.OFF
    assert "simulated" in verdict.reasons[0].cause


def test_inputs_of_another_sample_are_refused(craft: Any) -> None:
    first, second = craft.sample(craft.VerdictVm()), craft.sample(craft.VerdictVm(), at_s=1)
    with pytest.raises(UsageError, match="window"):
        judge(first, craft.host(), window=Window(first, second))
    with pytest.raises(UsageError, match="2 configurations for 1"):
        judge(first, craft.host(), [craft.config()] * 2)


def test_an_empty_host_has_no_verdicts(craft: Any) -> None:
    assert judge(craft.sample(), craft.host()).vms == ()


# Configurations as they are written


def _read(path: Path) -> tuple[dict[str, Any], InterruptConfig]:
    case = tomllib.loads(path.read_text())
    if "xml" in case:
        return case, of_domain(libvirt_xml.parse_domain(case["xml"].encode()), hardware=Hardware.AMD)
    process = VmmProcess(1, case["vmm"], None, None, case.get("managed_by"), "", tuple(case["argv"]), 0)
    return case, of_process(process, hardware=Hardware.AMD)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
@pytest.mark.parametrize("vendor", ["amd", "intel"])
def test_a_configuration_leads_to_the_expected_reasons_and_remedies(craft: Any, path: Path, vendor: str) -> None:
    case, config = _read(path)
    expected = {e.reason: e for e in expect(config, craft.host(Hardware(vendor)))}
    assert {name: e.certainty.value for name, e in expected.items()} == case[vendor]
    for name, expectation in expected.items():
        assert case.get("remedy", {}).get(name, "") in expectation.remedy
        assert expectation.cause


def test_nothing_is_expected_of_a_configuration_where_kvm_has_no_apicv(craft: Any) -> None:
    host = craft.host(Hardware.OTHER, supported=False)
    assert expect(craft.config(pit=Pit.REINJECT), host) == ()


def test_on_hardware_that_is_not_known_what_one_vendor_heeds_is_possible(craft: Any) -> None:
    (expectation,) = expect(craft.config(pit=Pit.REINJECT), craft.host(None))
    assert expectation.certainty is Certainty.POSSIBLE


def test_the_id_limit_goes_with_the_cpu(craft: Any) -> None:
    config = craft.config(highest_apic_id=300)
    assert expect(config, craft.host(x2avic=True)) == ()
    (expectation,) = expect(config, craft.host(x2avic=False))
    assert expectation.certainty is Certainty.CERTAIN
    (expectation,) = expect(config, craft.host(x2avic=None))
    assert expectation.certainty is Certainty.LIKELY
