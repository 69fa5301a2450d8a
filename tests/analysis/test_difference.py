"""Differences and their noise: right quantiles, no false alarms for series that depend on their past, real changes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kvmscope.analysis.difference import (
    DifferenceVerdict,
    MeanEstimate,
    VmLoads,
    estimate_change,
    over_time,
    over_vms,
    ratio_of_pairs,
    student_quantile,
    student_tail,
)
from kvmscope.analysis.window import F64Array

METRICS = 40


def wandering(chance: np.random.Generator, count: int, correlation: float, *, mean: float = 100.0) -> F64Array:
    """A series with a spread of 10 whose neighbours correlate."""
    found = np.empty(count)
    found[0] = chance.normal()
    for place in range(1, count):
        found[place] = correlation * found[place - 1] + math.sqrt(1 - correlation**2) * chance.normal()
    return mean + 10 * found


def series(values: F64Array) -> MeanEstimate:
    estimate = over_time(values, np.ones(len(values)))
    assert estimate is not None
    return estimate


@pytest.mark.parametrize(
    ("tail", "freedom", "t"),
    [(0.025, 1, 12.706), (0.025, 2, 4.3027), (0.025, 7, 2.3646), (0.0005, 14, 4.1405), (0.005, 30, 2.75)],
)
def test_quantiles_of_student_are_those_of_the_tables(tail: float, freedom: int, t: float) -> None:
    assert student_quantile(tail, freedom) == pytest.approx(t, rel=1e-4)
    assert student_tail(t, freedom) == pytest.approx(tail, rel=1e-3)


def test_with_many_degrees_of_freedom_it_is_the_normal_distribution() -> None:
    assert student_quantile(0.025, 100_000) == pytest.approx(1.95996, rel=1e-4)


@pytest.mark.parametrize(("count", "correlation"), [(20, 0.5), (20, 0.8), (60, 0.0), (60, 0.95), (120, 0.8)])
def test_series_of_one_process_are_not_called_changed(count: int, correlation: float) -> None:
    """At most 5 % of the diffs of 40 metrics; 4 of 40 tries allow for chance (binomial, 95 %)."""
    chance = np.random.default_rng(count)
    tries = 40

    def has_false_alarm() -> bool:
        pairs = ([series(wandering(chance, count, correlation)) for _ in range(2)] for _ in range(METRICS))
        found = [estimate_change(*pair, comparisons=METRICS).verdict for pair in pairs]
        return DifferenceVerdict.CHANGED in found

    assert sum(has_false_alarm() for _ in range(tries)) <= 4


def test_a_change_beyond_the_noise_is_found_and_its_bounds_hold_it() -> None:
    chance = np.random.default_rng(1)
    a, b = (series(wandering(chance, 120, 0.5, mean=mean)) for mean in (100.0, 115.0))
    found = estimate_change(a, b, comparisons=METRICS)
    assert found.verdict is DifferenceVerdict.CHANGED
    assert found.low < 15.0 < found.high


def test_a_slow_wave_is_noise_too() -> None:
    """Values that are nearly independent of their neighbours, on a wave of which the series has two periods."""
    chance = np.random.default_rng(2)
    wave = 10 * np.sin(np.arange(120) * 2 * np.pi / 60)
    plain, waved = (series(100 + part + 10 * chance.normal(size=120)) for part in (np.zeros(120), wave))
    assert not waved.error < plain.error * 1.2


def test_a_series_that_only_rises_has_no_error() -> None:
    assert series(np.arange(40.0)).freedom == 0


def test_too_few_values_are_too_little_data() -> None:
    a, b = series(np.array([1.0, 2.0, 1.5])), series(np.array([9.0, 8.0, 9.5]))
    found = estimate_change(a, b, comparisons=1)
    assert found.verdict is DifferenceVerdict.TOO_LITTLE
    assert not math.isfinite(found.high)


def test_no_value_is_no_estimate() -> None:
    assert over_time(np.full(20, np.nan), np.ones(20)) is None
    assert over_vms(np.full(3, np.nan)) is None


def test_values_that_are_not_known_are_left_out() -> None:
    values = np.array([5.0, np.nan] * 20)
    estimate = over_time(values, np.ones(40))
    assert estimate == MeanEstimate(5.0, 0.0, 19, 20)


def test_long_windows_count_for_more() -> None:
    estimate = over_time(np.array([0.0, 10.0] * 10), np.array([3.0, 1.0] * 10))
    assert estimate is not None
    assert estimate.mean == 2.5


def test_a_change_too_small_to_matter_is_no_change() -> None:
    found = estimate_change(series(np.full(20, 1000.0)), series(np.full(20, 1004.0)), comparisons=1)
    assert found.verdict is DifferenceVerdict.SAME
    found = estimate_change(series(np.full(20, 1000.0)), series(np.full(20, 1006.0)), comparisons=1)
    assert found.verdict is DifferenceVerdict.CHANGED


def test_something_out_of_nothing_is_a_change_without_a_share() -> None:
    found = estimate_change(series(np.zeros(20)), series(np.full(20, 3.0)), comparisons=1)
    assert found.verdict is DifferenceVerdict.CHANGED
    assert found.relative(found.change) is None


def loads(means: F64Array, *, together: float = 1.0) -> VmLoads:
    variances = means * 0.1
    return VmLoads(means, variances, together * float(variances.sum()))


def test_vms_that_all_change_by_a_share_show_it_though_their_loads_swing() -> None:
    means = np.array([100.0, 90.0, 120.0, 80.0, 110.0, 95.0])
    pairs = ratio_of_pairs(loads(means), loads(means * 1.03))
    assert pairs is not None
    swinging = MeanEstimate(595.0, math.nan, 0, 60)
    found = estimate_change(swinging, swinging, comparisons=METRICS, pairs=pairs)
    assert found.verdict is DifferenceVerdict.CHANGED
    assert found.relative(found.change) == pytest.approx(0.03)


def test_vms_that_change_each_in_its_way_are_not_called_changed() -> None:
    chance = np.random.default_rng(3)
    swinging = MeanEstimate(1000.0, math.nan, 0, 60)
    alarms = 0
    for _ in range(300):
        a, b = (loads(100 * np.exp(chance.normal(size=10) * 0.1)) for _ in range(2))
        found = estimate_change(swinging, swinging, comparisons=1, pairs=ratio_of_pairs(a, b))
        alarms += found.verdict is DifferenceVerdict.CHANGED
    assert alarms <= 0.05 * 300


def test_vms_that_move_together_or_one_that_outweighs_all_have_no_ratio() -> None:
    even = np.full(6, 100.0)
    assert ratio_of_pairs(loads(even), loads(even)) is not None
    assert ratio_of_pairs(loads(even, together=5.0), loads(even)) is None
    assert ratio_of_pairs(loads(np.array([10_000.0, 1, 1, 1])), loads(np.array([10_300.0, 1, 1, 1]))) is None
