"""What would be if the host had it on: predicted from the conditions that are there either way."""

from __future__ import annotations

from typing import Any

import pytest

from kvmscope.analysis.apicv import Branch, Certainty, Outcome, WhatIf, judge, what_if
from kvmscope.host.apicv import Hardware, HostApicv
from kvmscope.host.config import InterruptConfig, Irqchip, Pit


def one(
    craft: Any, vm: Any, host: HostApicv | None = None, config: InterruptConfig | None = None, **made: Any
) -> WhatIf:
    configs = [config] if config else []
    (found,) = what_if(craft.sample(vm, **made), host or craft.host(on=False), configs)
    return found


def held(found: WhatIf) -> list[str]:
    return [prediction.reason for prediction in found.predictions if prediction.holds]


def off(craft: Any, vcpus: Any = None, *flags: str) -> Any:
    return craft.VerdictVm(vcpus or [craft.VerdictVcpu(active=False)], ["disabled"], flags or ["irqchip_split"])


def test_a_vm_with_nothing_in_the_way_would_be_accelerated(craft: Any) -> None:
    found = one(craft, off(craft))
    assert (found.outcome, found.is_off, found.host) == (Outcome.ACCELERATED, True, Branch.OFF_BY_PARAMETER)
    assert (held(found), found.first) == ([], ())
    assert any("irqwin is unknown" in note for note in found.notes)


def test_pit_reinjection_would_stand_in_the_way_on_amd_alone(craft: Any) -> None:
    vm = off(craft, None, "irqchip_kernel", "pit_in_kernel", "pit_reinject_mode")
    found = one(craft, vm, config=craft.config(pit=Pit.REINJECT))
    assert (found.outcome, held(found)) == (Outcome.INHIBITED, ["pit_reinj"])
    assert (
        found.first[0].startswith("pit_reinj: ") and "QEMU: -global kvm-pit.lost_tick_policy=discard" in found.first[0]
    )
    intel = one(craft, vm, craft.host(Hardware.INTEL, on=False))
    assert intel.outcome is Outcome.ACCELERATED
    assert "pit_reinj" not in [prediction.reason for prediction in intel.predictions]


def test_without_a_local_apic_in_the_kernel_nothing_else_is_noted(craft: Any) -> None:
    found = one(craft, off(craft, [craft.VerdictVcpu(active=False, has_apic=False)], "x2apic_32bit_ids"))
    assert (found.outcome, held(found), found.notes) == (Outcome.INHIBITED, ["absent"], ())


CAUSES = [
    ("absent", {"has_apic": False}, ["x2apic_32bit_ids"]),
    ("hyperv", {}, ["irqchip_split", "synic_auto_eoi_used"]),
    ("apic_id_modified", {"x2apic": False, "apic_id": 9}, ["irqchip_split"]),
    ("apic_base_modified", {"base_moved": True}, ["irqchip_split"]),
    ("sev", {}, ["irqchip_split", "sev_active"]),
    ("physical_id_too_big", {"id": 5000, "apic_id": 5000}, ["irqchip_split"]),
]


@pytest.mark.parametrize(("name", "of_vcpu", "flags"), CAUSES)
def test_each_lasting_condition_is_predicted_for_itself(craft: Any, name: str, of_vcpu: Any, flags: list[str]) -> None:
    found = one(craft, off(craft, [craft.VerdictVcpu(**{"active": False} | of_vcpu)], *flags))
    assert (found.outcome, held(found)) == (Outcome.INHIBITED, [name])
    (prediction,) = [p for p in found.predictions if p.holds]
    assert prediction.certainty is Certainty.CERTAIN
    assert len(found.first) == 1


def test_the_id_of_an_xapic_is_compared_in_eight_bits(craft: Any) -> None:
    found = one(craft, off(craft, [craft.VerdictVcpu(id=258, x2apic=False, apic_id=2)]))
    assert "apic_id_modified" not in held(found)


def test_an_apic_that_is_off_is_not_compared(craft: Any) -> None:
    found = one(craft, off(craft, [craft.VerdictVcpu(active=False, enabled=False, x2apic=False, apic_id=9)]))
    assert held(found) == []


def test_two_vcpus_of_one_id_alias_unless_the_vmm_speaks_of_32_bits(craft: Any) -> None:
    vcpus = [craft.VerdictVcpu(0), craft.VerdictVcpu(1, apic_id=0)]
    assert held(one(craft, off(craft, vcpus))) == ["physical_id_aliased", "logical_id_aliased"]
    assert held(one(craft, off(craft, vcpus, "irqchip_split", "x2apic_32bit_ids"))) == []


def test_a_vcpu_id_without_a_place_is_refused_by_kernels_that_have_no_reason_for_it(craft: Any) -> None:
    vcpus = [craft.VerdictVcpu(0), craft.VerdictVcpu(4096)]
    assert one(craft, off(craft, vcpus)).outcome is Outcome.INHIBITED
    found = one(craft, off(craft, vcpus), reasons=craft.REASONS_6_1)
    assert found.outcome is Outcome.REFUSED
    assert "4096" in found.first[0]


