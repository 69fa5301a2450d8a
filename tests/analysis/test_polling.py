"""What another halt polling limit would change: against the sums over the very halts behind the histograms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmscope.analysis.evaluate import Evaluator
from kvmscope.analysis.histogram import edges
from kvmscope.analysis.polling import (
    LIMITS_NS,
    HaltHistogram,
    LimitEffects,
    VmHalts,
    advise,
    advise_together,
    effects,
    vm_halts,
)
from kvmscope.analysis.window import Window
from kvmscope.catalog.metrics import formulas, load_metrics
from kvmscope.schema import Descriptor, Kind, Scope, Unit

HIST = Descriptor("hist", Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=32)
WAKEUP_NS = 5_000.0


def histogram(lengths_ns: Sequence[int]) -> HaltHistogram:
    counts = np.zeros((1, HIST.size))
    for length in lengths_ns:
        counts[0, min(length.bit_length(), HIST.size - 1)] += 1
    return HaltHistogram(counts, np.array([float(sum(lengths_ns))]), edges(HIST) * 1e9)


def halts(
    succeeded: Sequence[int] = (),
    failed: Sequence[int] = (),
    slept: Sequence[int] = (),
    *,
    limit_ns: float = 200_000,
    interval_s: float = 1.0,
) -> VmHalts:
    """The halts of one VM: lengths of successful polls, of failed ones, and of the sleeps after those."""
    return VmHalts(
        interval_s,
        np.array([float(len(succeeded))]),
        histogram(succeeded),
        histogram(failed),
        histogram(slept),
        np.array([float(limit_ns)]),
        np.array([WAKEUP_NS]),
    )


def stacked(histograms: Sequence[HaltHistogram]) -> HaltHistogram:
    counts = np.vstack([each.counts for each in histograms])
    return HaltHistogram(counts, np.concatenate([each.total_ns for each in histograms]), histograms[0].edges_ns)


def effect(of: VmHalts, limit_ns: int) -> LimitEffects:
    (found,) = effects(of, (limit_ns,))
    return found


def assert_holds(found: LimitEffects, cpus: float) -> None:
    slack = 1e-9
    assert found.cpus_low[0] - slack <= cpus <= found.cpus_high[0] + slack
    assert found.cpus_low[0] - slack <= found.cpus[0] <= found.cpus_high[0] + slack


LENGTHS = st.lists(st.integers(1, 200_000), max_size=40)


@given(LENGTHS, LENGTHS, st.sampled_from([limit for limit in LIMITS_NS if limit < 200_000]))
def test_the_interval_of_a_lower_limit_holds_what_the_halts_themselves_say(
    succeeded: list[int], failed: list[int], limit_ns: int
) -> None:
    found = effect(halts(succeeded, failed, [1_000_000] * len(failed)), limit_ns)
    lost = [length for length in succeeded if length >= limit_ns]
    freed_ns = sum(length - limit_ns - WAKEUP_NS for length in lost)
    freed_ns += sum(max(length - limit_ns, 0) for length in failed)
    assert_holds(found, freed_ns / 1e9)
    assert found.saved_per_s[0] == -len(lost)


@given(LENGTHS, LENGTHS)
def test_to_switch_polling_off_gives_back_exactly_what_it_costs(succeeded: list[int], failed: list[int]) -> None:
    of = halts(succeeded, failed, [1_000_000] * len(failed))
    found = effect(of, 0)
    assert found.cpus[0] == pytest.approx(-of.net_cpus[0])
    assert found.cpus_low[0] == pytest.approx(found.cpus_high[0])


@given(
    st.lists(st.integers(1, 4_000_000), max_size=40),
    st.sampled_from((0, 8_192, 10_000, 50_000)),
    st.sampled_from((65_536, 131_072, 1_048_576)),
)
def test_the_interval_of_a_higher_limit_holds_what_the_halts_themselves_say(
    slept: list[int], now_ns: int, limit_ns: int
) -> None:
    failed = [now_ns] * len(slept) if now_ns else []
    found = effect(halts([], failed, slept, limit_ns=now_ns), limit_ns)
    more_ns = [WAKEUP_NS - sleep if now_ns + sleep < limit_ns else -(limit_ns - now_ns) for sleep in slept]
    assert_holds(found, sum(more_ns) / 1e9)


@settings(max_examples=50)
@given(LENGTHS, LENGTHS, st.sampled_from(LIMITS_NS))
def test_the_present_limit_changes_nothing(succeeded: list[int], failed: list[int], limit_ns: int) -> None:
    shorter = [min(length, limit_ns - 1) for length in succeeded + failed if limit_ns]
    found = effect(halts(shorter, shorter, [5_000_000] * len(shorter), limit_ns=limit_ns), limit_ns)
    assert [part[0] for part in (found.cpus, found.cpus_low, found.cpus_high, found.saved_per_s)] == [0, 0, 0, 0]


def test_halts_of_two_lengths_have_their_best_limit_between_them() -> None:
    """Wakeups after 2 µs are worth their poll; of the longer halts none is."""
    of = halts([2_000] * 10_000, [150_000] * 1000, [3_000_000] * 1000)
    (advice,) = advise(of)
    assert advice is not None and advice.best is not None
    assert advice.best.limit_ns == 4096
    assert advice.net_cpus == pytest.approx((10_000 * (WAKEUP_NS - 2_000) - 1000 * 150_000) / 1e9)
    assert advice.best.cpus == pytest.approx(0.1459, rel=0.01)
    assert advice.best.saved_per_s == 0
    assert advice.fewer_sleeps is None


def test_sleeps_just_beyond_the_limit_get_both_prices() -> None:
    """Each halt is of 60 µs and each poll of 50: to poll for longer costs little more, to poll less frees it all."""
    of = halts([], [50_000] * 5000, [10_000] * 5000, limit_ns=50_000)
    (advice,) = advise(of)
    assert advice is not None and advice.best is not None and advice.fewer_sleeps is not None
    assert advice.best.limit_ns == 0 and advice.best.cpus == pytest.approx(0.25)
    assert advice.fewer_sleeps.limit_ns in {65_536, 131_072}
    assert advice.fewer_sleeps.saved_per_s == pytest.approx(5000, rel=0.3)
    assert advice.fewer_sleeps.cpus_low <= 5000 * (WAKEUP_NS - 10_000) / 1e9 <= advice.fewer_sleeps.cpus_high


def test_polls_that_other_tasks_end_are_not_helped_by_a_higher_limit() -> None:
    of = halts([], [128] * 3000, [59_000] * 3000, limit_ns=200_000)
    assert effect(of, 1_048_576).cpus[0] == 0
    (advice,) = advise(of)
    assert advice is not None and advice.best is None and advice.fewer_sleeps is None


def test_a_guest_that_kvm_does_not_poll_for_is_helped_by_no_limit() -> None:
    """As one that asked KVM not to: it halts, and there is no poll though the limit is not 0."""
    (advice,) = advise(halts([], [], [50_000] * 5000))
    assert advice is not None and advice.best is None and advice.fewer_sleeps is None


def test_what_is_unknown_has_no_advice() -> None:
    assert advise(halts([1000] * 50, limit_ns=float("nan"))) == [None]


def test_vms_together_have_the_sum_of_their_effects() -> None:
    one, other = [2_000] * 30_000, [150_000] * 1000
    sides = halts(one), halts([], other, [5_000_000] * 1000)
    both = VmHalts(
        1.0,
        np.concatenate([side.successes for side in sides]),
        stacked([side.succeeded for side in sides]),
        stacked([side.failed for side in sides]),
        stacked([side.slept for side in sides]),
        np.full(2, 200_000.0),
        np.full(2, WAKEUP_NS),
    )
    together = advise_together(both, np.array([True, True]))
    assert together is not None and together.best is not None
    assert together.net_cpus == pytest.approx(both.net_cpus.sum())
    assert together.best.limit_ns == 4096
    alone = advise_together(both, np.array([True, False]))
    assert alone is not None and alone.best is None
    assert advise_together(both, np.array([False, False])) is None


def test_net_is_that_of_the_metric(make_host: Callable[..., Any]) -> None:
    host = make_host()
    host.add(vcpus=2)
    before = host.sample()
    rates = {"halt_successful_poll": 700, "halt_poll_success_ns": 4e7, "halt_poll_fail_ns": 3e6}
    host.run(2.0, rates)
    evaluator = Evaluator(Window(before, host.sample()), formulas(load_metrics()))
    found = vm_halts(evaluator, np.array([2e-4]), [0])
    assert found is not None
    assert found.net_cpus[0] == pytest.approx(evaluator.of("halt_poll_net_cpus", Scope.VM)[0])
    assert found.net_cpus[0] == pytest.approx(2 * (700 * 5e-6 - 0.043))


def test_a_kernel_without_histograms_has_none(make_host: Callable[..., Any]) -> None:
    host = make_host(lacks=frozenset({"halt_poll_fail_hist"}))
    host.add()
    before = host.sample()
    host.run(1.0, {})
    evaluator = Evaluator(Window(before, host.sample()), formulas(load_metrics()))
    assert vm_halts(evaluator, np.array([2e-4]), [0]) is None


@pytest.mark.parametrize(
    ("latency_us", "wakeups", "cost_s"),
    [(12, 100, 12e-6), (400, 100, 50e-6), (0, 0, 5e-6)],
    ids=["measured", "a busy host", "nothing woke"],
)
def test_a_wakeup_costs_what_the_group_measures(
    latency_us: int, wakeups: int, cost_s: float, make_host: Callable[..., Any]
) -> None:
    host = make_host()
    host.add(vcpus=1)
    host.count("wakeups.wakeups", "wakeups.wakeup_to_entry_ns")
    before = host.sample()
    host.run(1.0, {"wakeups.wakeups": wakeups, "wakeups.wakeup_to_entry_ns": wakeups * latency_us * 1000})
    evaluator = Evaluator(Window(before, host.sample()), formulas(load_metrics()))
    assert evaluator.of("wakeup_cost_s", Scope.VM)[0] == pytest.approx(cost_s)


def test_the_advice_of_a_vm_does_not_depend_on_which_others_are_asked_for() -> None:
    """The last one's halts are not known."""
    each = [halts([2_000] * 10_000, [150_000] * 1000, [3_000_000] * 1000), halts([], [50_000] * 5000, [10_000] * 5000)]
    each.append(halts([1000] * 50, limit_ns=float("nan")))
    together = VmHalts(
        1.0,
        np.concatenate([of.successes for of in each]),
        stacked([of.succeeded for of in each]),
        stacked([of.failed for of in each]),
        stacked([of.slept for of in each]),
        np.concatenate([of.limit_ns for of in each]),
        np.concatenate([of.wakeup_ns for of in each]),
    )
    alone = [advise(of)[0] for of in each]
    assert alone[0] is not None and alone[1] is not None and alone[0] != alone[1]
    assert advise(together) == alone


