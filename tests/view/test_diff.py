"""Diffs of hosts under known loads: what was planted is found, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from loads import Load, machine, noisy_scenes, simulated_scenes, without_stats

from kvmscope.analysis.difference import DifferenceVerdict
from kvmscope.analysis.difference_sides import only_vms
from kvmscope.errors import UsageError
from kvmscope.linux.facts import Fact
from kvmscope.view.diff import DiffSource, DiffView, MetricDifference, diff_view
from kvmscope.view.diff_hosts import setting_differences
from kvmscope.view.diff_text import diff_lines

if TYPE_CHECKING:
    from kvmscope.scene import Scene

CALM = Load(vms=6, vcpus=2)


def compared(a: Sequence[Scene], b: Sequence[Scene], *, vm: str | None = None, pairs: bool = True) -> DiffView:
    return diff_view(DiffSource("a", [a]), DiffSource("b", [b]), vm=vm, pairs=pairs)


def changed(view: DiffView) -> list[str]:
    return [metric.name for metric in view.metrics if metric.verdict is DifferenceVerdict.CHANGED]


def metric(view: DiffView, name: str) -> MetricDifference:
    return next(metric for metric in view.metrics if metric.name == name)


def test_a_planted_change_of_exits_is_found_and_its_bounds_hold_it() -> None:
    chance = np.random.default_rng(1)
    view = compared(noisy_scenes(121, chance, load=CALM), noisy_scenes(121, chance, load=CALM, factors={"exits": 1.03}))
    found = metric(view, "exits_per_s")
    assert found.verdict is DifferenceVerdict.CHANGED
    assert found.relative_low is not None
    assert found.relative_high is not None
    assert 0 < found.relative_low < 0.03 < found.relative_high < 0.06
    assert "exits_per_s" in changed(view)
    assert view.verdict is DifferenceVerdict.CHANGED


def test_two_recordings_of_one_noisy_load_are_the_same() -> None:
    chance = np.random.default_rng(2)
    for _ in range(3):
        view = compared(noisy_scenes(61, chance, load=CALM), noisy_scenes(61, chance, load=CALM))
        assert changed(view) == []


def test_two_times_of_a_host_whose_loads_swing_are_the_same() -> None:
    for begin_s in (61.0, 1234.5):
        view = compared(
            simulated_scenes(61, load=CALM, seed=3), simulated_scenes(61, begin_s=begin_s, load=CALM, seed=3)
        )
        assert changed(view) == []


TRIES = int(os.environ.get("KVMSCOPE_DIFFS", "20"))
"""How many pairs of recordings of one load are compared; 100, a second each, for docs/explanation/diff.md."""


@pytest.mark.slow
@pytest.mark.parametrize("load", ["noisy", "swinging"])
def test_at_most_five_of_a_hundred_diffs_of_one_load_report_a_change(load: str) -> None:
    chance = np.random.default_rng(4)
    alarms = 0
    for number in range(TRIES):
        a, b = (
            noisy_scenes(41, chance, load=CALM)
            if load == "noisy"
            else simulated_scenes(41, begin_s=chance.uniform(0, 1e5), seed=number, load=CALM)
            for _ in range(2)
        )
        alarms += bool(changed(compared(a, b)))
    assert alarms <= max(1, TRIES // 20)


@pytest.mark.slow
def test_a_planted_change_is_found_in_nearly_all_tries() -> None:
    chance = np.random.default_rng(5)
    found = [
        "exits_per_s"
        in changed(
            compared(
                noisy_scenes(121, chance, load=CALM), noisy_scenes(121, chance, load=CALM, factors={"exits": 1.03})
            )
        )
        for _ in range(TRIES // 5)
    ]
    assert sum(found) >= 0.9 * len(found)


def test_a_stat_that_means_something_else_is_not_compared() -> None:
    chance = np.random.default_rng(6)
    old, new = (replace(CALM, machine=machine(release)) for release in ("6.1.0", "6.12.0"))
    view = compared(noisy_scenes(31, chance, load=old), noisy_scenes(31, chance, load=new, factors={"exits": 2.0}))
    assert "exits_per_s" not in [metric.name for metric in view.metrics]
    [reason] = [metric.reason for metric in view.not_compared if metric.name == "exits_per_s"]
    assert reason.startswith("exits means something else since 6.4.")
    assert ("exits", "meaning") in [(stat.name, stat.what.value) for stat in view.stats]
    assert [(s.name, s.a, s.b) for s in view.settings] == [("kernel", "6.1.0", "6.12.0")]


def test_a_stat_that_one_kernel_lacks_is_named_and_what_is_made_of_it_not_compared() -> None:
    chance = np.random.default_rng(7)
    scenes = noisy_scenes(31, chance, load=CALM)
    view = compared([without_stats(scene, "halt_exits") for scene in scenes], scenes)
    assert ("halt_exits", "added") in [(stat.name, stat.what.value) for stat in view.stats]
    reasons = {each.name: each.reason for each in view.not_compared}
    assert reasons["halts_per_s"] == "unknown on side A"


def test_the_clock_that_a_host_keeps_time_by_is_a_difference() -> None:
    by_tsc, by_hpet = (replace(machine(), clocksource=Fact(clock)) for clock in ("tsc", "hpet"))
    assert [(s.name, s.a, s.b) for s in setting_differences(by_tsc, by_hpet)] == [("clocksource", "tsc", "hpet")]


def test_a_setting_that_differs_comes_with_its_caveats() -> None:
    chance = np.random.default_rng(8)
    on, off = (replace(CALM, machine=machine(halt_poll_ns=value)) for value in ("200000", "0"))
    quiet = {"halt_poll_success_ns": 0.0, "halt_poll_fail_ns": 0.0}
    view = compared(noisy_scenes(61, chance, load=on), noisy_scenes(61, chance, load=off, factors=quiet))
    assert [(s.name, s.a, s.b) for s in view.settings] == [("kvm.halt_poll_ns", "200000", "0")]
    [caveat] = [caveat for caveat in view.caveats if caveat.slug == "polling-off"]
    assert caveat.applies_to == "b"
    polling = metric(view, "halt_poll_cpus")
    assert polling.verdict is DifferenceVerdict.CHANGED
    assert "polling-off" in polling.caveats
    assert set(changed(view)[:2]) == {"halt_poll_cpus", "halt_poll_net_cpus"}  # what costs CPU time comes first
    assert polling.relative == -1.0


def test_vms_of_one_side_alone_are_not_compared() -> None:
    chance = np.random.default_rng(9)
    view = compared(
        noisy_scenes(31, chance, load=Load(vms=3, names=("x", "y", "only-here"))),
        noisy_scenes(31, chance, load=Load(vms=2, names=("y", "x"), boot="d" * 32)),
    )
    assert (view.pairing, view.a.vms, view.b.vms) == ("paired", 2, 2)
    assert (view.only_a, view.only_b) == (("only-here",), ())


def test_other_vms_are_compared_as_groups() -> None:
    chance = np.random.default_rng(10)
    names = [f"other-{number}" for number in range(30)]
    many = Load(vms=30)
    others = replace(many, names=names, boot="d" * 32, vcpus=3)
    view = compared(noisy_scenes(13, chance, load=many), noisy_scenes(13, chance, load=others, factors={"exits": 1.5}))
    assert view.pairing == "by vm"
    found = metric(view, "exits_per_s")
    assert found.relative == pytest.approx(0.5, abs=0.05)  # of a vCPU, though the VMs have more of them
    assert found.verdict is DifferenceVerdict.CHANGED
    assert (found.values_a, found.vm) == (30, None)


def test_one_vm_is_compared_alone() -> None:
    chance = np.random.default_rng(11)
    scenes = noisy_scenes(31, chance, load=CALM)
    view = compared(scenes, scenes, vm="vm-2")
    assert (view.a.vms, len(view.only_a)) == (1, 5)
    assert changed(view) == []
    with pytest.raises(UsageError, match="there is no VM"):
        compared(scenes, scenes, vm="nobody")


def test_a_short_recording_is_too_little_data() -> None:
    chance = np.random.default_rng(12)
    view = compared(noisy_scenes(4, chance, load=CALM), noisy_scenes(4, chance, load=CALM, factors={"exits": 3.0}))
    assert view.verdict is DifferenceVerdict.TOO_LITTLE
    assert metric(view, "exits_per_s").low is None
    text = "\n".join(diff_lines(view, width=100))
    assert "too little data to decide" in text
    with pytest.raises(UsageError, match="no two scenes"):
        compared(noisy_scenes(1, chance, load=CALM), noisy_scenes(4, chance, load=CALM))


def test_hosts_without_vms_have_nothing_to_compare() -> None:
    chance = np.random.default_rng(13)
    empty = noisy_scenes(4, chance, load=Load(vms=1))
    empty = [replace(scene, sample=only_vms(scene.sample, []), identities=()) for scene in empty]
    view = compared(empty, empty)
    assert view.metrics == ()
    assert "no metric is known on both sides" in "\n".join(diff_lines(view, width=80))


def test_names_of_vms_are_escaped_on_a_page() -> None:
    chance = np.random.default_rng(14)
    bad = Load(vms=3, names=("\x1b[31mred", "b", "c"))
    view = compared(noisy_scenes(61, chance, load=bad), noisy_scenes(61, chance, load=bad, factors={"exits": 2.0}))
    assert "\x1b" not in "\n".join(diff_lines(view, width=100))
