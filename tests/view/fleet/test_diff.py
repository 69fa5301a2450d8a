"""Metrics of hosts by a property: known differences are found, and none between hosts that are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy_fleet import NumpyFleet

from kvmscope.analysis.difference import DifferenceVerdict
from kvmscope.engines.fleet import FleetHost, FleetMetric
from kvmscope.engines.refusal import EngineRefusal
from kvmscope.errors import UsageError
from kvmscope.view.fleet.diff import fleet_diff_view


class ManyHosts(NumpyFleet):
    """Hosts of a fleet, many times, whose metrics are known: ``change`` is what the second kernel adds to exits."""

    def __init__(self, base: NumpyFleet, change: float) -> None:
        self.place, self.damage = base.place, ()
        first = base.hosts()[0]
        self._hosts = [replace(first, host=f"{n:032}", kernel=f"6.{n % 2}") for n in range(60)]
        chance = np.random.default_rng(1)
        self._values = {
            host.host: host.vcpus * (1000 + chance.normal(0, 20) + change * (host.kernel == "6.1"))
            for host in self._hosts
        }

    def hosts(self) -> Sequence[FleetHost]:
        return self._hosts

    def metrics(self, names: Sequence[str]) -> tuple[Sequence[FleetMetric], Sequence[EngineRefusal]]:
        del names
        return [FleetMetric(host, "exits_per_s", value) for host, value in self._values.items()], ()


def test_a_change_that_all_hosts_of_a_kernel_share_is_found_within_its_bounds(numpy_fleet: NumpyFleet) -> None:
    view = fleet_diff_view(ManyHosts(numpy_fleet, 100.0), values=["6.0", "6.1"])
    [metric] = view.metrics
    first, second = metric.sides
    assert (first.verdict, second.verdict) == (None, DifferenceVerdict.CHANGED)
    assert second.low is not None
    assert second.high is not None
    assert second.low < 100.0 < second.high
    assert first.mean == pytest.approx(1000, rel=0.01)


def test_hosts_that_are_alike_have_not_changed(numpy_fleet: NumpyFleet) -> None:
    [metric] = fleet_diff_view(ManyHosts(numpy_fleet, 0.0)).metrics
    assert metric.sides[1].verdict is DifferenceVerdict.SAME


def test_a_fleet_is_compared_by_kernel_module_or_parameter(numpy_fleet: NumpyFleet) -> None:
    view = fleet_diff_view(numpy_fleet)
    assert view.sides[0].hosts == max(side.hosts for side in view.sides)
    assert sum(side.hosts for side in view.sides) == 24
    exits = next(metric for metric in view.metrics if metric.name == "exits_per_s")
    assert [side.value for side in exits.sides] == [side.value for side in view.sides]
    by_avic = fleet_diff_view(numpy_fleet, by="kvm_amd.avic", values=["N", "Y"])
    assert [(side.value, side.hosts) for side in by_avic.sides] == [("N", 4), ("Y", 6)]


@pytest.mark.parametrize(
    ("by", "values", "words"),
    [
        ("colour", [], "not by 'colour'"),
        ("kernel", ["9.9"], "no host has kernel '9.9'"),
        ("cpu", ["Neoverse-N1"], "two"),
    ],
)
def test_sides_that_are_not_there_are_refused(numpy_fleet: NumpyFleet, by: str, values: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        fleet_diff_view(numpy_fleet, by=by, values=values)