def test_of_some_vms_halts_are_those_that_they_have_among_all(make_host: Callable[..., Any]) -> None:
    """One VM has no vCPU that could be read, and one came in the window."""
    host = make_host()
    for name in ("a", "b", "c"):
        host.add(name, vcpus=3, is_read=name != "b")
    before = host.sample()
    for name, rate in (("a", 400), ("b", 500), ("c", 600)):
        host.run(1.0, {"fail_us:80": rate, "success_us:20": 2 * rate, "wait_us:900": rate}, vm=name, vcpu=1)
    host.add("d")
    evaluator = Evaluator(Window(before, host.sample()), formulas(load_metrics()))
    limits_s = np.array([1e-4, 2e-4, 3e-4, 4e-4])
    among_all = vm_halts(evaluator, limits_s, range(4))
    some = vm_halts(evaluator, limits_s, [3, 2, 0])
    assert among_all is not None and some is not None
    assert np.isnan(among_all.successes).tolist() == [False, True, False, True]
    for column in ("successes", "limit_ns", "wakeup_ns"):
        np.testing.assert_array_equal(getattr(some, column), getattr(among_all, column)[[3, 2, 0]])
    for name in ("succeeded", "failed", "slept"):
        few, every = getattr(some, name), getattr(among_all, name)
        np.testing.assert_array_equal(few.counts, every.counts[[3, 2, 0]])
        np.testing.assert_array_equal(few.total_ns, every.total_ns[[3, 2, 0]])
        assert few.counts[2].sum() > 0
