"""What is necessary for a condition holds wherever the condition does, whatever is left out of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from formula_cases import EvaluationCase, any_cases, any_makers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvmscope.formula.check import CONDITION, Formula
from kvmscope.formula.necessary import GROWING, necessary
from kvmscope.formula.parse import parse
from kvmscope.formula.tree import (
    Arithmetic,
    Compare,
    Comparison,
    Expression,
    Fold,
    Join,
    Junction,
    Minus,
    Number,
    OverVcpus,
    QuantileTerm,
    Reduction,
    Reference,
    StatName,
    StatTerm,
    walk,
)
from kvmscope.schema import Scope


def reads(kind: type[Expression], part: Expression) -> bool:
    return any(isinstance(each, kind) for each, _ in walk(part, Scope.VM))


def of_text(text: str) -> Expression | None:
    return necessary(parse(text), lambda part: reads(QuantileTerm, part))


@pytest.mark.parametrize(
    ("whole", "left"),
    [
        ("rate(exits) > 5 and quantile(hist, 0.5) > 1us", "rate(exits) > 5"),
        ("quantile(hist, 0.5) > 1us and rate(exits) > 5", "rate(exits) > 5"),
        ("rate(exits) > 5 and (quantile(hist, 0.5) > 1us or rate(halts) > 1)", "rate(exits) > 5"),
        ("rate(exits) > 5 or rate(halts) > 1 and quantile(hist, 0.5) > 1us", "rate(exits) > 5 or rate(halts) > 1"),
    ],
)
def test_and_leaves_the_other_side_and_or_needs_both(whole: str, left: str) -> None:
    assert of_text(whole) == parse(left)


@pytest.mark.parametrize("whole", ["quantile(hist, 0.5) > 1us", "rate(exits) > 5 or quantile(hist, 0.5) > 1us"])
def test_nothing_follows_from_what_is_left_out_alone(whole: str) -> None:
    assert of_text(whole) is None


@pytest.mark.parametrize(
    ("whole", "left"),
    [
        ("rate(exits) - rate(hist) > 5", "rate(exits) - 0 > 5"),
        ("max2(0, rate(exits) - rate(hist) - rate(halts)) >= 5", "max2(0, rate(exits) - 0 - rate(halts)) >= 5"),
        ("5 < -delta(hist)", "5 < -0"),
        ("min2(rate(exits), 7) > rate(hist) + rate(halts)", "min2(rate(exits), 7) > 0 + rate(halts)"),
        ("max(rate(exits) - rate(hist)) > 5", "max(rate(exits) - 0) > 5"),
        ("max(quick) > 5", "max(rate(exits) - 0) > 5"),
    ],
)
def test_a_rate_that_is_taken_away_is_at_least_nothing(whole: str, left: str) -> None:
    quick = Formula(parse("rate(exits) - rate(hist)"), Scope.VCPU, CONDITION)
    found = necessary(parse(whole), _reads_hist, metrics={"quick": quick})
    assert found == parse(left)


@pytest.mark.parametrize(
    "whole",
    [
        "rate(hist) > 5",
        "rate(exits) - rate(hist) < 5",
        "rate(exits) - rate(hist) == 5",
        "rate(exits) - value(hist) > 5",
        "sum(rate(exits) - rate(hist)) > 5",
        "mean(rate(exits) - rate(hist)) > 5",
        "max(rate(exits)) > max(rate(hist))",
        "(rate(exits) - rate(hist)) * 2 > 5",
        "slow > 5",
    ],
)
def test_where_no_bound_is_known_nothing_follows(whole: str) -> None:
    slow = Formula(parse("rate(exits) - rate(hist)"), Scope.VCPU, CONDITION)
    assert necessary(parse(whole), _reads_hist, metrics={"slow": slow}) is None


def _reads_hist(part: Expression) -> bool:
    names = {each.stat.name for each, _ in walk(part, Scope.VM) if isinstance(each, StatTerm)}
    return "hist" in names or any(isinstance(each, Reference) for each, _ in walk(part, Scope.VM))


@st.composite
def any_junctions(draw: st.DrawFn) -> tuple[EvaluationCase, Formula]:
    maker = draw(any_makers())
    left, right, third = (maker.condition(Scope.VCPU, 1) for _ in range(3))
    inner = Join(draw(st.sampled_from(Junction)), left, right)
    return draw(any_cases()), Formula(Join(draw(st.sampled_from(Junction)), inner, third), Scope.VCPU, CONDITION)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(asked=any_junctions())
def test_it_holds_wherever_the_condition_holds(asked: tuple[EvaluationCase, Formula]) -> None:
    case, condition = asked
    found = necessary(condition.expression, lambda part: reads(StatTerm, part))
    if found is not None:
        evaluator = case.evaluator({})
        whole = evaluator.of(condition, Scope.VCPU)
        weaker = evaluator.of(replace(condition, expression=found), Scope.VCPU)
        assert all(weaker[whole == 1.0] == 1.0)


_LEAVES = st.sampled_from(
    [
        StatTerm(Reduction.RATE, StatName("kvm", "exits")),
        StatTerm(Reduction.DELTA, StatName("kvm", "hist")),
        StatTerm(Reduction.RATE, StatName("kvm", "hist")),
        StatTerm(Reduction.VALUE, StatName("kvm", "depth")),
        Number(1.0),
    ]
)
_SUMS = st.recursive(
    _LEAVES,
    lambda inner: st.builds(Arithmetic, st.sampled_from(GROWING), inner, inner) | st.builds(Minus, inner),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=any_cases(), left=_SUMS, right=_SUMS, comparison=st.sampled_from(Comparison), is_folded=st.booleans())
def test_a_bound_holds_wherever_the_comparison_holds(
    case: EvaluationCase, left: Expression, right: Expression, comparison: Comparison, is_folded: bool
) -> None:
    scope = Scope.VM if is_folded else Scope.VCPU
    if is_folded:
        left, right = OverVcpus(Fold.MAX, left), Number(1.0)
    condition = Compare(comparison, left, right)
    found = necessary(condition, _reads_hist, scope=scope)
    if found is not None:
        evaluator = case.evaluator({})
        whole, weaker = (evaluator.of(Formula(each, scope, CONDITION), scope) for each in (condition, found))
        assert all(weaker[whole == 1.0] == 1.0)


def test_the_condition_itself_is_left_where_nothing_is_left_out() -> None:
    condition = parse("rate(exits) > 5 and not rate(halts) > 1")
    assert necessary(condition, lambda part: False) == condition
