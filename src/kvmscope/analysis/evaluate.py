"""What formulas come to in a window, for all subjects at once.

Not here: the language (``formula``).

Rules. NaN is unknown, and whatever is made of an unknown is unknown, but for what Kleene's logic can tell (false and
unknown is false). A stat that this sample has not got, or has as something else than the formula takes it for, is
unknown.
A formula of vCPUs is also had for a VM and the host: the same formula with its *leaves* summed over the vCPUs, counts,
times and buckets alike (a peak: the largest), so that a ratio is a ratio of sums and a quantile one of all values. A
vCPU of which one leaf of an arithmetic expression is not known is left out of all of its leaves; ``missing`` counts
those, and if no vCPU is left the number is unknown. Each side of a comparison is an expression of its own, and so is
what is folded by ``sum(…)`` and its like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import reduce
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np

from ..errors import UsageError
from ..formula.check import Formula
from ..formula.tree import (
    Arithmetic,
    Compare,
    Comparison,
    Either,
    Expression,
    FactTerm,
    Fold,
    Join,
    Junction,
    Leaf,
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
from ..sample import I64Array, Sample, U64Array
from ..schema import Descriptor, Kind, Scope, Unit
from . import histogram
from .window import BoolArray, F64Array, Window, find_column


class WholeHost(Enum):
    """The host as a whole: one number."""

    HOST = "host"


HOST: Final = WholeHost.HOST
Level: TypeAlias = Scope | WholeHost
"""Of what a number is asked: of each vCPU, of each VM, or of the host."""

_NO_FACTS: Final[Mapping[tuple[Level, str], F64Array]] = MappingProxyType({})


class Evaluator:
    """Formulas over one window. What is asked twice is worked out once."""

    def __init__(
        self,
        window: Window,
        metrics: Mapping[str, Formula],
        facts: Mapping[tuple[Level, str], F64Array] = _NO_FACTS,
    ) -> None:
        """``metrics``: by name, for formulas that refer to them. ``facts``: columns that ``fact(…)`` may ask for."""
        self.window = window
        self._metrics = metrics
        self._facts = facts
        self._columns = _Columns(window)
        # By identity, with the expression beside it so that no other can take its place.
        self._found: dict[tuple[int, Level], tuple[Expression, F64Array]] = {}
        self._subsets: dict[int, tuple[Expression, _Subset | None]] = {}

    def of(self, what: str | Formula, at: Level) -> F64Array:
        """One number a subject, in the order of the current sample; NaN: unknown. Conditions: 1 holds, 0 does not.

        UsageError if there is no such metric, or if a formula of VMs is asked of vCPUs.
        """
        formula = self._formula(what)
        if formula.scope is Scope.VM and at is Scope.VCPU:
            raise UsageError(f"{formula} is of VMs: a vCPU has none of its own")
        with np.errstate(all="ignore"):
            return self._number(formula.expression, formula.scope, at)

    def missing(self, what: str | Formula, at: Level) -> I64Array:
        """How many subjects lack in each number of ``of``: vCPUs, or of a formula of VMs for the host, VMs."""
        formula = self._formula(what)
        with np.errstate(all="ignore"):
            return self._missing(formula.expression, formula.scope, at)

    def _formula(self, what: str | Formula) -> Formula:
        if isinstance(what, Formula):
            return what
        if what not in self._metrics:
            raise UsageError(f"there is no metric {what!r}")
        return self._metrics[what]

    def _number(self, expression: Expression, scope: Scope, at: Level) -> F64Array:
        key = (id(expression), at)
        if key not in self._found:
            subset = None if at is scope else self._subset(expression, scope)
            values = self._calculate(expression, _Frame(scope, at, subset))
            self._found[key] = expression, values if isinstance(expression, _NEVER_INFINITE) else _finite(values)
        return self._found[key][1]

    def _calculate(self, expression: Expression, frame: _Frame) -> F64Array:
        return _RULES[type(expression)](self, expression, frame)

    def _literal(self, number: Number, frame: _Frame) -> F64Array:
        return np.full(self._columns.count(frame.at), number.value)

    def _stat(self, leaf: StatTerm, frame: _Frame) -> F64Array:
        return self._columns.numbers(leaf, frame)

    def _quantile(self, leaf: QuantileTerm, frame: _Frame) -> F64Array:
        found = self._columns.histogram(leaf, frame)
        return self._unknown(frame) if found is None else found.quantile(leaf.q)

    def _share(self, leaf: ShareTerm, frame: _Frame) -> F64Array:
        found = self._columns.histogram(leaf, frame)
        if found is None:
            return self._unknown(frame)
        below = found.share_below(leaf.bound.value)
        return 1.0 - below if leaf.is_above else below

    def _fact(self, fact: FactTerm, frame: _Frame) -> F64Array:
        return self._facts.get((frame.at, fact.name), self._unknown(frame))

    def _reference(self, reference: Reference, frame: _Frame) -> F64Array:
        metric = self._metrics[reference.name]
        is_own = metric.scope is not frame.scope or frame.subset is self._subset(metric.expression, metric.scope)
        if is_own or frame.at is frame.scope:
            return self._number(metric.expression, metric.scope, frame.at)
        return self._calculate(metric.expression, frame)

    def _minus(self, node: Minus, frame: _Frame) -> F64Array:
        return -self._calculate(node.operand, frame)

    def _arithmetic(self, node: Arithmetic, frame: _Frame) -> F64Array:
        left, right = self._calculate(node.left, frame), self._calculate(node.right, frame)
        found: F64Array = _OPERATIONS[node.operator](left, right)
        return found

    def _ratio(self, node: Ratio, frame: _Frame) -> F64Array:
        above, below = self._calculate(node.left, frame), self._calculate(node.right, frame)
        zero = np.nan if node.zero is None else node.zero
        return np.where(below == 0, np.where(np.isnan(above), np.nan, zero), above / below)

    def _either(self, node: Either, frame: _Frame) -> F64Array:
        chosen = self._choose(node, frame.scope)
        return self._unknown(frame) if chosen is None else self._calculate(chosen, frame)

    def _over(self, node: OverVcpus, frame: _Frame) -> F64Array:
        values = self._number(node.operand, Scope.VCPU, Scope.VCPU)
        subset = self._columns.intern(~np.isnan(values))
        inner = _Frame(Scope.VCPU, frame.at, subset)
        folded = self._columns.folded(values, inner, is_max=node.fold is Fold.MAX)
        return folded / self._columns.members(inner, subset) if node.fold is Fold.MEAN else folded

    def _compare(self, node: Compare, frame: _Frame) -> F64Array:
        left = self._number(node.left, frame.scope, frame.at)
        right = self._number(node.right, frame.scope, frame.at)
        holds = _COMPARISONS[node.comparison](left, right)
        return np.where(np.isnan(left) | np.isnan(right), np.nan, holds)

    def _join(self, node: Join, frame: _Frame) -> F64Array:
        left = self._number(node.left, frame.scope, frame.at)
        right = self._number(node.right, frame.scope, frame.at)
        if node.junction is Junction.AND:
            return np.where((left == 0) | (right == 0), 0.0, left * right)
        return np.where((left == 1) | (right == 1), 1.0, left + right)

    def _not(self, node: Negation, frame: _Frame) -> F64Array:
        return 1.0 - self._number(node.operand, frame.scope, frame.at)

    def _unknown(self, frame: _Frame) -> F64Array:
        return np.full(self._columns.count(frame.at), np.nan)

    def _choose(self, node: Either, scope: Scope) -> Expression | None:
        return next((option for option in node.options if self._has(option, scope)), None)

    def _has(self, expression: Expression, scope: Scope) -> bool:
        """Whether the sample has every stat that the expression needs."""
        match expression:
            case StatTerm() | QuantileTerm() | ShareTerm():
                return self._columns.descriptor(expression, scope) is not None
            case FactTerm():
                return any(name == expression.name for _, name in self._facts)
            case Reference():
                metric = self._metrics[expression.name]
                return self._has(metric.expression, metric.scope)
            case Either():
                return self._choose(expression, scope) is not None
        inner = Scope.VCPU if isinstance(expression, OverVcpus) else scope
        return all(self._has(part, inner) for part in children(expression))

    def _subset(self, expression: Expression, scope: Scope) -> _Subset | None:
        """Whose leaves are all known; None if it has no leaves that would be summed."""
        key = id(expression)
        if key not in self._subsets:
            self._subsets[key] = expression, self._find_subset(expression, scope)
        return self._subsets[key][1]

    def _find_subset(self, expression: Expression, scope: Scope) -> _Subset | None:
        match expression:
            case StatTerm() | QuantileTerm() | ShareTerm():
                return self._columns.subset(expression, scope)
            case Reference():
                metric = self._metrics[expression.name]
                return self._subset(metric.expression, scope) if metric.scope is scope else None
            case Either():
                chosen = self._choose(expression, scope)
                return self._columns.nobody(scope) if chosen is None else self._subset(chosen, scope)
            case Minus() | Arithmetic() | Ratio():
                found = (self._subset(part, scope) for part in children(expression))
                known = [subset for subset in found if subset is not None]
                return reduce(self._columns.both, known) if known else None
        return None

    def _missing(self, expression: Expression, scope: Scope, at: Level) -> I64Array:
        missing = np.zeros(self._columns.count(at), dtype=np.int64)
        subset = None if at is scope else self._subset(expression, scope)
        if subset is not None:
            missing = self._columns.groups(scope, at).count(~subset.known)
        for inner, inner_scope in self._summed_apart(expression, scope):
            missing = np.maximum(missing, self._missing(inner, inner_scope, at))
        if isinstance(expression, OverVcpus):
            unknown = np.isnan(self._number(expression.operand, Scope.VCPU, Scope.VCPU))
            missing = np.maximum(missing, self._columns.groups(Scope.VCPU, at).count(unknown))
        return missing

    def _summed_apart(self, expression: Expression, scope: Scope) -> list[tuple[Expression, Scope]]:
        """Parts that are not of the same subset as the whole, or may have such parts."""
        match expression:
            case Reference():
                metric = self._metrics[expression.name]
                return [(metric.expression, metric.scope)]
            case Either():
                chosen = self._choose(expression, scope)
                return [] if chosen is None else [(chosen, scope)]
            case OverVcpus():
                return []
        return [(part, scope) for part in children(expression)]


@dataclass(frozen=True, slots=True)
class _Subset:
    """Subjects of which something is known. There is one object for each set of subjects."""

    known: BoolArray
    is_everybody: bool


@dataclass(frozen=True, slots=True)
class _Frame:
    """Of what an expression is, at what level it is asked, and whose leaves are summed to get there."""

    scope: Scope
    at: Level
    subset: _Subset | None


@dataclass(frozen=True, slots=True)
class _Column:
    """A leaf of each subject: numbers in base units, or the counts of a histogram; anything where not in ``subset``."""

    descriptor: Descriptor
    values: F64Array | U64Array
    subset: _Subset


class _Groups:
    """Runs of adjacent subjects that belong together."""

    def __init__(self, edges: I64Array) -> None:
        self._size = len(edges) - 1
        # reduceat takes a run without members for one with its first.
        self._rows = np.flatnonzero(np.diff(edges) > 0)
        self._starts = edges[self._rows]

    def sum(self, values: Any) -> Any:
        return self._reduce(np.add, values)

    def max(self, values: F64Array) -> F64Array:
        found: F64Array = self._reduce(np.maximum, values)
        return found

    def count(self, members: BoolArray) -> I64Array:
        found: I64Array = self._reduce(np.add, members.astype(np.int64))
        return found

    def _reduce(self, function: np.ufunc, values: Any) -> Any:
        reduced = np.zeros((self._size, *values.shape[1:]), dtype=values.dtype)
        if len(self._rows):
            reduced[self._rows] = function.reduceat(values, self._starts, axis=0)
        return reduced


class _Columns:
    """The leaves of formulas over one window."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._descriptors = _descriptors(window.current)
        self._subsets: dict[bytes, _Subset] = {}
        self._groups: dict[tuple[Scope, Level], _Groups] = {}
        self._found: dict[tuple[object, ...], _Column | None] = {}
        self._numbers: dict[tuple[object, ...], F64Array] = {}
        self._counts: dict[tuple[object, ...], F64Array] = {}
        self._histograms: dict[tuple[object, ...], histogram.Distributions] = {}

    def count(self, at: Level) -> int:
        """How many subjects there are."""
        sample = self._window.current
        return 1 if at is HOST else len(sample.vms if at is Scope.VM else sample.vcpus)

    def groups(self, scope: Scope, at: Level) -> _Groups:
        """The subjects of ``scope`` that belong to each of ``at``."""
        if (scope, at) not in self._groups:
            self._groups[scope, at] = _Groups(self._edges(scope, at))
        return self._groups[scope, at]

    def _edges(self, scope: Scope, at: Level) -> I64Array:
        count = self.count(scope)
        if at is scope:
            return np.arange(count + 1)
        if at is HOST:
            return np.array([0, count])
        return np.searchsorted(self._window.current.vcpus.vm, np.arange(self.count(at) + 1))

    def descriptor(self, leaf: Leaf, scope: Scope) -> Descriptor | None:
        """How this sample describes the stat; None if it has none that the leaf could be about."""
        found = self._descriptors.get((leaf.stat.provider, scope, leaf.stat.name))
        return found if found and _is_fit(found, leaf) else None

    def subset(self, leaf: Leaf, scope: Scope) -> _Subset:
        column = self._column(leaf, scope)
        return self.nobody(scope) if column is None else column.subset

    def nobody(self, scope: Scope) -> _Subset:
        return self.intern(np.zeros(self.count(scope), dtype=np.bool_))

    def everybody(self, scope: Scope) -> _Subset:
        return self.intern(np.ones(self.count(scope), dtype=np.bool_))

    def both(self, a: _Subset, b: _Subset) -> _Subset:
        if a is b or b.is_everybody:
            return a
        return b if a.is_everybody else self.intern(a.known & b.known)

    def numbers(self, leaf: StatTerm, frame: _Frame) -> F64Array:
        """A leaf of one value, summed over the subset of the frame if the level asks for that."""
        key = (leaf, frame.scope, frame.at, id(frame.subset))
        if key not in self._numbers:
            self._numbers[key] = self._find_numbers(leaf, frame)
        return self._numbers[key]

    def _find_numbers(self, leaf: StatTerm, frame: _Frame) -> F64Array:
        column = self._column(leaf, frame.scope)
        if column is None:
            return np.full(self.count(frame.at), np.nan)
        subset = frame.subset or column.subset
        if frame.at is frame.scope:
            found: F64Array = _only(column.values, subset, np.nan)
            return found
        summed = _Frame(frame.scope, frame.at, subset)
        return self.folded(column.values, summed, is_max=column.descriptor.kind is Kind.PEAK)

    def folded(self, values: Any, frame: _Frame, *, is_max: bool) -> F64Array:
        """Sums or maxima over those who belong together and are in the frame's subset; NaN where there are none."""
        groups, subset = self.groups(frame.scope, frame.at), frame.subset or self.everybody(frame.scope)
        found = groups.max(_only(values, subset, -np.inf)) if is_max else groups.sum(_only(values, subset, 0.0))
        return np.where(self.members(frame, subset) > 0, found, np.nan)

    def histogram(self, leaf: QuantileTerm | ShareTerm, frame: _Frame) -> histogram.Distributions | None:
        """What the window added to a histogram, summed like ``numbers``; None if this sample has no such stat."""
        column = self._column(leaf, frame.scope)
        if column is None:
            return None
        subset = frame.subset or column.subset
        key = (leaf.stat, frame.scope, frame.at, id(subset))
        if key not in self._histograms:
            counts = _only(column.values, subset, 0)
            if frame.at is not frame.scope:
                counts = self.groups(frame.scope, frame.at).sum(counts)
            # Where nobody is known all counts are 0, and of no values there is no quantile and no share.
            self._histograms[key] = histogram.Distributions(column.descriptor, counts)
        return self._histograms[key]

    def members(self, frame: _Frame, subset: _Subset) -> F64Array:
        """How many of the subset belong to each."""
        key = (frame.scope, frame.at, id(subset))
        if key not in self._counts:
            self._counts[key] = self.groups(frame.scope, frame.at).sum(subset.known.astype(np.float64))
        return self._counts[key]

    def _column(self, leaf: Leaf, scope: Scope) -> _Column | None:
        how = leaf.reduction if isinstance(leaf, StatTerm) else None
        key = (how, scope, leaf.stat)
        if key not in self._found:
            fits = self.descriptor(leaf, scope) is not None
            self._found[key] = self._find_column(leaf, scope) if fits else None
        return self._found[key]

    def _find_column(self, leaf: Leaf, scope: Scope) -> _Column | None:
        stat = (leaf.stat.provider, scope, leaf.stat.name)
        if isinstance(leaf, StatTerm) and leaf.reduction is Reduction.VALUE:
            now = find_column(self._window.current, *stat)
            if now is None:
                return None
            return _Column(now.descriptor, now.values * now.descriptor.scale, self.intern(now.known))
        moved = self._window.movement(*stat)
        if moved is None:
            return None
        subset = self.intern(moved.known)
        if not isinstance(leaf, StatTerm):
            return _Column(moved.descriptor, moved.words, subset)
        counts, scale = moved.words, moved.descriptor.scale
        if moved.descriptor.is_histogram:
            counts, scale = counts.sum(axis=1), 1.0
        factor = scale / (1.0 if leaf.reduction is Reduction.DELTA else self._window.interval_s)
        return _Column(moved.descriptor, counts.astype(np.float64) * factor, subset)

    def intern(self, known: BoolArray) -> _Subset:
        """The one object for this set of subjects."""
        key = known.tobytes()
        if key not in self._subsets:
            self._subsets[key] = _Subset(known, bool(known.all()))
        return self._subsets[key]


