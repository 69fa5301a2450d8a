"""The lab's VMM publishes stats of its own as any VMM may: they are what it reports, and end with it."""

from __future__ import annotations

import pytest

from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.sample import Sample
from kvmscope.schema import Scope
from kvmscope.sources.published import PublishedSource

COUNT = 500
TIMEOUT_S = 60.0

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm")]


def of_processes(sample: Sample, pids: set[int]) -> list[int]:
    """Rows of the vCPUs of these processes' VMs."""
    return [row for row, vm in enumerate(sample.vcpus.vm.tolist()) if int(sample.vms.pid[vm]) in pids]


def test_what_the_vmm_publishes_is_what_it_reports() -> None:
    spec = LabSpec(workload="pio", vms=2, vcpus=2, count=COUNT, name="tells", publishes=True)
    with PublishedSource(simulated=False) as source:
        with process.start(spec) as running:
            running.wait_for_ready(TIMEOUT_S)
            running.go()
            report = running.wait_for_done(TIMEOUT_S)
            source.walk()
            sample = source.read()
            pids = {vm.pid for vm in report.vms}
        block = sample.block("kvmscope_lab", Scope.VCPU)
        assert block is not None
        rows = of_processes(sample, pids)
        places = [block.rows.tolist().index(row) for row in rows]
        found = {
            (sample.vms.label[sample.vcpus.vm[row]], int(sample.vcpus.id[row])): int(
                block.column("userspace_exits")[place]
            )
            for row, place in zip(rows, places, strict=True)
        }
        assert found == {(vm.name, vcpu.id): sum(vcpu.exits.values()) for vm in report.vms for vcpu in vm.vcpus}
        assert block.column("io_exits")[places].tolist() == [vcpu.exits["io"] for vm in report.vms for vcpu in vm.vcpus]
        assert block.column("is_still")[places].tolist() == [1] * 4
        assert of_processes(source.read(), pids) == []


def test_nothing_is_published_unless_asked() -> None:
    with process.start(LabSpec(workload="pio", count=1)) as running, PublishedSource(simulated=False) as source:
        running.wait_for_ready(TIMEOUT_S)
        assert running.pid not in source.read().vms.pid.tolist()
