"""Metrics of a window, by hand-made samples whose answers can be worked out in the head."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kvmscope.analysis.metrics import measure, sum_by_vm
from kvmscope.analysis.status import Status, busiest_first, summarize
from kvmscope.analysis.window import Window
from kvmscope.catalog.metrics import Form, Metric, MetricUnit
from kvmscope.sample import Sample, VmId
from kvmscope.schema import Descriptor, Kind, Schema, Scope, Unit
from kvmscope.sources.files import StatsOf, VcpuStats, VmStats, assemble

VCPU = Schema(
    "kvm",
    Scope.VCPU,
    (
        Descriptor("exits", Kind.CUMULATIVE, offset=0),
        Descriptor("win_ns", Kind.CUMULATIVE, Unit.SECONDS, exponent=-9, offset=8),
        Descriptor("lose_ns", Kind.CUMULATIVE, Unit.SECONDS, exponent=-9, offset=16),
        Descriptor("blocking", Kind.INSTANT, Unit.BOOLEAN, offset=24),
    ),
    32,
)
VM = Schema("kvm", Scope.VM, (Descriptor("flushes", Kind.CUMULATIVE, offset=0),), 8)


def metric(name: str, form: Form, *stats: tuple[str, ...], scope: Scope = Scope.VCPU) -> Metric:
    return Metric(name, name, MetricUnit.COUNT, "kvm", scope, stats, form, "")


EXITS = metric("exits", Form.RATE, ("exits",))
POLL = metric("poll", Form.SECONDS_PER_SECOND, ("win_ns", "lose_ns"))
HALTED = metric("halted", Form.VALUE, ("blocking",))
FLUSHES = metric("flushes", Form.RATE, ("flushes",), scope=Scope.VM)


def sample(at_s: int, **vms: list[list[int] | None]) -> Sample:
    """``a=[[exits, win_ns, lose_ns, blocking], None]``; a VM's own count is its number of vCPUs times the second."""
    made = [
        VmStats(
            VmId(ord(name)),
            [StatsOf(VM, np.array([len(vcpus) * at_s], dtype=np.uint64))],
            [
                VcpuStats(i, [] if stats is None else [StatsOf(VCPU, np.array(stats, dtype=np.uint64))])
                for i, stats in enumerate(vcpus)
            ],
        )
        for name, vcpus in vms.items()
    ]
    return assemble(made, source="test", taken_ns=0, monotonic_ns=at_s * 10**9)


def test_stats_of_a_list_are_added() -> None:
    window = Window(sample(0, a=[[0, 0, 0, 0]]), sample(2, a=[[0, 3 * 10**8, 10**8, 0]]))
    assert measure(window, POLL).tolist() == pytest.approx([0.2])


def test_the_first_list_that_this_kernel_has_is_taken() -> None:
    window = Window(sample(0, a=[[0, 0, 0, 0]]), sample(1, a=[[5, 0, 0, 0]]))
    assert measure(window, metric("m", Form.RATE, ("sum_exits",), ("exits",))).tolist() == [5.0]
    assert measure(window, metric("m", Form.RATE, ("exits", "sum_exits"), ("lose_ns",))).tolist() == [0.0]


def test_a_metric_without_its_stats_is_not_known() -> None:
    window = Window(sample(0, a=[[0, 0, 0, 0]]), sample(1, a=[[5, 0, 0, 0]]))
    assert np.isnan(measure(window, metric("m", Form.RATE, ("sum_exits",)))).tolist() == [True]


def test_a_sum_over_vcpus_says_how_many_are_missing() -> None:
    now = sample(1, a=[[1, 0, 0, 0], [2, 0, 0, 0]], b=[[4, 0, 0, 0], None], c=[None], d=[])
    sums = sum_by_vm(now, np.array([1.0, 2.0, 4.0, np.nan, np.nan]))
    np.testing.assert_equal(sums.values, [3.0, 4.0, np.nan, np.nan])
    assert sums.unknown.tolist() == [0, 1, 1, 0]


@pytest.fixture
def status() -> Status:
    before = sample(0, a=[[0, 0, 0, 0], [0, 0, 0, 0]], b=[[0, 0, 0, 0], None], g=[[0, 0, 0, 0]])
    after = sample(1, a=[[10, 0, 0, 1], [20, 0, 0, 0]], b=[[40, 0, 0, 1], None], n=[[5, 0, 0, 1]])
    return summarize(Window(before, after), (EXITS, POLL, HALTED, FLUSHES))


def test_a_vm_is_the_sum_of_its_vcpus(status: Status) -> None:
    a = status.vms[0]
    assert a.metrics == {"exits": 30.0, "poll": 0.0, "halted": 1.0, "flushes": 2.0}
    assert [vcpu.metrics["exits"] for vcpu in a.vcpus] == [10.0, 20.0]
    assert a.partial == frozenset()


def test_a_vm_with_an_unreadable_vcpu_is_partial(status: Status) -> None:
    b = status.vms[1]
    assert b.metrics["exits"] == 40.0
    assert b.partial == {"exits", "poll", "halted"}
    assert b.vcpus[1].metrics == {"exits": None, "poll": None, "halted": None}


def test_a_vm_that_came_has_no_rates_but_values(status: Status) -> None:
    n = status.vms[2]
    assert n.metrics == {"exits": None, "poll": None, "halted": 1.0, "flushes": None}
    assert (status.vms_came, status.vms_gone) == (1, 1)


def test_the_total_is_of_what_is_known(status: Status) -> None:
    assert status.total == {"exits": 70.0, "poll": 0.0, "halted": 3.0, "flushes": 4.0}
    assert status.partial == {"exits", "poll", "halted", "flushes"}


def test_no_nan_leaves(status: Status) -> None:
    of_vms = [value for vm in status.vms for value in vm.metrics.values()]
    of_vcpus = [value for vm in status.vms for vcpu in vm.vcpus for value in vcpu.metrics.values()]
    assert not any(value is not None and math.isnan(value) for value in of_vms + of_vcpus)


def test_the_busiest_come_first_and_the_unknown_last(status: Status) -> None:
    assert [chr(vm.id.value) for vm in busiest_first(status, "exits")] == ["b", "a", "n"]


def test_an_empty_host_has_no_total() -> None:
    empty = summarize(Window(sample(0), sample(1)), (EXITS, FLUSHES))
    assert (empty.vms, empty.total) == ((), {"exits": None, "flushes": None})