CLUSTER_1 = {"x2apic": False, "ldr": 0x11000000, "dfr": 0x0FFFFFFF}
CLUSTER_2 = {"x2apic": False, "ldr": 0x21000000, "dfr": 0x0FFFFFFF}


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ({"x2apic": False, "ldr": 0x01000000}, {"x2apic": False, "ldr": 0x02000000}, False),
        ({"x2apic": False, "ldr": 0x01000000}, {"x2apic": False, "ldr": 0x01000000}, True),
        ({"x2apic": False, "ldr": 0x03000000}, {"x2apic": False, "ldr": 0x04000000}, True),
        ({"x2apic": False, "ldr": 0x01000000}, {"x2apic": True, "ldr": 0x00000002}, True),
        ({"x2apic": False, "ldr": 0x01000000}, {"x2apic": True, "ldr": 0}, False),
        ({"x2apic": True, "ldr": 1}, {"x2apic": True, "ldr": 1}, False),
        (CLUSTER_1, CLUSTER_2, False),
        (CLUSTER_1, CLUSTER_1, True),
        (CLUSTER_1, {"x2apic": False, "ldr": 0x02000000}, True),
    ],
)
def test_logical_ids_clash_as_kvms_map_has_it(craft: Any, first: Any, second: Any, clash: bool) -> None:
    vcpus = [craft.VerdictVcpu(0, **first), craft.VerdictVcpu(1, **second)]
    assert held(one(craft, off(craft, vcpus))) == (["logical_id_aliased"] if clash else [])


def test_what_passes_makes_no_vm_inhibited(craft: Any) -> None:
    found = one(craft, off(craft, [craft.VerdictVcpu(active=False, guest_mode=True, blockirq=True)]))
    assert found.outcome is Outcome.ACCELERATED
    assert sorted(held(found)) == ["blockirq", "nested"]
    assert len([note for note in found.notes if "and pass" in note]) == 2


def test_what_the_guest_may_yet_do_is_told(craft: Any) -> None:
    found = one(craft, off(craft), config=craft.config(synic=True, avic_hint=False))
    assert found.outcome is Outcome.ACCELERATED
    assert any(note.startswith("hyperv:") and "option synic" in note for note in found.notes)


def test_the_kernel_before_6_3_has_fewer_reasons_to_predict(craft: Any) -> None:
    vm = craft.VerdictVm([craft.VerdictVcpu(0), craft.VerdictVcpu(1, apic_id=0)], ["disabled", "absent"])
    found = one(craft, vm, reasons=craft.REASONS_6_1)
    assert found.outcome is Outcome.ACCELERATED
    assert "logical_id_aliased" not in [prediction.reason for prediction in found.predictions]


def test_configuration_comes_before_the_guest_in_what_to_change_first(craft: Any) -> None:
    vm = off(craft, None, "irqchip_kernel", "pit_reinject_mode", "synic_auto_eoi_used")
    assert [line.split(":")[0] for line in one(craft, vm).first] == ["pit_reinj", "hyperv"]


def test_without_state_the_configuration_alone_predicts(craft: Any) -> None:
    inhibited = one(craft, craft.VerdictVm(), config=craft.config(irqchip=Irqchip.OFF), with_state=False)
    assert inhibited.outcome is Outcome.INHIBITED
    unknown = one(craft, craft.VerdictVm(), config=craft.config(pit=Pit.DISCARD), with_state=False)
    assert unknown.outcome is Outcome.UNKNOWN


def test_without_the_registers_what_they_tell_is_open(craft: Any) -> None:
    found = one(craft, off(craft), registers=False)
    assert (found.outcome, held(found)) == (Outcome.UNKNOWN, [])
    open_ones = {prediction.reason for prediction in found.predictions if prediction.holds is None}
    assert open_ones == {"physical_id_aliased", "apic_id_modified", "logical_id_aliased", "irqwin"}
    assert any("apic_id_modified is unknown" in note for note in found.notes)


def test_a_kvm_without_hyperv_or_sev_cannot_be_inhibited_by_them(craft: Any) -> None:
    found = one(craft, off(craft), without=["synic_auto_eoi_used", "sev_active"])
    assert found.outcome is Outcome.ACCELERATED
    assert {prediction.reason: prediction.holds for prediction in found.predictions}["hyperv"] is False


def test_a_kvm_that_cannot_have_it_gets_no_predictions(craft: Any) -> None:
    found = one(craft, off(craft), craft.host(Hardware.OTHER, supported=False, on=False))
    assert (found.outcome, found.host, found.predictions) == (Outcome.UNKNOWN, Branch.NOT_SUPPORTED, ())


def test_a_cpu_without_it_is_said_beside_the_predictions(craft: Any) -> None:
    found = one(craft, off(craft), craft.host(supported=False, on=False))
    assert (found.outcome, found.host) == (Outcome.ACCELERATED, Branch.NOT_SUPPORTED)


@pytest.mark.parametrize(("name", "of_vcpu", "flags"), CAUSES)
def test_what_was_predicted_is_what_the_verdict_names_once_it_is_on(
    craft: Any, name: str, of_vcpu: Any, flags: list[str]
) -> None:
    vcpus = [craft.VerdictVcpu(**{"active": False} | of_vcpu)]
    predicted = held(one(craft, off(craft, vcpus, *flags)))
    (verdict,) = judge(craft.sample(craft.VerdictVm(vcpus, [name], flags)), craft.host()).vms
    assert predicted == [reason.name for reason in verdict.reasons]
