"""What groups that time events have counted in a window, from crafted counts."""

from __future__ import annotations

import numpy as np
import pytest

from kvmscope.analysis.events import Timed, costliest, kinds_of
from kvmscope.analysis.window import Window
from kvmscope.sample import Sample, VmId
from kvmscope.schema import Descriptor, Kind, Schema, Scope, Unit
from kvmscope.sources.files import StatsOf, VcpuStats, VmStats, assemble


def _ns(name: str, offset: int) -> Descriptor:
    return Descriptor(name, Kind.CUMULATIVE, Unit.SECONDS, exponent=-9, offset=offset)


SCHEMA = Schema(
    "exits",
    Scope.VCPU,
    (
        Descriptor("exit_hlt", Kind.CUMULATIVE, offset=0),
        _ns("exit_hlt_ns", 8),
        Descriptor("exit_hlt_hist", Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=4, offset=16),
        Descriptor("exit_io", Kind.CUMULATIVE, offset=48),
        _ns("exit_io_ns", 56),
        Descriptor("exit_npf", Kind.CUMULATIVE, offset=64),
    ),
    72,
)


def _sample(at_s: int, *vcpus: list[int]) -> Sample:
    subjects = [
        VcpuStats(row, [StatsOf(SCHEMA, np.array(words, dtype=np.uint64))] if words else [], -1)
        for row, words in enumerate(vcpus)
    ]
    vm = VmStats(VmId(7), [], subjects, -1, -1, "vm")
    return assemble([vm], source="test", taken_ns=at_s * 10**9, monotonic_ns=at_s * 10**9)


def _window(first: list[int], second: list[int]) -> Window:
    zero = [0] * 9
    return Window(_sample(1, zero if first else [], zero), _sample(3, first, second))


def test_a_count_goes_with_the_time_and_the_histogram_that_follow_it() -> None:
    assert kinds_of(SCHEMA) == (
        Timed("exit_hlt", "exit_hlt_ns", "exit_hlt_hist"),
        Timed("exit_io", "exit_io_ns"),
        Timed("exit_npf"),
    )


def test_the_costliest_comes_first_and_what_did_not_happen_is_left_out() -> None:
    window = _window([10, 2000, 0, 0, 0, 10, 4, 8000, 0], [0] * 9)
    first, second = costliest(window, SCHEMA, at=Scope.VM)
    assert first.kind.count == "exit_io"
    assert (first.per_s, first.s_per_s, first.mean_s) == pytest.approx((2.0, 4e-6, 2e-6))
    assert second.kind.count == "exit_hlt"
    assert (second.per_s, second.mean_s) == pytest.approx((5.0, 2e-7))
    assert first.p50_s is None
    assert second.p50_s == pytest.approx(4e-9)  # the last bucket begins there and has no end


def test_what_has_no_time_comes_after_what_has() -> None:
    window = _window([0, 0, 0, 0, 0, 0, 1, 10, 500], [0] * 9)
    found = costliest(window, SCHEMA, at=Scope.VCPU)
    assert [event.kind.count for event in found] == ["exit_io", "exit_npf"]
    assert found[1].mean_s is None


def test_a_vm_has_what_its_vcpus_did_together() -> None:
    window = _window([10, 1000, 0, 0, 0, 10, 0, 0, 0], [30, 7000, 0, 0, 0, 30, 0, 0, 0])
    [event] = costliest(window, SCHEMA, at=Scope.VM)
    assert (event.per_s, event.mean_s) == pytest.approx((20.0, 2e-7))
    assert [event.row for event in costliest(window, SCHEMA)] == [1, 0]


def test_a_vcpu_that_is_not_known_has_no_events() -> None:
    window = _window([], [30, 7000, 0, 0, 0, 30, 0, 0, 0])
    assert [event.row for event in costliest(window, SCHEMA)] == [1]
