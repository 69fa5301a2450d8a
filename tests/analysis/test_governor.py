"""The governor of halt polling as a state machine: against workloads that answer to the limit, and against chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmscope.analysis.evaluate import Evaluator
from kvmscope.analysis.governor import (
    GovernorAction,
    GovernorEvidence,
    GovernorPlan,
    GovernorState,
    decide,
    gather,
    hold,
    obeying,
)
from kvmscope.analysis.histogram import edges
from kvmscope.analysis.polling import (
    LIMITS_NS,
    HaltHistogram,
    LimitEffect,
    PollingAdvice,
    VmHalts,
    advise_together,
)
from kvmscope.analysis.window import Window
from kvmscope.catalog.metrics import formulas, load_metrics
from kvmscope.schema import Descriptor, Kind, Unit

HIST = Descriptor("hist", Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=32)
PLAN = GovernorPlan(200_000, 8192, 200_000)
CALM = 60
"""After so many windows without a move, earlier changes of direction are forgotten."""


def histogram(lengths_ns: Sequence[int]) -> HaltHistogram:
    counts = np.zeros((1, HIST.size))
    for length in lengths_ns:
        counts[0, length.bit_length()] += 1
    return HaltHistogram(counts, np.array([float(sum(lengths_ns))]), edges(HIST) * 1e9)


def answer_of(halts_ns: Sequence[int], limit_ns: int, plan: GovernorPlan, times: int = 100) -> GovernorEvidence:
    """What a host shows whose vCPUs halt for so long, ``times`` a second each, where KVM polls up to the limit."""
    hit = [halt for halt in halts_ns if halt <= limit_ns] * times
    missed = [halt for halt in halts_ns if halt > limit_ns] * times
    polls = [limit_ns] * len(missed) if limit_ns else []
    slept = histogram([halt - limit_ns for halt in missed])
    successes, limit = np.array([float(len(hit))]), np.array([float(limit_ns)])
    halts = VmHalts(1.0, successes, histogram(hit), histogram(polls), slept, limit, np.array([5000.0]))
    advice = advise_together(halts, np.array([True]), plan.limits_ns)
    return GovernorEvidence(limit_ns, advice, 1, 0, (sum(hit) + sum(polls)) / 1e9, math.nan)


Moves: TypeAlias = list[tuple[int, GovernorAction]]


def run(plan: GovernorPlan, show: Callable[[int, int], GovernorEvidence], windows: int) -> Moves:
    """The windows in which it moved, and how; the rules that hold for every decision are held here."""
    state, limit_ns = GovernorState(), plan.begun_ns
    moves: Moves = []
    for window in range(windows):
        state, decision = decide(plan, state, show(window, limit_ns))
        if decision.action is GovernorAction.KEEP:
            assert decision.limit_ns == limit_ns
            continue
        low_ns, high_ns = sorted((limit_ns, decision.limit_ns))
        assert not [limit for limit in plan.limits_ns if low_ns < limit < high_ns], "it leaves a limit out"
        assert decision.limit_ns in (*plan.limits_ns, plan.begun_ns)
        assert (decision.limit_ns > limit_ns) == (decision.action is GovernorAction.RAISE)
        limit_ns = decision.limit_ns
        moves.append((window, decision.action))
    return moves


def end_of(plan: GovernorPlan, halts_ns: Sequence[int], windows: int = 120) -> int:
    """The limit at which it comes to rest."""
    limits = [plan.begun_ns]
    answer = cache(lambda limit_ns: answer_of(halts_ns, limit_ns, plan))

    def show(_window: int, limit_ns: int) -> GovernorEvidence:
        limits.append(limit_ns)
        return answer(limit_ns)

    run(plan, show, windows)
    assert len(set(limits[-40:])) == 1, "it does not come to rest"
    return limits[-1]


HALTS = st.lists(st.integers(500, 3_000_000), min_size=1, max_size=12)


@settings(max_examples=30, deadline=None)
@given(HALTS, st.sampled_from([0, *LIMITS_NS[3:7]]))
def test_it_comes_to_rest_and_polling_costs_no_more_than_before(halts_ns: list[int], least_ns: int) -> None:
    plan = GovernorPlan(200_000, least_ns, 262_144)
    before, after = (answer_of(halts_ns, limit_ns, plan).advice for limit_ns in (plan.begun_ns, end_of(plan, halts_ns)))
    assert before is not None and after is not None
    assert after.net_cpus >= before.net_cpus - plan.worth_cpus


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from(LIMITS_NS), st.floats(0.001, 1)), min_size=200, max_size=200), st.integers(1, 4)
)
def test_it_does_not_flap_whatever_the_evidence(wishes: list[tuple[int, float]], patience: int) -> None:
    """At most a few changes of direction, further apart each time; between moves there are ``patience`` windows."""
    plan = replace(PLAN, patience=patience, least_ns=0, most_ns=1 << 20)

    def show(window: int, limit_ns: int) -> GovernorEvidence:
        best_ns, cpus = wishes[window]
        effect = LimitEffect(best_ns, cpus, cpus, cpus, 0.0)
        return GovernorEvidence(limit_ns, PollingAdvice(limit_ns, -1.0, effect, None), 1, 0, 1.0, math.nan)

    moves = run(plan, show, len(wishes))
    gaps = [after - before for (before, _), (after, _) in pairwise(moves)]
    assert all(gap > patience for gap in gaps)
    turns = [gap for gap, ((_, one), (_, other)) in zip(gaps, pairwise(moves), strict=True) if one is not other]
    if not any(gap > CALM for gap in gaps):
        assert all(gap > patience * min(2**number, 16) for number, gap in enumerate(turns, 1))


def test_halts_that_no_poll_catches_bring_it_down_to_the_lowest_limit() -> None:
    assert end_of(PLAN, [900_000] * 30) == 8192
    assert end_of(replace(PLAN, least_ns=50_000), [900_000] * 30) == 65_536


def test_polls_that_pay_for_themselves_are_kept() -> None:
    assert end_of(PLAN, [2_000] * 10) == 200_000
    assert end_of(GovernorPlan(4096, 0, 65_536), [2_000] * 10) == 4096


def test_a_lower_limit_that_saves_no_wakeup_any_more_is_raised() -> None:
    plan = GovernorPlan(0, 0, 65_536)
    assert end_of(plan, [3_000] * 200) == 4096


def test_it_waits_for_as_many_windows_as_it_is_patient() -> None:
    moves = run(PLAN, lambda _, limit_ns: answer_of([900_000] * 5, limit_ns, PLAN), 9)
    assert moves == [(2, GovernorAction.LOWER), (6, GovernorAction.LOWER)]


def test_one_window_that_wants_nothing_begins_the_row_again() -> None:
    calm = answer_of([2_000], 200_000, PLAN)
    show = [answer_of([900_000] * 5, 200_000, PLAN)] * 2 + [calm] + [answer_of([900_000] * 5, 200_000, PLAN)] * 2
    assert run(PLAN, lambda window, _: show[window], len(show)) == []


def test_late_wakeups_end_the_lowering_and_bring_it_back_up_to_where_it_began() -> None:
    plan = replace(PLAN, wakeup_p99_s=0.0005)

    def show(window: int, limit_ns: int) -> GovernorEvidence:
        p99_s = 0.0001 if window < 6 else 0.002
        return replace(answer_of([900_000] * 5, limit_ns, plan), wakeup_p99_s=p99_s)

    moves = run(plan, show, 60)
    assert [action for _, action in moves[:2]] == [GovernorAction.LOWER, GovernorAction.RAISE]
    assert GovernorAction.LOWER not in [action for _, action in moves[1:]]


def test_what_is_unknown_changes_nothing() -> None:
    nothing = GovernorEvidence(200_000, None, 0, 3, 0.0, math.nan)
    assert run(PLAN, lambda _window, _limit: nothing, 50) == []


def test_a_hold_goes_back_to_the_limit_from_before_and_starts_again() -> None:
    state, decision = hold(PLAN, "a stat is missing")
    assert (decision.action, decision.limit_ns, decision.reason) == (GovernorAction.HOLD, 200_000, "a stat is missing")
    state, decision = decide(PLAN, state, answer_of([900_000] * 5, 200_000, PLAN))
    assert decision.action is GovernorAction.KEEP and state.windows == 0


def test_bounds_without_a_limit_to_choose_are_refused() -> None:
    with pytest.raises(ValueError, match="from 5000 to 6000 ns"):
        GovernorPlan(200_000, 5000, 6000)


def test_only_vms_without_a_limit_of_their_own_are_evidence(make_host: Callable[..., Any]) -> None:
    host = make_host()
    host.count("settings.halt_poll_cap_set")
    waste = {"fail_us:190": 1000, "wait_us:800": 1000}
    own, obeys = host.add("own", vcpus=1), host.add("obeys", vcpus=1)
    own.vm_stats["settings.halt_poll_cap_set"] = 1
    before = host.sample()
    for vm, times in ((own, 5), (obeys, 1)):
        host.run(0.5, {name: rate * times for name, rate in waste.items()}, vm=vm.name)
    evaluator = Evaluator(Window(before, host.sample()), formulas(load_metrics()))
    found = gather(evaluator, PLAN, 200_000, obeying(evaluator.window.current))
    assert (found.obeying, found.others) == (1, 1)
    assert found.polled_cpus == pytest.approx(0.5 * 0.19)
    assert found.advice is not None and found.advice.best is not None
    assert found.advice.best.limit_ns == 8192
    assert found.advice.net_cpus == pytest.approx(-0.5 * 0.19)


def test_without_the_settings_of_vms_there_is_no_evidence(make_host: Callable[..., Any]) -> None:
    host = make_host()
    host.add(vcpus=1)
    before = host.sample()
    host.run(1.0, {"fail_us:190": 1000})
    evaluator = Evaluator(Window(before, host.sample()), formulas(load_metrics()))
    found = gather(evaluator, PLAN, 200_000, obeying(evaluator.window.current))
    assert (found.obeying, found.others, found.advice) == (0, 1, None)
