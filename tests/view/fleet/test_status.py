"""Hosts by the cost of findings, against the key of what was planted in them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from numpy_fleet import NumpyFleet

from kvmscope.view.fleet.status import fleet_status_view


def test_every_host_has_the_findings_that_were_planted_and_the_sick_come_first(
    numpy_fleet: NumpyFleet, planted: list[dict[str, Any]]
) -> None:
    view = fleet_status_view(numpy_fleet)
    due = Counter(each["host"] for each in planted if each["rule"])
    assert {row.host: row.findings for row in view.hosts if row.findings} == due
    assert view.affected_hosts == len(due)
    assert [bool(row.findings) for row in view.hosts] == [True] * len(due) + [False] * (view.host_count - len(due))
    assert view.findings == sum(due.values())
    assert sum(view.kernels.values()) == view.host_count == 24
    assert (view.vm_count, view.vcpu_count, view.simulated) == (120, 240, True)


def test_a_host_names_its_rules_the_most_urgent_first(numpy_fleet: NumpyFleet) -> None:
    for row in fleet_status_view(numpy_fleet).hosts:
        assert sum(row.rules.values()) == row.findings
        assert (row.worst is None) == (row.findings == 0)
