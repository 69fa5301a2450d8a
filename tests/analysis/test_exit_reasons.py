"""Which reasons of exits cost most time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kvmscope.analysis.exit_reasons import CostlyReason, costliest_exit, costly_reasons, judged_reason
from kvmscope.analysis.window import Window


@pytest.mark.parametrize(
    ("stat", "reason"),
    [
        ("exit_rdtsc_ns", "rdtsc"),
        ("exit_other_ns", "other"),
        ("exit_rdtsc", None),
        ("exit_rdtsc_hist", None),
        ("exit_hlt_ns", None),
        ("exit_cpuid_ns", None),
        ("exit_interrupt_ns", None),
        ("exit_vmrun_ns", None),
        ("exit_vmresume_ns", None),
    ],
)
def test_only_times_of_reasons_without_a_rule_of_their_own_are_judged(stat: str, reason: str | None) -> None:
    assert judged_reason(stat) == reason


def test_the_reasons_of_a_vm_s_exits_that_cost_most_come_first(make_host: Callable[..., Any]) -> None:
    host = make_host()
    names = ("rdtsc", "cr_access", "rdpmc", "hlt", "cpuid")
    host.count(*(f"exits.exit_{name}_ns" for name in names))
    for name in ("quiet", "vm"):
        host.add(name)
    first = host.sample()
    times = dict(zip(names, (0.1, 0.3, 0.01, 0.9, 0.5), strict=True))
    host.run(2.0, {f"exits.exit_{name}_ns": share * 1e9 for name, share in times.items()})
    window = Window(first, host.sample())
    row = window.current.vms.ids.index(next(vm for vm in window.current.vms.ids if str(vm).startswith("766d")))
    assert costly_reasons(window, row) == [CostlyReason("cr_access", 0.6), CostlyReason("rdtsc", 0.2)]
    assert costly_reasons(window, 1 - row) == []
    assert np.nanmax(costliest_exit(window)) == pytest.approx(0.3)


def test_without_the_group_the_costliest_exit_is_not_known(make_host: Callable[..., Any]) -> None:
    host = make_host()
    host.add("vm")
    first = host.sample()
    host.run(1.0, {"exits": 1000})
    assert np.isnan(costliest_exit(Window(first, host.sample()))).all()
