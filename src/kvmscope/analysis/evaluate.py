"""The values of formulas in a window, for all subjects at once.

Formulas are resolved first (``formula.resolve``, where the semantics stand); here is the arithmetic over columns.
NaN is unknown inside this room.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np

from ..formula.check import Formula
from ..formula.resolve import Resolver
from ..formula.resolved import (
    Complement,
    Connective,
    Constant,
    FactColumn,
    HistogramQuantile,
    HistogramShare,
    Operation,
    Opposite,
    Quotient,
    Relation,
    ResolvedFormula,
    ResolvedNode,
    StatColumn,
    StatTotal,
    Unresolved,
    VcpuFold,
    parts,
)
from ..formula.tree import Comparison, Fold, Junction, Level, Operator
from ..sample import I64Array, Sample
from ..schema import Descriptor, Schema, Scope
from .columns import Columns
from .window import F64Array, Window

_NO_FACTS: Final[Mapping[tuple[Level, str], F64Array]] = MappingProxyType({})
_RESOLVERS_KEPT: Final = 8
Values: TypeAlias = F64Array | np.float64
"""One number a subject, or one that all subjects share."""


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
        self._facts = facts
        self._columns = Columns(window)
        self._resolver = _resolver(_schemas(window.current), tuple(metrics.items()), frozenset(facts))
        self._values: dict[ResolvedNode, Values] = {}
        self._missing: dict[tuple[ResolvedNode, Level], I64Array | int] = {}

    def of(self, formula: str | Formula, at: Level) -> F64Array:
        """One number a subject, in the order of the current sample; NaN: unknown. Conditions: 1 holds, 0 does not.

        ``formula``: one of its own, or the name of a metric. UsageError if there is no such metric, or if a formula of
        VMs is asked of vCPUs.
        """
        resolved = self.resolve(formula, at)
        with np.errstate(all="ignore"):
            values = self._value(resolved.node)
        return values if isinstance(values, np.ndarray) and values.ndim else np.full(self._columns.count(at), values)

    def missing(self, formula: str | Formula, at: Level) -> I64Array:
        """How many subjects lack in each number of ``of``: vCPUs, or of a formula of VMs for the host, VMs."""
        resolved = self.resolve(formula, at)
        with np.errstate(all="ignore"):
            missing = self._missing_in(resolved.node, at)
        return np.asarray(np.broadcast_to(missing, (self._columns.count(at),)))

    def resolve(self, formula: str | Formula, at: Level) -> ResolvedFormula:
        """What ``of`` evaluates. Errors as for ``of``."""
        return self._resolver.resolve(self._resolver.metric(formula) if isinstance(formula, str) else formula, at)

    def _value(self, node: ResolvedNode) -> Values:
        found = self._values.get(node)
        if found is None:
            found = self._values[node] = self._calculate(node)
        return found

    def _calculate(self, node: ResolvedNode) -> Values:
        match node:
            case Unresolved():
                return _UNKNOWN
            case Constant():
                return np.float64(node.value)
            case StatColumn() | StatTotal():
                return self._columns.numbers(node)
            case HistogramQuantile():
                return _finite(self._columns.distributions(node.buckets).quantile(node.q))
            case HistogramShare():
                below = self._columns.distributions(node.buckets).share_below(node.bound)
                return 1.0 - below if node.is_above else below
            case FactColumn():
                return _finite(self._facts[node.level, node.name])
            case Opposite():
                return -self._value(node.operand)
            case Operation():
                return _finite(_OPERATIONS[node.operator](self._value(node.left), self._value(node.right)))
            case Quotient():
                return _finite(_quotient(self._value(node.left), self._value(node.right), node.zero))
            case VcpuFold():
                return _finite(self._fold(node))
            case Relation():
                return _relation(node.comparison, self._value(node.left), self._value(node.right))
            case Connective():
                return self._connective(node)
            case Complement():
                return 1.0 - self._value(node.operand)

    def _connective(self, node: Connective) -> Values:
        """What the left side decides for every subject is not asked of the right one."""
        left = self._value(node.left)
        if np.all(left == _DECIDES[node.junction]):
            return left
        return _connective(node.junction, left, self._value(node.right))

    def _fold(self, node: VcpuFold) -> F64Array:
        folded, members = self._columns.fold(self._of_vcpus(node), node.level, is_max=node.fold is Fold.MAX)
        return folded / members if node.fold is Fold.MEAN else folded

    def _of_vcpus(self, node: VcpuFold) -> F64Array:
        return np.broadcast_to(self._value(node.operand), (self._columns.count(Scope.VCPU),))

    def _missing_in(self, node: ResolvedNode, level: Level) -> I64Array | int:
        """``level``: that at which the node is asked."""
        key = (node, level)
        if key not in self._missing:
            self._missing[key] = self._find_missing(node, level)
        return self._missing[key]

    def _find_missing(self, node: ResolvedNode, level: Level) -> I64Array | int:
        match node:
            case StatTotal():
                is_complete = self._columns.membership(node.cohort).is_everybody
                return 0 if is_complete else self._columns.missing(node.cohort, level)
            case Unresolved(scope=Scope() as scope) if scope is not level:
                return self._columns.runs(scope, level).count(np.ones(self._columns.count(scope), dtype=np.bool_))
            case VcpuFold():
                unknown = np.isnan(self._of_vcpus(node))
                return self._columns.runs(Scope.VCPU, level).count(unknown) if unknown.any() else 0
        missing: I64Array | int = 0
        for part in parts(node):
            of_part = self._missing_in(part, level)
            if not isinstance(of_part, int):
                missing = np.maximum(missing, of_part)
        return missing


@lru_cache(maxsize=_RESOLVERS_KEPT)
def _resolver(
    schemas: tuple[Schema, ...], metrics: tuple[tuple[str, Formula], ...], facts: frozenset[tuple[Level, str]]
) -> Resolver:
    """Formulas are resolved once for all windows whose samples have the same schemas."""
    return Resolver(_descriptors(schemas), dict(metrics), facts)


def _schemas(sample: Sample) -> tuple[Schema, ...]:
    return tuple(dict.fromkeys(block.schema for block in sample.blocks))


def _descriptors(schemas: tuple[Schema, ...]) -> dict[tuple[str, Scope, str], Descriptor]:
    """Each stat as the first schema that has it describes it, which is the one that columns go by."""
    found: dict[tuple[str, Scope, str], Descriptor] = {}
    for schema in schemas:
        for descriptor in schema.descriptors:
            found.setdefault((schema.provider, schema.scope, descriptor.name), descriptor)
    return found


def _finite(values: Values) -> Values:
    is_finite = np.isfinite(values)
    return values if is_finite.all() else np.where(is_finite, values, np.nan)


def _quotient(above: Values, below: Values, zero: float | None) -> Values:
    at_zero = np.nan if zero is None else zero
    return np.where(below == 0, np.where(np.isnan(above), np.nan, at_zero), above / below)


def _relation(comparison: Comparison, left: Values, right: Values) -> Values:
    holds = _COMPARISONS[comparison](left, right)
    return np.where(np.isnan(left) | np.isnan(right), np.nan, holds)


def _connective(junction: Junction, left: Values, right: Values) -> Values:
    if junction is Junction.AND:
        return np.where((left == 0) | (right == 0), 0.0, left * right)
    return np.where((left == 1) | (right == 1), 1.0, left + right)


_UNKNOWN: Final = np.float64(np.nan)
_DECIDES: Final[Mapping[Junction, float]] = {Junction.AND: 0.0, Junction.OR: 1.0}
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
