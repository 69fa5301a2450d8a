"""A spec is filled in and checked where it is made, and survives its way through JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kvmscope.errors import UsageError
from kvmscope.lab.spec import LabSpec, VcpuReport, VcpuState, VmReport, vm_report_from_json, vm_report_to_json
from kvmscope.lab.workloads import GuestIrqchip, GuestPit


def test_defaults_come_from_the_workload() -> None:
    spec = LabSpec(workload="pit").checked()
    assert (spec.irqchip, spec.pit, spec.vcpu_ids, spec.name) == (GuestIrqchip.FULL, GuestPit.REINJECT, (0,), "lab-pit")
    assert spec.vm_name(3) == "lab-pit-3"


def test_ids_decide_how_many_vcpus_there_are() -> None:
    assert LabSpec(workload="pio", vcpu_ids=(0, 5, 9)).checked().vcpus == 3


def test_without_a_count_the_target_is_out_of_reach_but_fits_a_register() -> None:
    assert 2**62 < LabSpec(workload="pio").target < 2**63


@pytest.mark.parametrize(
    "asked",
    [
        {"workload": "no such thing"},
        {"workload": "pio", "vms": 0},
        {"workload": "pio", "vcpus": 0},
        {"workload": "pio", "count": 0},
        {"workload": "pio", "vcpu_ids": (1, 1)},
        {"workload": "pio", "vcpu_ids": (-1,)},
        {"workload": "pio", "irqchip": GuestIrqchip.SPLIT, "pit": GuestPit.DISCARD},
        {"workload": "pio", "halt_poll_ns": -1},
        {"workload": "halt", "irqchip": GuestIrqchip.NONE},
        {"workload": "halt", "period_us": 0},
        {"workload": "hlt", "irqchip": GuestIrqchip.FULL},
        {"workload": "pic", "irqchip": GuestIrqchip.SPLIT},
        {"workload": "pic", "vcpus": 2},
        {"workload": "pic", "vcpu_ids": (4,)},
        {"workload": "pit", "pit": GuestPit.OFF},
        {"workload": "ioapic", "vcpus": 9},
        {"workload": "msi", "vcpu_ids": (255,)},
        {"workload": "bare", "pit": GuestPit.DISCARD, "irqchip": GuestIrqchip.NONE},
    ],
    ids=repr,
)
def test_what_cannot_be_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        LabSpec(**asked).checked()


def test_a_spec_survives_json() -> None:
    spec = LabSpec(
        workload="halt", vcpus=3, count=7, irqchip=GuestIrqchip.SPLIT, halt_poll_ns=0, one_process=True
    ).checked()
    assert LabSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_a_report_survives_json() -> None:
    vcpu = VcpuReport(0, 42, VcpuState.FAILED, 5, 3, {"io": 6}, 0.25, "the guest ended with shutdown")
    report = VmReport(index=1, name="x-1", pid=41, vcpus=(vcpu,), churned=None)
    assert vm_report_from_json(json.loads(json.dumps(vm_report_to_json(report)))) == report
