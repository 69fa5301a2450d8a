"""The values of a status screen, by hand-made samples whose answers can be worked out in the head."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kvmscope.analysis.evaluate import Evaluator
from kvmscope.analysis.status import Status, busiest_first, summarize
from kvmscope.analysis.window import Window
from kvmscope.catalog.metrics import Metric, MetricUnit, formulas
from kvmscope.formula.check import Context, check
from kvmscope.formula.parse import blame_text, parse
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


def metric(name: str, formula: str, *, scope: Scope = Scope.VCPU) -> Metric:
    checked = check(parse(formula), scope, Context(), blame_text(formula))
    return Metric(name, name, MetricUnit.COUNT, checked, "", "", "")


EXITS = metric("exits", "rate(exits)")
POLL = metric("poll", "seconds(win_ns) + seconds(lose_ns)")
HALTED = metric("halted", "value(blocking)")
FLUSHES = metric("flushes", "rate(flushes)", scope=Scope.VM)
METRICS = (EXITS, POLL, HALTED, FLUSHES)


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


@pytest.fixture
def window() -> Window:
    before = sample(0, a=[[0, 0, 0, 0], [0, 0, 0, 0]], b=[[0, 0, 0, 0], None], g=[[0, 0, 0, 0]])
    after = sample(1, a=[[10, 0, 0, 1], [20, 0, 0, 0]], b=[[40, 0, 0, 1], None], n=[[5, 0, 0, 1]])
    return Window(before, after)


@pytest.fixture
def status(window: Window) -> Status:
    return summarize(window, METRICS)


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
    assert n.partial == frozenset(), "what is not known at all is not known in part"
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


def test_an_evaluator_that_is_there_already_gives_the_same(window: Window, status: Status) -> None:
    assert summarize(window, METRICS, evaluator=Evaluator(window, formulas(METRICS))) == status


def test_an_empty_host_has_no_total() -> None:
    empty = summarize(Window(sample(0), sample(1)), (EXITS, FLUSHES))
    assert (empty.vms, empty.total, empty.partial) == ((), {"exits": None, "flushes": None}, frozenset())
