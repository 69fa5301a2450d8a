"""The values of a status screen, by hand-made samples whose answers can be worked out in the head."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kvmscope.analysis.evaluate import Evaluator
from kvmscope.analysis.status import HostStatus, MetricRow, MetricTable, PartialMetrics, summarize
from kvmscope.analysis.window import F64Array, Window
from kvmscope.catalog.metrics import Metric, MetricUnit, formulas
from kvmscope.formula.check import Context, Formula, check
from kvmscope.formula.parse import blame_text, parse
from kvmscope.formula.tree import Level
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
def status(window: Window) -> HostStatus:
    return summarize(window, METRICS)


def metrics_of(table: MetricTable, row: int) -> dict[str, float | None]:
    return dict(MetricRow(table, row))


def test_a_vm_is_the_sum_of_its_vcpus(status: HostStatus) -> None:
    assert metrics_of(status.vms, 0) == {"exits": 30.0, "poll": 0.0, "halted": 1.0, "flushes": 2.0}
    assert status.vcpus.column("exits")[:2] == [10.0, 20.0]
    assert list(PartialMetrics(status.vms, 0)) == []


def test_a_vm_with_an_unreadable_vcpu_is_partial(status: HostStatus) -> None:
    partial = PartialMetrics(status.vms, 1)
    assert status.vms.column("exits")[1] == 40.0
    assert (list(partial), len(partial), partial[0]) == (["exits", "halted", "poll"], 3, "exits")
    assert ("exits" in partial, "flushes" in partial) == (True, False)
    assert metrics_of(status.vcpus, 3) == {"exits": None, "poll": None, "halted": None}


def test_a_vm_that_came_has_no_rates_but_values(status: HostStatus) -> None:
    assert metrics_of(status.vms, 2) == {"exits": None, "poll": None, "halted": 1.0, "flushes": None}
    assert list(PartialMetrics(status.vms, 2)) == [], "what is not known at all is not known in part"
    assert (status.vms_came, status.vms_gone) == (1, 1)


def test_the_total_is_of_what_is_known(status: HostStatus) -> None:
    assert metrics_of(status.total, 0) == {"exits": 70.0, "poll": 0.0, "halted": 3.0, "flushes": 4.0}
    assert set(PartialMetrics(status.total, 0)) == {"exits", "poll", "halted", "flushes"}


def test_no_nan_leaves(status: HostStatus) -> None:
    tables = (status.vms, status.vcpus, status.total)
    values = [value for table in tables for name in table.names for value in table.column(name)]
    assert not any(value is not None and math.isnan(value) for value in values)


def test_the_largest_come_first_and_the_unknown_last(status: HostStatus) -> None:
    assert status.vms.largest_first("exits") == [1, 0, 2]


def test_an_evaluator_that_is_there_already_gives_the_same(window: Window, status: HostStatus) -> None:
    again = summarize(window, METRICS, evaluator=Evaluator(window, formulas(METRICS)))
    assert all(again.vms.column(name) == status.vms.column(name) for name in status.vms.names)


def test_a_column_is_made_when_it_is_asked_for_and_once(window: Window) -> None:
    asked: list[str] = []

    class Counting(Evaluator):
        def of(self, what: str | Formula, at: Level) -> F64Array:
            asked.append(str(what))
            return super().of(what, at)

    status = summarize(window, METRICS, evaluator=Counting(window, formulas(METRICS)))
    assert status.vms.column("exits") == status.vms.column("exits")
    assert asked == ["exits"]


def test_an_empty_host_has_no_total() -> None:
    empty = summarize(Window(sample(0), sample(1)), (EXITS, FLUSHES))
    assert metrics_of(empty.total, 0) == {"exits": None, "flushes": None}
    assert (empty.vms.column("exits"), list(PartialMetrics(empty.total, 0))) == ([], [])
