"""What is wrong in a fleet, against the key of what was planted in it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from numpy_fleet import NumpyFleet

from kvmscope.errors import UsageError
from kvmscope.view.fleet.doctor import FleetDoctorView, fleet_doctor_view


@pytest.fixture(scope="module")
def view(numpy_fleet: NumpyFleet) -> FleetDoctorView:
    return fleet_doctor_view(numpy_fleet)


def test_each_rule_counts_the_vms_and_hosts_in_which_it_was_planted(
    view: FleetDoctorView, planted: list[dict[str, Any]]
) -> None:
    vms = Counter(each["rule"] for each in planted if each["rule"])
    hosts = Counter(rule for rule, _ in {(each["rule"], each["host"]) for each in planted if each["rule"]})
    assert {total.rule: total.vms for total in view.by_rule} == vms
    assert {total.rule: total.hosts for total in view.by_rule} == hosts
    assert all(sum(total.kernels.values()) == total.vms for total in view.by_rule)


def test_problems_come_first_and_then_what_costs_most(view: FleetDoctorView) -> None:
    lesser = [total for total in view.by_rule if total.severity.value != "problem"]
    assert view.by_rule[-len(lesser) :] == tuple(lesser)
    costs = [total.cost_cpus or total.lost_vcpus or 0.0 for total in lesser]
    assert costs == sorted(costs, reverse=True)
    assert view.cost_cpus == pytest.approx(sum(total.cost_cpus or 0.0 for total in view.by_rule))


def test_a_rule_about_interrupts_counts_what_inhibits_them(
    view: FleetDoctorView, planted: list[dict[str, Any]]
) -> None:
    due = Counter(each["inhibit"] for each in planted if each["rule"] == "apicv-inhibited")
    [total] = [total for total in view.by_rule if total.rule == "apicv-inhibited"]
    assert {cause.name: cause.findings for cause in total.causes} == due
    assert len(total.remedies) == len(due)


def test_a_reset_is_over_and_the_others_stand(view: FleetDoctorView) -> None:
    assert {total.rule for total in view.by_rule if total.standing < total.vms} <= {"stats-reset"}


def test_a_rule_or_a_host_lists_all_of_its_findings_and_nothing_else(
    numpy_fleet: NumpyFleet, planted: list[dict[str, Any]]
) -> None:
    one = next(each for each in planted if each["rule"])
    by_rule = fleet_doctor_view(numpy_fleet, subject=one["rule"])
    by_host = fleet_doctor_view(numpy_fleet, subject=one["host_name"])
    assert {(each.host, each.vm) for each in by_rule.findings} == {
        (each["host"], each["vm"]) for each in planted if each["rule"] == one["rule"]
    }
    assert {(each.rule, each.vm) for each in by_host.findings} == {
        (each["rule"], each["vm"]) for each in planted if each["host"] == one["host"] and each["rule"]
    }
    assert fleet_doctor_view(numpy_fleet, subject=one["host"][:10]).host == one["host"]


def test_neither_a_rule_nor_a_host_is_refused(numpy_fleet: NumpyFleet) -> None:
    with pytest.raises(UsageError, match="there is no host 'poll-wast'"):
        fleet_doctor_view(numpy_fleet, subject="poll-wast")
