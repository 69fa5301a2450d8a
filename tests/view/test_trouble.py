"""Which VM has the costliest findings, and the order of VMs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from crafted import MACHINE, VcpuSpec, VmSpec, identities, make_sample

from kvmscope.catalog.findings import Severity
from kvmscope.scene import Scene
from kvmscope.view.trouble import BY_COST, NAME, VmOrder, troubles_of
from kvmscope.view.watch import HostView, Watch


def vm(name: str, second: int, *, exits: int = 100, mmio: int = 0) -> VmSpec:
    stats = {"exits": exits + mmio, "mmio_exits": mmio, "fpu_reload": mmio}
    return VmSpec(name, [VcpuSpec(0, {key: value * second for key, value in stats.items()})])


def last_view(seconds: int = 3) -> HostView:
    watch, view = Watch(), None
    for second in range(1, seconds + 1):
        vms = [
            vm("busy", second, exits=90_000),
            vm("storm", second, mmio=9_000),
            vm("worse", second, mmio=18_000),
            vm("idle", second),
        ]
        view = watch.add(Scene(make_sample(vms, at_s=second), identities(vms), MACHINE, {}))
    assert view is not None
    return view


def views(seconds: Sequence[Sequence[VmSpec]]) -> Iterator[HostView]:
    watch = Watch()
    for second, vms in enumerate(seconds, start=1):
        view = watch.add(Scene(make_sample(vms, at_s=second), identities(vms), MACHINE, {}))
        if view is not None:
            yield view


def ordered(by: str, *, is_upside_down: bool = False) -> list[str]:
    view = last_view()
    vms = view.overview.vms
    troubles = troubles_of(view.judgement.findings)
    return [vms.names[place] for place in VmOrder().places(vms, by, troubles, is_upside_down=is_upside_down)]


def test_what_costs_most_comes_first_and_then_what_exits_most() -> None:
    assert ordered(BY_COST) == ["worse", "storm", "busy", "idle"]


def test_vms_sort_by_name_and_by_any_metric_also_upside_down() -> None:
    assert ordered(NAME) == ["busy", "idle", "storm", "worse"]
    assert ordered(NAME, is_upside_down=True) == ["worse", "storm", "idle", "busy"]
    assert ordered("exits_per_s")[0] == "busy"


def test_the_trouble_of_a_vm_is_that_of_all_its_findings() -> None:
    view = last_view()
    troubles = troubles_of(view.judgement.findings)
    for vm_id, trouble in troubles.of_vm.items():
        found = [finding for finding in view.findings if finding.vm == vm_id]
        assert trouble.findings == len(found)
        assert trouble.rule == found[0].rule
        costs = [finding.cost_cpus for finding in found if finding.cost_cpus is not None]
        assert trouble.cost_cpus == (sum(costs) if costs else None)
    assert len(troubles.of_vm) == 2
    assert sum(troubles.counts.values()) == len(view.findings)
    assert troubles.counts[Severity.WARNING] == 2


@pytest.mark.parametrize("is_upside_down", [False, True])
def test_vms_that_are_nearly_alike_keep_their_order_while_others_come(is_upside_down: bool) -> None:
    """Their exits vary by a tenth, and who has more changes in each window."""
    seconds = [[vm("a", at, exits=1000 + at % 2), vm("b", at, exits=1001 - at % 2)] for at in range(1, 6)]
    seconds += [[*vms, vm("late", 6, exits=10)] for vms in seconds[-2:]]
    order, found = VmOrder(), []
    for view in views(seconds):
        vms = view.overview.vms
        places = order.places(vms, BY_COST, troubles_of(view.judgement.findings), is_upside_down=is_upside_down)
        found.append([vms.names[place] for place in places if vms.names[place] != "late"])
    assert len(found) == 6
    assert all(names == found[0] for names in found)
