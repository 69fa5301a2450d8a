"""Resolved and evaluated over columns, a formula has the values that a plain interpreter finds subject by subject.

The interpreter knows nothing of resolving and of columns: it walks the formula as it was written, over the words as
they were put into the samples.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from formula_cases import (
    SCHEMAS,
    EvaluationCase,
    ReferenceMoment,
    Subject,
    Value,
    Words,
    any_cases,
    any_makers,
    any_metrics,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmscope.analysis import histogram
from kvmscope.formula.check import Formula
from kvmscope.formula.tree import (
    HOST,
    Arithmetic,
    Compare,
    Comparison,
    Either,
    Expression,
    FactTerm,
    Fold,
    Join,
    Junction,
    Level,
    Minus,
    Negation,
    Number,
    Operator,
    OverVcpus,
    QuantileTerm,
    Ratio,
    Reduction,
    Reference,
    ShareTerm,
    StatTerm,
    children,
)
from kvmscope.schema import Descriptor, Kind, Scope

# --- the interpreter --------------------------------------------------------------------------------------------------

Lookup = Callable[[Expression], Value]
"""What a leaf is to the arithmetic around it."""


@dataclass(frozen=True)
class Interpreter:
    """Formulas as written, one subject at a time; None is unknown."""

    case: EvaluationCase
    metrics: Mapping[str, Formula]

    def of(self, formula: Formula, level: Level) -> list[Value]:
        subjects = self.case.after.subjects(level)
        return [self.whole(formula.expression, formula.scope, subject, level) for subject in subjects]

    def missing(self, formula: Formula, level: Level) -> list[int]:
        subjects = self.case.after.subjects(level)
        return [self._missing(formula.expression, formula.scope, subject, level) for subject in subjects]

    def whole(self, node: Expression, scope: Scope, subject: Subject, level: Level) -> Value:
        """An expression with its own choice of members."""
        everybody = self.case.after.members(subject, level, scope)
        leaves = self._leaves(node, scope)
        members = everybody if level is scope else [m for m in everybody if self._knows_all(leaves, m, scope)]

        def leaf(term: Expression) -> Value:
            return self._leaf(term, [subject] if level is scope else members, scope)

        return self._value(node, scope, subject, level, leaf)

    def _value(self, node: Expression, scope: Scope, subject: Subject, level: Level, leaf: Lookup) -> Value:
        def inner(part: Expression) -> Value:
            return self._value(part, scope, subject, level, leaf)

        match node:
            case Number():
                return node.value
            case StatTerm() | QuantileTerm() | ShareTerm():
                return leaf(node)
            case FactTerm():
                column = self.case.facts.get((level, node.name))
                return None if column is None else column[self.case.after.subjects(level).index(subject)]
            case Reference():
                metric = self.metrics[node.name]
                if metric.scope is scope:
                    return inner(metric.expression)
                return self.whole(metric.expression, metric.scope, subject, level)
            case Minus():
                operand = inner(node.operand)
                return None if operand is None else -operand
            case Arithmetic():
                return _arithmetic(node.operator, inner(node.left), inner(node.right))
            case Ratio():
                return _ratio(inner(node.left), inner(node.right), node.zero)
            case Either():
                chosen = self._chosen(node, scope)
                return None if chosen is None else inner(chosen)
            case OverVcpus():
                return _fold(node.fold, self._of_vcpus(node, subject, level))
            case Compare():
                left, right = (self.whole(part, scope, subject, level) for part in (node.left, node.right))
                return None if left is None or right is None else float(_COMPARE[node.comparison](left, right))
            case Join():
                return _join(node.junction, *(self.whole(part, scope, subject, level) for part in children(node)))
            case Negation():
                operand = self.whole(node.operand, scope, subject, level)
                return None if operand is None else 1.0 - operand

    def _of_vcpus(self, node: OverVcpus, subject: Subject, level: Level) -> list[Value]:
        vcpus = self.case.after.members(subject, level, Scope.VCPU)
        return [self.whole(node.operand, Scope.VCPU, vcpu, Scope.VCPU) for vcpu in vcpus]

    def _leaves(self, node: Expression, scope: Scope) -> list[Expression]:
        """The leaves of one arithmetic expression; a number stands for a choice that nothing is left of."""
        match node:
            case StatTerm() | QuantileTerm() | ShareTerm():
                return [node]
            case Reference():
                metric = self.metrics[node.name]
                return self._leaves(metric.expression, scope) if metric.scope is scope else []
            case Either():
                chosen = self._chosen(node, scope)
                return [Number(0)] if chosen is None else self._leaves(chosen, scope)
            case Minus() | Arithmetic() | Ratio():
                return [leaf for part in children(node) for leaf in self._leaves(part, scope)]
        return []

    def _knows_all(self, leaves: Sequence[Expression], member: Subject, scope: Scope) -> bool:
        return all(not isinstance(leaf, Number) and self._words(leaf, member, scope) is not None for leaf in leaves)

    def _leaf(self, term: Expression, members: Sequence[Subject], scope: Scope) -> Value:
        words = [found for member in members if (found := self._words(term, member, scope)) is not None]
        if not words or not isinstance(term, StatTerm | QuantileTerm | ShareTerm):
            return None
        descriptor = SCHEMAS[scope][term.stat.name]
        summed: list[float] = [sum(column) for column in zip(*words, strict=True)]
        match term:
            case QuantileTerm():
                quantile = histogram.quantile(descriptor, [int(count) for count in summed], term.q)
                return None if quantile is None else quantile.estimate
            case ShareTerm():
                return _share(descriptor, [int(count) for count in summed], term)
        if descriptor.kind is Kind.PEAK:
            return max(word for (word,) in words)
        return summed[0]

    def _words(self, term: Expression, member: Subject, scope: Scope) -> list[float] | None:
        """What is taken of one subject's words; None if that is not known."""
        assert isinstance(term, StatTerm | QuantileTerm | ShareTerm)
        if not _fits(term, scope):
            return None
        stat = SCHEMAS[scope][term.stat.name]
        now, before = (self._raw(moment, member, stat) for moment in (self.case.after, self.case.before))
        if isinstance(term, StatTerm) and term.reduction is Reduction.VALUE:
            return None if now is None else [now[0] * stat.scale]
        if now is None or before is None or any(a < b for a, b in zip(now, before, strict=True)):
            return None
        moved = [a - b for a, b in zip(now, before, strict=True)]
        if not isinstance(term, StatTerm):
            return [float(count) for count in moved]
        scale = 1.0 if stat.is_histogram else stat.scale
        seconds = 1.0 if term.reduction is Reduction.DELTA else self.case.seconds
        return [sum(moved) * (scale / seconds)]

    def _raw(self, moment: ReferenceMoment, member: Subject, stat: Descriptor) -> Words | None:
        words = moment.words.get(member)
        return None if words is None else words[stat.offset // 8 :][: stat.size]

    def _chosen(self, node: Either, scope: Scope) -> Expression | None:
        return next((option for option in node.options if self._has(option, scope)), None)

    def _has(self, node: Expression, scope: Scope) -> bool:
        match node:
            case StatTerm() | QuantileTerm() | ShareTerm():
                return _fits(node, scope) and self._is_described(scope)
            case FactTerm():
                return any(name == node.name for _, name in self.case.facts)
            case Reference():
                return self._has(self.metrics[node.name].expression, self.metrics[node.name].scope)
            case Either():
                return self._chosen(node, scope) is not None
        inner = Scope.VCPU if isinstance(node, OverVcpus) else scope
        return all(self._has(part, inner) for part in children(node))

    def _is_described(self, scope: Scope) -> bool:
        """A sample without anybody of whom there are words has no descriptors."""
        return any(self.case.after.words[subject] is not None for subject in self.case.after.subjects(scope))

    def _missing(self, node: Expression, scope: Scope, subject: Subject, level: Level) -> int:
        """The most that any sum within leaves out."""
        members = self.case.after.members(subject, level, scope)
        leaves = self._leaves(node, scope)
        own = 0 if level is scope else sum(not self._knows_all(leaves, member, scope) for member in members)
        match node:
            case OverVcpus():
                return max(own, sum(value is None for value in self._of_vcpus(node, subject, level)))
            case Reference():
                metric = self.metrics[node.name]
                return max(own, self._missing(metric.expression, metric.scope, subject, level))
            case Either():
                chosen = self._chosen(node, scope)
                return own if chosen is None else max(own, self._missing(chosen, scope, subject, level))
        return max([own, *(self._missing(part, scope, subject, level) for part in children(node))])


def _fits(term: StatTerm | QuantileTerm | ShareTerm, scope: Scope) -> bool:
    stat = next((each for each in SCHEMAS[scope].descriptors if each.name == term.stat.name), None)
    if stat is None or stat.name == "odd" or term.stat.provider != "kvm":
        return False
    if not isinstance(term, StatTerm):
        return stat.name == "hist"
    match term.reduction:
        case Reduction.VALUE:
            return stat.name != "hist"
        case Reduction.SECONDS:
            return stat.name == "poll_ns"
    return stat.kind is Kind.CUMULATIVE or stat.name == "hist"


def _arithmetic(sign: Operator, left: Value, right: Value) -> Value:
    return None if left is None or right is None else _ARITHMETIC[sign](left, right)


def _ratio(above: Value, below: Value, zero: float | None) -> Value:
    if above is None or below is None:
        return None
    return zero if below == 0 else above / below


def _fold(fold: Fold, values: Sequence[Value]) -> Value:
    known = [value for value in values if value is not None]
    if not known:
        return None
    if fold is Fold.MAX:
        return max(known)
    return sum(known) / len(known) if fold is Fold.MEAN else sum(known)


def _join(junction: Junction, left: Value, right: Value) -> Value:
    decisive = 0.0 if junction is Junction.AND else 1.0
    if decisive in (left, right):
        return decisive
    return None if left is None or right is None else 1.0 - decisive


def _share(stat: Descriptor, counts: Sequence[int], term: ShareTerm) -> Value:
    below = float(histogram.Distributions(stat, np.array([counts])).share_below(term.bound.value)[0])
    if math.isnan(below):
        return None
    return 1.0 - below if term.is_above else below


_ARITHMETIC: Final[Mapping[Operator, Callable[[float, float], float]]] = {
    Operator.ADD: operator.add,
    Operator.SUBTRACT: operator.sub,
    Operator.MULTIPLY: operator.mul,
    Operator.DIVIDE: operator.truediv,
    Operator.MIN: min,
    Operator.MAX: max,
}
_COMPARE: Final[Mapping[Comparison, Callable[[float, float], bool]]] = {
    Comparison.LESS: operator.lt,
    Comparison.LESS_OR_EQUAL: operator.le,
    Comparison.MORE: operator.gt,
    Comparison.MORE_OR_EQUAL: operator.ge,
    Comparison.EQUAL: operator.eq,
    Comparison.NOT_EQUAL: operator.ne,
}


def _plain(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[Value]:
    return [None if math.isnan(value) else value for value in values.tolist()]


_LEVELS: Final[Mapping[Scope, Sequence[Level]]] = {
    Scope.VCPU: (Scope.VCPU, Scope.VM, HOST),
    Scope.VM: (Scope.VM, HOST),
}


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_evaluating_what_was_resolved_is_interpreting_what_was_written(data: st.DataObject) -> None:
    case, metrics = data.draw(any_cases()), data.draw(any_metrics())
    scope = data.draw(st.sampled_from(Scope))
    formula = data.draw(any_makers(metrics)).formula(scope)
    evaluator, interpreter = case.evaluator(metrics), Interpreter(case, metrics)
    for level in _LEVELS[scope]:
        assert _plain(evaluator.of(formula, level)) == interpreter.of(formula, level), evaluator.resolve(formula, level)
        assert evaluator.missing(formula, level).tolist() == interpreter.missing(formula, level)
