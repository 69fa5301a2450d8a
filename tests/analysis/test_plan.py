"""Plans: how few steps many formulas take, and that what is there is not computed again. Values: test_evaluate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import pytest

from kvmscope.analysis.plan import FoldStep, FormulaPlan, PairStep, Planner, Questions, StatStep, TotalStep
from kvmscope.catalog.findings import load_findings
from kvmscope.catalog.metrics import formulas, load_metrics
from kvmscope.formula.check import Formula, Type
from kvmscope.formula.parse import parse
from kvmscope.formula.resolve import Resolver
from kvmscope.formula.tree import HOST, Level
from kvmscope.schema import Scope

METRICS = formulas(load_metrics())
STATS = ("exits", "hypercalls", "irq_injections", "nmi_injections", "signal_exits", "halt_exits", "io_exits")


@pytest.fixture
def planner(make_host: Callable[..., Any]) -> Planner:
    host = make_host()
    host.add()
    schemas = [block.schema for block in host.sample().blocks]
    stats = {(each.provider, each.scope, stat.name): stat for each in schemas for stat in each.descriptors}
    return Planner(Resolver(stats, METRICS, ()))


def asked(*texts: str, scope: Scope = Scope.VCPU, at: Level = Scope.VCPU) -> Questions:
    return Questions(tuple(Formula(parse(text), scope, Type()) for text in texts), at)


def plan_of(planner: Planner, *questions: Questions) -> FormulaPlan:
    return planner.after(planner.start, questions)


def kinds(plan: FormulaPlan) -> Counter[str]:
    return Counter(type(step).__name__ for step in plan.steps)


@pytest.mark.parametrize("at", [Scope.VCPU, Scope.VM, HOST], ids=str)
def test_more_formulas_of_one_form_are_more_rows_and_no_more_steps(planner: Planner, at: Level) -> None:
    few = plan_of(planner, asked(*(f"ratio(rate({stat}), rate(exits), 0) + 1" for stat in STATS[1:3]), at=at))
    many = plan_of(planner, asked(*(f"ratio(rate({stat}), rate(exits), 0) + 1" for stat in STATS[1:]), at=at))
    assert len(many.rows) > len(few.rows)
    assert kinds(many) == kinds(few)


def test_all_metrics_and_rules_take_fewer_steps_than_there_are_formulas(planner: Planner) -> None:
    rules = [(rule.when, rule.activity, rule.clears, rule.cost) for rule in load_findings()]
    conditions = Questions(tuple(filter(None, chain.from_iterable(rules))), Scope.VM)
    plan = plan_of(planner, conditions, Questions(tuple(METRICS.values()), Scope.VM))
    assert len(plan.rows) > 400
    assert len(plan.steps) < 0.7 * (len(conditions.formulas) + len(METRICS))


def test_what_formulas_have_in_common_is_one_row(planner: Planner) -> None:
    plan = plan_of(planner, asked("rate(exits) + 1", "2 * (rate(exits) + 1)", "max2(rate(exits) + 1, rate(exits))"))
    assert _names(plan) == ["1.0", "2.0", "rate(kvm.exits@vcpu)", *sorted(SUMS)]


SUMS = (
    "(rate(kvm.exits@vcpu) + 1.0)",
    "(2.0 * (rate(kvm.exits@vcpu) + 1.0))",
    "max2((rate(kvm.exits@vcpu) + 1.0), rate(kvm.exits@vcpu))",
)


def _names(plan: FormulaPlan) -> Sequence[str]:
    texts = [str(slot.node) for slot in plan.rows]
    return [*sorted(text for text in texts if text not in SUMS), *sorted(text for text in texts if text in SUMS)]


def test_comparisons_in_both_directions_are_one_step(planner: Planner) -> None:
    plan = plan_of(planner, asked("rate(exits) < 1", "rate(hypercalls) > 1"))
    (step,) = (step for step in plan.steps if isinstance(step, PairStep))
    assert step.rows == slice(3, 5)


def test_a_step_comes_after_all_whose_rows_it_takes(planner: Planner) -> None:
    folds = [f"sum(max2(rate({stat}), 1)) / 2 >= max(rate(exits))" for stat in STATS]
    plan = plan_of(planner, asked(*folds, scope=Scope.VM, at=Scope.VM), Questions(tuple(METRICS.values()), HOST))
    filled: dict[Level, int] = dict.fromkeys((*Scope, HOST), 0)
    for step in plan.steps:
        match step:
            case PairStep():
                assert max(*step.left, *step.right) < filled[step.level]
            case FoldStep():
                assert max(step.operands) < filled[Scope.VCPU]
            case TotalStep():
                assert max(*step.columns, *step.cohorts.presences) < filled[step.scope]
        rows = step.rows if hasattr(step, "rows") else slice(step.row, step.row + 1)
        assert rows.start == filled[step.level]
        filled[step.level] = rows.stop
    assert filled == plan.sizes


def test_a_plan_goes_on_where_the_one_before_it_ended(planner: Planner) -> None:
    first = plan_of(planner, asked("rate(exits) + rate(hypercalls)"))
    second = planner.after(first, (asked("rate(exits) + rate(io_exits)", "rate(exits) + rate(hypercalls)"),))
    read, added = second.steps
    assert isinstance(read, StatStep)
    assert [stat.name for stat in read.selection.stats] == ["io_exits"]
    assert isinstance(added, PairStep)
    assert added.rows == slice(4, 5)
    (answers,) = (rows for questions, rows in second.answers.items() if len(questions.formulas) == 2)
    assert answers.rows.tolist() == [4, 2]


def test_the_same_questions_in_the_same_order_have_the_same_plans(planner: Planner) -> None:
    one, other = asked("rate(exits)"), asked("rate(hypercalls)")
    plan = planner.after(plan_of(planner, one), (other,))
    assert planner.after(plan_of(planner, one), (other,)) is plan
    assert planner.after(plan_of(planner, other), (one,)) is not plan


def test_plans_that_are_kept_have_a_bound(planner: Planner) -> None:
    for number in range(300):
        plan_of(planner, asked(f"rate(exits) + {number}"))
    assert len(planner.start.following) <= 64
