"""Formulas have the same values in numpy, DuckDB and ClickHouse's engine: generated ones, over generated samples.

``KVMSCOPE_FORMULAS``: how many formulas, 60 by default. Each is asked at every level that it has, in every window.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pytest
from any_formula import FormulaMaker
from crafted import MACHINE
from engines_at_hand import ENGINES, ClickhouseAtHand, DuckdbAtHand, Rows, block_sets, is_near, tables_by_host
from formula_cases import FACTS, ReferenceMoment, Value, any_makers, any_metrics, any_moments, later
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kvmscope.analysis.evaluate import Evaluator
from kvmscope.analysis.window import Window
from kvmscope.engines.columns import BlockSet
from kvmscope.engines.lower import Lowering
from kvmscope.engines.queries import FormulaSet, formula_query, key_of
from kvmscope.engines.relational import Apply, Branching, Function, Literal, Null, Ref, Scalar, equal, every
from kvmscope.engines.windows import WINDOW, WindowPlan
from kvmscope.formula.check import Formula
from kvmscope.formula.tree import HOST, Arithmetic, Compare, Comparison, Expression, Level, Number, Operator, Ratio
from kvmscope.sample import Sample
from kvmscope.scene import Scene, VmIdentity
from kvmscope.schema import Scope

FORMULAS_A_CASE = 20
CASES = max(1, int(os.environ.get("KVMSCOPE_FORMULAS", "60")) // FORMULAS_A_CASE)
LEVELS: Mapping[Scope, Sequence[Level]] = {Scope.VCPU: (Scope.VCPU, Scope.VM, HOST), Scope.VM: (Scope.VM, HOST)}
NOON_S: Final = 1_700_000_000


@dataclass(frozen=True)
class GivenFacts:
    """Facts of the subjects of each window, as a test makes them up."""

    columns: Sequence[Mapping[tuple[Level, str], Sequence[Value]]]
    scenes: Sequence[Scene]

    def fact(self, name: str, level: Level, _lowering: Lowering) -> Scalar:
        branches = tuple(
            (every(equal(Ref("window"), Literal(number)), *_is_subject(subject)), Literal(value))
            for number, columns in enumerate(self.columns, 1)
            for subject, value in zip(_subjects(self.scenes[number].sample, level), columns[level, name], strict=True)
            if value is not None
        )
        return Branching(branches) if branches else Null()

    def total(self, _name: str, _lowering: Lowering) -> Scalar | None:
        return None


def _is_subject(subject: tuple[int, ...]) -> Iterator[Scalar]:
    for column, value in zip(("vm", "vcpu"), subject, strict=False):
        yield Apply(Function.EQUAL, (Ref(column), Literal(value)))


def _subjects(sample: Sample, level: Level) -> list[tuple[int, ...]]:
    ids = sample.vms.id.tolist()
    if level is HOST:
        return [()]
    if level is Scope.VM:
        return [(vm,) for vm in ids]
    return [(ids[row], vcpu) for row, vcpu in zip(sample.vcpus.vm.tolist(), sample.vcpus.id.tolist(), strict=True)]


@dataclass(frozen=True)
class EngineCase:
    """Scenes that follow one another, metrics, formulas, and facts of each window."""

    scenes: Sequence[Scene]
    metrics: Mapping[str, Formula]
    formulas: Sequence[Formula]
    facts: GivenFacts

    @property
    def fact_names(self) -> frozenset[tuple[Level, str]]:
        return frozenset(self.facts.columns[0])

    def expected(self, level: Level) -> dict[tuple[int, ...], list[float]]:
        """By window and subject the values in numpy of the formulas that the level has."""
        found: dict[tuple[int, ...], list[float]] = {}
        for number, (before, after) in enumerate(zip(self.scenes, self.scenes[1:], strict=False), 1):
            columns = {key: _as_column(values) for key, values in self.facts.columns[number - 1].items()}
            evaluator = Evaluator(Window(before, after), self.metrics, columns)
            values = [evaluator.of(formula, level).tolist() for formula in self.of_level(level).values()]
            for subject, row in zip(_subjects(after.sample, level), zip(*values, strict=True), strict=True):
                found[number, *subject] = list(row)
        return found

    def of_level(self, level: Level) -> dict[str, Formula]:
        return {f"f{at}": each for at, each in enumerate(self.formulas) if level in LEVELS[each.scope]}

    def found(self, engine: DuckdbAtHand | ClickhouseAtHand, sets: Sequence[BlockSet], level: Level) -> Rows:
        asked = FormulaSet(self.of_level(level), self.metrics, self.facts, self.fact_names)
        return engine.rows(formula_query(asked, level, sets, WindowPlan()))


def _as_column(values: Sequence[Value]) -> Any:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


@st.composite
def any_engine_cases(draw: st.DrawFn) -> EngineCase:
    moments = [draw(any_moments())]
    for _ in range(draw(st.integers(1, 3))):
        grown = st.fixed_dictionaries({subject: later(words, subject) for subject, words in moments[-1].words.items()})
        moments.append(draw(st.one_of(any_moments(), grown.map(ReferenceMoment), grown.map(ReferenceMoment))))
    scenes = list(_scenes(moments, draw(st.lists(st.sampled_from([1, 2]), min_size=4, max_size=4))))
    names = [(level, name) for level in (Scope.VCPU, Scope.VM, HOST) for name in FACTS]
    asked = draw(st.lists(st.sampled_from(names), unique=True))
    columns = [{key: draw(_facts(len(_subjects(scene.sample, key[0])))) for key in asked} for scene in scenes[1:]]
    metrics = draw(any_metrics())
    maker = draw(any_makers(metrics))
    formulas = [_any_formula(maker) for _ in range(FORMULAS_A_CASE)]
    return EngineCase(scenes, metrics, formulas, GivenFacts(columns, scenes))


def _scenes(moments: Sequence[ReferenceMoment], seconds: Sequence[int]) -> Iterator[Scene]:
    at_s = 100
    for moment, wait_s in zip(moments, seconds, strict=False):
        sample = replace(moment.sample(at_s), taken_ns=(NOON_S + at_s) * 10**9)
        yield Scene(sample, tuple(VmIdentity(f"vm-{vm}", None) for vm in moment.vms), MACHINE, {})
        at_s += wait_s


def _facts(count: int) -> st.SearchStrategy[Sequence[Value]]:
    return st.lists(st.none() | st.integers(0, 3).map(float), min_size=count, max_size=count)


def _any_formula(maker: FormulaMaker) -> Formula:
    formula = maker.formula(maker.random.choice(list(Scope)))
    if formula.type.is_condition or maker.random.random() < 0.5:
        return formula
    return replace(formula, expression=maker.random.choice(_vast(formula.expression)))


def _vast(expression: Expression) -> list[Expression]:
    """What no float holds, and what is made of it."""
    huge = Number(1e300)
    vast = Arithmetic(Operator.MULTIPLY, Arithmetic(Operator.MULTIPLY, expression, huge), huge)
    return [
        vast,
        Arithmetic(Operator.SUBTRACT, vast, vast),
        Arithmetic(Operator.MIN, vast, Number(1.0)),
        Ratio(Number(1.0), vast, 2.0),
        Ratio(expression, Ratio(Number(1.0), huge, None), None),
        Compare(Comparison.MORE, vast, Number(0.0)),
    ]


@settings(max_examples=CASES, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(case=any_engine_cases())
def test_generated_formulas_have_the_values_of_numpy(
    tmp_path_factory: pytest.TempPathFactory, case: EngineCase
) -> None:
    tables = tables_by_host({"one": case.scenes})
    for made in ENGINES:
        engine = made(tables, tmp_path_factory.mktemp("tables"))
        for level in (Scope.VCPU, Scope.VM, HOST):
            compare(case, engine, block_sets(tables), level)


def compare(case: EngineCase, engine: DuckdbAtHand | ClickhouseAtHand, sets: Sequence[BlockSet], level: Level) -> None:
    expected = case.expected(level)
    formulas = case.of_level(level)
    rows = case.found(engine, sets, level)
    keys = ("window", *key_of(level)[len(WINDOW) :])
    found = {tuple(row[name] for name in keys): [row[name] for name in formulas] for row in rows}
    assert found.keys() == expected.keys()
    for key, values in found.items():
        for formula, value, wanted in zip(formulas.values(), values, expected[key], strict=True):
            assert is_near(value, wanted), (engine.engine, level, key, str(formula), value, wanted)