def _descriptors(sample: Sample) -> dict[tuple[str, Scope, str], Descriptor]:
    """Each stat as the first block that has it describes it, which is the one that columns go by."""
    found: dict[tuple[str, Scope, str], Descriptor] = {}
    for block in sample.blocks:
        for descriptor in block.schema.descriptors:
            found.setdefault((block.schema.provider, block.schema.scope, descriptor.name), descriptor)
    return found


def _is_fit(descriptor: Descriptor, leaf: Leaf) -> bool:
    if not descriptor.is_understood:
        return False
    if not isinstance(leaf, StatTerm):
        return descriptor.is_histogram
    if descriptor.is_histogram:
        return leaf.reduction in (Reduction.RATE, Reduction.DELTA)
    if descriptor.size != 1:
        return False
    if leaf.reduction is Reduction.SECONDS and descriptor.unit is not Unit.SECONDS:
        return False
    return leaf.reduction is Reduction.VALUE or descriptor.kind is Kind.CUMULATIVE


def _finite(values: F64Array) -> F64Array:
    is_finite = np.isfinite(values)
    return values if is_finite.all() else np.where(is_finite, values, np.nan)


def _only(values: Any, subset: _Subset, other: float) -> Any:
    """The values of a subset; the other subjects have ``other``."""
    if subset.is_everybody:
        return values
    known = subset.known if values.ndim == 1 else subset.known[:, np.newaxis]
    return np.where(known, values, values.dtype.type(other))


