"""What is necessary for a condition holds wherever the condition does, whatever is left out of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from formula_cases import EvaluationCase, any_cases, any_conditions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvmscope.formula.check import CONDITION, Formula
from kvmscope.formula.necessary import necessary
from kvmscope.formula.parse import parse
from kvmscope.formula.tree import Expression, Join, Junction, QuantileTerm, StatTerm, walk
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


@st.composite
def any_junctions(draw: st.DrawFn) -> tuple[EvaluationCase, Formula]:
    left, right, third = (draw(any_conditions(Scope.VCPU)) for _ in range(3))
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


def test_the_condition_itself_is_left_where_nothing_is_left_out() -> None:
    condition = parse("rate(exits) > 5 and not rate(halts) > 1")
    assert necessary(condition, lambda part: False) == condition
