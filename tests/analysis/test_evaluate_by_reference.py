"""Resolved and evaluated over columns, a formula has the values that a plain interpreter finds subject by subject.

The interpreter knows nothing of resolving and of columns: it walks the formula as it was written, over the words as
they were put into the samples.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmscope.analysis import histogram
from kvmscope.analysis.evaluate import Evaluator
from kvmscope.analysis.window import Window
from kvmscope.formula.check import Formula, Type
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
    StatName,
    StatTerm,
    children,
)
from kvmscope.sample import Sample, VmId
from kvmscope.schema import Base, Descriptor, Kind, Schema, Scope, Unit, Unknown
from kvmscope.sources.files import StatsOf, VcpuStats, VmStats, assemble

BUCKETS = 4
SCHEMAS = {
    Scope.VCPU: Schema(
        "kvm",
        Scope.VCPU,
        (
            Descriptor("exits", Kind.CUMULATIVE, offset=0),
            Descriptor("halts", Kind.CUMULATIVE, offset=8),
            Descriptor("poll_ns", Kind.CUMULATIVE, Unit.SECONDS, exponent=-9, offset=16),
            Descriptor("depth", Kind.INSTANT, offset=24),
            Descriptor("longest", Kind.PEAK, offset=32),
            Descriptor("odd", Unknown(9), offset=40),
            Descriptor("hist", Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=BUCKETS, offset=48),
        ),
        80,
    ),
    Scope.VM: Schema(
        "kvm",
        Scope.VM,
        (
            Descriptor("flushes", Kind.CUMULATIVE, offset=0),
            Descriptor("pages", Kind.INSTANT, Unit.BYTES, Base.POW2, exponent=12, offset=8),
            Descriptor("widest", Kind.PEAK, offset=16),
        ),
        24,
    ),
}
NAMES = {scope: (*(stat.name for stat in schema.descriptors), "absent") for scope, schema in SCHEMAS.items()}

Words = tuple[int, ...]
Subject = tuple[int, int | None]
"""A VM's number, and a vCPU's or None."""
Value = float | None


# --- what samples are made of -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReferenceMoment:
    """Words by subject; a subject that is there and cannot be read has None."""

    words: Mapping[Subject, Words | None]

    @property
    def vms(self) -> list[int]:
        return [vm for vm, vcpu in self.words if vcpu is None]

    @property
    def vcpus(self) -> list[Subject]:
        return [(vm, vcpu) for number in self.vms for vm, vcpu in self.words if vm == number and vcpu is not None]

    def subjects(self, level: Level) -> list[Subject]:
        if level is HOST:
            return [(0, None)]
        return self.vcpus if level is Scope.VCPU else [(vm, None) for vm in self.vms]

    def members(self, subject: Subject, level: Level, scope: Scope) -> list[Subject]:
        """Who of a scope belongs to a subject of a level."""
        everybody = self.subjects(scope)
        return everybody if level is HOST else [each for each in everybody if each[0] == subject[0]]

    def sample(self, at_s: int) -> Sample:
        made = [VmStats(VmId(vm), self._stats((vm, None)), self._vcpus(vm)) for vm in self.vms]
        return assemble(made, source="test", taken_ns=0, monotonic_ns=at_s * 10**9)

    def _vcpus(self, vm: int) -> list[VcpuStats]:
        return [VcpuStats(each[1] or 0, self._stats(each)) for each in self.vcpus if each[0] == vm]

    def _stats(self, subject: Subject) -> list[StatsOf]:
        words = self.words[subject]
        schema = SCHEMAS[Scope.VM if subject[1] is None else Scope.VCPU]
        return [] if words is None else [StatsOf(schema, np.array(words, dtype=np.uint64))]


@dataclass(frozen=True)
class EvaluationCase:
    """Two moments, the seconds between them, and the facts that the caller provides."""

    before: ReferenceMoment
    after: ReferenceMoment
    seconds: int
    facts: Mapping[tuple[Level, str], Sequence[Value]]

    def evaluator(self, metrics: Mapping[str, Formula]) -> Evaluator:
        facts = {
            key: np.array([math.nan if each is None else each for each in column], dtype=np.float64)
            for key, column in self.facts.items()
        }
        return Evaluator(Window(self.before.sample(0), self.after.sample(self.seconds)), metrics, facts)


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


# --- generated formulas and samples -----------------------------------------------------------------------------------

_bare = st.integers(0, 4).map(lambda value: Number(float(value)))
_zeros = st.sampled_from([None, 0.0, 1.0, -1.0])


@cache
def _numbers(scope: Scope, depth: int, names: tuple[str, ...]) -> st.SearchStrategy[Expression]:
    """``names``: metrics that may be referred to."""
    stats = st.builds(StatName, st.just("kvm"), st.sampled_from(NAMES[scope]))
    leaf: list[st.SearchStrategy[Expression]] = [
        _bare,
        st.builds(StatTerm, st.sampled_from(Reduction), stats),
        st.builds(FactTerm, st.sampled_from(["age", "size", "nothing"])),
    ]
    if scope is Scope.VCPU:
        hists = st.builds(StatName, st.just("kvm"), st.sampled_from(["hist", "hist", "exits"]))
        bounds = st.sampled_from([1e-9, 3e-9, 4e-9]).map(Number)
        leaf += [
            st.builds(QuantileTerm, hists, st.sampled_from([0.0, 0.5, 1.0])),
            st.builds(ShareTerm, hists, bounds, st.booleans()),
        ]
    if names:
        leaf.append(st.builds(Reference, st.sampled_from(names)))
    if depth == 0:
        return st.one_of(leaf)
    inner = _numbers(scope, depth - 1, names)
    signs = st.sampled_from([sign for sign in Operator if sign is not Operator.DIVIDE])
    larger: list[st.SearchStrategy[Expression]] = [
        st.builds(Minus, inner),
        st.builds(Arithmetic, signs, inner, inner),
        st.builds(Arithmetic, st.just(Operator.DIVIDE), inner, st.sampled_from([2.0, 4.0]).map(Number)),
        st.builds(Ratio, inner, inner, _zeros),
        st.builds(Either, st.lists(inner, min_size=1, max_size=3).map(tuple)),
    ]
    if scope is Scope.VM:
        folds = st.sampled_from([Fold.SUM, Fold.MAX, Fold.MEAN])
        of_vcpus = tuple(name for name in names if name.startswith("vcpu"))
        larger += [
            st.builds(OverVcpus, folds, _numbers(Scope.VCPU, depth - 1, of_vcpus)),
            st.builds(OverVcpus, st.just(Fold.COUNT), _conditions(Scope.VCPU, depth - 1, of_vcpus)),
        ]
    return st.one_of(*leaf, *larger, *larger)


@cache
def _conditions(scope: Scope, depth: int, names: tuple[str, ...]) -> st.SearchStrategy[Expression]:
    numbers = _numbers(scope, max(depth - 1, 0), names)
    compared = st.builds(Compare, st.sampled_from(Comparison), numbers, numbers)
    if depth == 0:
        return compared
    inner = _conditions(scope, depth - 1, names)
    return st.one_of(
        compared,
        st.builds(Join, st.sampled_from(Junction), inner, inner),
        st.builds(Negation, inner),
        st.builds(Either, st.lists(inner, min_size=1, max_size=2).map(tuple)),
    )


@cache
def _formula(scope: Scope, names: tuple[str, ...]) -> st.SearchStrategy[Formula]:
    expressions = st.one_of(_numbers(scope, 3, names), _conditions(scope, 3, names))
    return expressions.map(lambda expression: Formula(expression, scope, Type()))


@st.composite
def _metrics(draw: st.DrawFn) -> dict[str, Formula]:
    """Each may refer to those before it."""
    metrics: dict[str, Formula] = {}
    for name, scope in (("vcpu_a", Scope.VCPU), ("vcpu_b", Scope.VCPU), ("vm_c", Scope.VM)):
        known = tuple(other for other in metrics if scope is Scope.VM or other.startswith("vcpu"))
        metrics[name] = Formula(draw(_numbers(scope, 2, known)), scope, Type())
    return metrics


@st.composite
def _cases(draw: st.DrawFn) -> EvaluationCase:
    """A few VMs of which some came, went, cannot be read, or had counts that went down.

    A VM has no more than two vCPUs, and counts are small: sums are exact, and added in one order.
    """
    before, after = draw(_moments()), draw(_moments())
    kept = draw(st.booleans())
    if kept:  # the same subjects, and counts that mostly went up
        after = ReferenceMoment({subject: draw(_later(words, subject)) for subject, words in before.words.items()})
    facts: dict[tuple[Level, str], Sequence[Value]] = {}
    for level in (Scope.VCPU, Scope.VM, HOST):
        for name in ("age", "size"):
            if draw(st.booleans()):
                count = len(after.subjects(level))
                column = st.lists(st.none() | st.integers(0, 3).map(float), min_size=count, max_size=count)
                facts[level, name] = draw(column)
    return EvaluationCase(before, after, draw(st.sampled_from([1, 2])), facts)


_counts = st.integers(0, 6)


@st.composite
def _moments(draw: st.DrawFn) -> ReferenceMoment:
    words: dict[Subject, Words | None] = {}
    for vm in draw(st.lists(st.integers(1, 3), unique=True, max_size=3)):
        words[vm, None] = draw(_words(Scope.VM))
        for vcpu in range(draw(st.integers(0, 2))):
            words[vm, vcpu] = draw(_words(Scope.VCPU))
    return ReferenceMoment(words)


def _words(scope: Scope) -> st.SearchStrategy[Words | None]:
    size = SCHEMAS[scope].words
    known = st.lists(_counts, min_size=size, max_size=size).map(lambda words: _in_seconds(words, scope))
    return st.one_of(known, known, known, st.none())


def _in_seconds(words: Sequence[int], scope: Scope) -> Words:
    """Times of whole seconds, which floats have exactly."""
    time = SCHEMAS[Scope.VCPU]["poll_ns"].offset // 8
    return tuple(w * 10**9 if scope is Scope.VCPU and at == time else w for at, w in enumerate(words))


def _later(words: Words | None, subject: Subject) -> st.SearchStrategy[Words | None]:
    fresh = _words(Scope.VM if subject[1] is None else Scope.VCPU)
    if words is None:
        return fresh
    grown = fresh.map(lambda more: None if more is None else tuple(a + b for a, b in zip(words, more, strict=True)))
    return st.one_of(grown, grown, grown, fresh)


def _plain(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[Value]:
    return [None if math.isnan(value) else value for value in values.tolist()]


_LEVELS: Final[Mapping[Scope, Sequence[Level]]] = {
    Scope.VCPU: (Scope.VCPU, Scope.VM, HOST),
    Scope.VM: (Scope.VM, HOST),
}


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_evaluating_what_was_resolved_is_interpreting_what_was_written(data: st.DataObject) -> None:
    case, metrics = data.draw(_cases()), data.draw(_metrics())
    scope = data.draw(st.sampled_from(Scope))
    names = tuple(name for name in metrics if scope is Scope.VM or name.startswith("vcpu"))
    formula = data.draw(_formula(scope, names))
    evaluator, interpreter = case.evaluator(metrics), Interpreter(case, metrics)
    for level in _LEVELS[scope]:
        assert _plain(evaluator.of(formula, level)) == interpreter.of(formula, level), evaluator.resolve(formula, level)
        assert evaluator.missing(formula, level).tolist() == interpreter.missing(formula, level)