_NEVER_INFINITE: Final = (StatTerm, Compare, Join, Negation)
_Rule: TypeAlias = Callable[[Evaluator, Any, _Frame], F64Array]
_RULES: Final[Mapping[type, _Rule]] = {
    Number: Evaluator._literal,
    StatTerm: Evaluator._stat,
    QuantileTerm: Evaluator._quantile,
    ShareTerm: Evaluator._share,
    FactTerm: Evaluator._fact,
    Reference: Evaluator._reference,
    Minus: Evaluator._minus,
    Arithmetic: Evaluator._arithmetic,
    Ratio: Evaluator._ratio,
    Either: Evaluator._either,
    OverVcpus: Evaluator._over,
    Compare: Evaluator._compare,
    Join: Evaluator._join,
    Negation: Evaluator._not,
}
_OPERATIONS: Final[Mapping[Operator, np.ufunc]] = {
    Operator.ADD: np.add,
    Operator.SUBTRACT: np.subtract,
    Operator.MULTIPLY: np.multiply,
    Operator.DIVIDE: np.divide,
    Operator.MIN: np.minimum,
    Operator.MAX: np.maximum,
}
_COMPARISONS: Final[Mapping[Comparison, np.ufunc]] = {
    Comparison.LESS: np.less,
    Comparison.LESS_OR_EQUAL: np.less_equal,
    Comparison.MORE: np.greater,
    Comparison.MORE_OR_EQUAL: np.greater_equal,
    Comparison.EQUAL: np.equal,
    Comparison.NOT_EQUAL: np.not_equal,
}
