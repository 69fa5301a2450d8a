"""What hosts do to interrupts, against the key of what was planted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from numpy_fleet import NumpyFleet

from kvmscope.view.fleet.apicv import FleetApicvView, fleet_apicv_view


@pytest.fixture(scope="module")
def view(numpy_fleet: NumpyFleet) -> FleetApicvView:
    return fleet_apicv_view(numpy_fleet)


def test_vms_are_blocked_by_what_was_planted(view: FleetApicvView, planted: list[dict[str, Any]]) -> None:
    due = Counter(each["inhibit"] for each in planted if each["inhibit"])
    found = dict(view.total.reasons)
    assert found.pop("disabled") == view.total.states["off"] + 10  # those of the two hosts without the hardware
    assert found == due
    assert view.total.states["blocked"] == sum(due.values())


def test_every_vm_is_in_one_state_and_in_one_group_of_kernels_and_vmms(view: FleetApicvView) -> None:
    assert sum(view.total.states.values()) == view.total.vms == view.vm_count
    assert sum(group.vms for group in view.by_kernel) == sum(group.vms for group in view.by_vmm) == view.vm_count
    assert view.total.states["unsupported"] == 20
    for group in (*view.by_kernel, *view.by_parameter, *view.by_vmm):
        assert sum(group.states.values()) == group.vms


def test_a_parameter_that_is_off_has_no_accelerated_vm(view: FleetApicvView) -> None:
    groups = {group.name: group for group in view.by_parameter}
    assert groups["kvm_amd.avic=N"].states["off"] == groups["kvm_amd.avic=N"].vms == 20
    assert groups["kvm_amd.avic=Y"].states["off"] == 0
    assert groups["kvm_amd.avic=Y"].states["active"] > 0


def test_what_would_unblock_most_comes_first_and_its_cost_is_within_the_whole(view: FleetApicvView) -> None:
    costs = [each.cost_cpus for each in view.unblock]
    assert costs == sorted(costs, reverse=True)
    assert sum(costs) <= (view.total.cost_cpus or 0.0) + 1e-9
    assert {each.reason for each in view.unblock} >= {"disabled", "hyperv"}
    assert all(each.vms_alone <= each.vms and each.remedy for each in view.unblock)
