"""Findings as series: written as 0 for a quarter of an hour after their end, and a VM's vCPUs with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from crafted import MACHINE, Crafted, VmSpec, identities, make_sample
from prometheus_client.parser import text_string_to_metric_families as parse_text

from kvmscope.analysis.totals import VmTotals
from kvmscope.export.exposition import ExportOptions, Reading, expose
from kvmscope.export.held import HOLD_S, FindingHolds
from kvmscope.export.subjects import Subjects
from kvmscope.export.text import write_text
from kvmscope.scene import Scene
from kvmscope.view.watch import Watch

TROUBLED = "troubled"
Scrape = dict[str, dict[str, float]]
"""Values by name of series and, of the VM alone, by name of VM."""


@pytest.fixture
def scrape() -> Callable[[Sequence[VmSpec], float], Scrape]:
    """What is exported of these VMs at a second, after all that was looked at before."""
    watch, totals, holds = Watch(), VmTotals(), FindingHolds()

    def at(vms: Sequence[VmSpec], second: float) -> Scrape:
        scene = Scene(make_sample(vms, at_s=second), identities(vms), MACHINE, {})
        view, sums = watch.add(scene), totals.update(scene.sample)
        held = () if view is None else holds.update(view)
        series = expose(Reading(scene, Subjects(scene), sums, view, held), ExportOptions())
        found: Scrape = {}
        for family in parse_text(b"".join(write_text(series)).decode()):
            for sample in family.samples:
                found.setdefault(sample.name, {})[sample.labels.get("vm", "").partition("@")[0]] = sample.value
        return found

    return at


def of(crafted: Crafted, exits: int, *more: VmSpec) -> list[VmSpec]:
    """A VM whose count of exits is this; a fall of it is a finding."""
    return [crafted.vm(TROUBLED, [crafted.vcpu(0, {"exits": exits})]), *more]


def test_a_finding_is_1_while_it_holds_0_for_15_minutes_and_then_gone(
    crafted: Crafted, scrape: Callable[[Sequence[VmSpec], float], Scrape]
) -> None:
    assert HOLD_S == 15 * 60
    scrape(of(crafted, 1000), 0)
    assert scrape(of(crafted, 10), 1)["kvm_vm_finding"] == {TROUBLED: 1}
    assert scrape(of(crafted, 20), 2)["kvm_vm_finding"] == {TROUBLED: 0}
    assert scrape(of(crafted, 30), 1 + HOLD_S)["kvm_vm_finding"] == {TROUBLED: 0}
    assert "kvm_vm_finding" not in scrape(of(crafted, 40), 2 + HOLD_S)


def test_vcpus_of_that_vm_alone_are_written_as_long_as_it_is_held(
    crafted: Crafted, scrape: Callable[[Sequence[VmSpec], float], Scrape]
) -> None:
    well = crafted.vm("well", [crafted.vcpu(0, {"exits": 5})])
    assert "kvm_vcpu_exits_total" not in scrape(of(crafted, 1000, well), 0)
    for second in (1, 2, 1 + HOLD_S):
        found = scrape(of(crafted, 10 + int(second), well), second)
        assert found["kvm_vcpu_exits_total"] == {TROUBLED: 10 + int(second)}
    assert "kvm_vcpu_exits_total" not in scrape(of(crafted, 5000, well), 2 + HOLD_S)


def test_a_finding_that_comes_back_is_held_from_then_on(
    crafted: Crafted, scrape: Callable[[Sequence[VmSpec], float], Scrape]
) -> None:
    scrape(of(crafted, 1000), 0)
    scrape(of(crafted, 10), 1)
    scrape(of(crafted, 900), 800)
    assert scrape(of(crafted, 20), 801)["kvm_vm_finding"] == {TROUBLED: 1}
    assert scrape(of(crafted, 30), 801 + HOLD_S)["kvm_vm_finding"] == {TROUBLED: 0}


def test_a_vm_that_has_ended_takes_its_findings_along(
    crafted: Crafted, scrape: Callable[[Sequence[VmSpec], float], Scrape]
) -> None:
    well = crafted.vm("well", [crafted.vcpu(0, {"exits": 5})])
    scrape(of(crafted, 1000, well), 0)
    assert "kvm_vm_finding" in scrape(of(crafted, 10, well), 1)
    assert "kvm_vm_finding" not in scrape([well], 2)


def test_no_count_of_a_vm_falls_when_a_vcpu_is_unplugged_or_plugged_again(
    crafted: Crafted, scrape: Callable[[Sequence[VmSpec], float], Scrape]
) -> None:
    steps: list[dict[int, int]] = [{0: 100, 1: 50}, {0: 110}, {0: 120, 1: 3}, {0: 130, 1: 4, 2: 9}, {0: 140}]
    found = []
    for second, counts in enumerate(steps):
        vcpus = [crafted.vcpu(number, {"exits": count}) for number, count in counts.items()]
        found.append(scrape([crafted.vm("a", vcpus)], second)["kvm_vm_exits_total"]["a"])
    assert found == sorted(found)
    assert found == [150, 160, 173, 193, 203]
