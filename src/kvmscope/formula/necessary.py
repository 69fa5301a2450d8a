"""A necessary condition for a condition, without the parts that are costly to read.

A query over many hosts evaluates it first, and the condition itself only where it may hold.
Rule: wherever the condition holds, the returned one holds. The converse is not guaranteed.

Reasoning: ``and`` implies each of its sides, and ``or`` whatever both of its sides imply. ``a > b`` implies that an
upper bound of ``a`` is more than a lower bound of ``b``, if the bounds are known wherever ``a`` and ``b`` are.
Increases are never negative, so 0 is a lower bound of an omitted rate. Bounds carry over to functions that grow with
their operands: ``+``, ``-`` (with the opposite bound), ``min2``, ``max2``, and the maximum over vCPUs. If the bound is
known of more vCPUs than the value, this only raises the maximum. Rounding keeps the order of sums, and a rate is far
too small to bring back a sum that exceeds the largest double.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from ..schema import Scope
from .check import Formula
from .tree import (
    Arithmetic,
    Compare,
    Comparison,
    Expression,
    Fold,
    Join,
    Junction,
    Minus,
    Number,
    Operator,
    OverVcpus,
    Reduction,
    Reference,
    StatTerm,
)

_NO_METRICS: Final[Mapping[str, Formula]] = MappingProxyType({})


def necessary(
    condition: Expression,
    is_left_out: Callable[[Expression], bool],
    *,
    scope: Scope = Scope.VM,
    metrics: Mapping[str, Formula] = _NO_METRICS,
) -> Expression | None:
    """The condition without the omitted parts; None if nothing follows from it without them.

    ``is_left_out``: whether a part reads something to omit. ``scope``: of the condition, and of the subjects for which
    it is evaluated. ``metrics``: those that it may refer to.
    """
    if not is_left_out(condition):
        return condition
    if isinstance(condition, Compare):
        return _Bounds(is_left_out, metrics).comparison(condition, scope)
    if not isinstance(condition, Join):
        return None
    left, right = (
        necessary(side, is_left_out, scope=scope, metrics=metrics) for side in (condition.left, condition.right)
    )
    if left is not None and right is not None:
        return replace(condition, left=left, right=right)
    return None if condition.junction is Junction.OR else left or right


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Bounds of numbers. A bound reads nothing that is omitted, and is known wherever the number is."""

    is_left_out: Callable[[Expression], bool]
    metrics: Mapping[str, Formula]

    def comparison(self, condition: Compare, scope: Scope) -> Compare | None:
        """The comparison of the bounds of both sides; None if one has no bound."""
        if condition.comparison in (Comparison.EQUAL, Comparison.NOT_EQUAL):
            return None
        is_left_larger = condition.comparison in (Comparison.MORE, Comparison.MORE_OR_EQUAL)
        left = self._bound(condition.left, scope, is_upper=is_left_larger)
        right = self._bound(condition.right, scope, is_upper=not is_left_larger)
        return None if left is None or right is None else replace(condition, left=left, right=right)

    def _bound(self, number: Expression, scope: Scope, *, is_upper: bool) -> Expression | None:
        if not self.is_left_out(number):
            return number
        match number:
            case StatTerm() if not is_upper and number.reduction is not Reduction.VALUE:
                return Number(0.0)
            case Reference() if number.name in self.metrics and self.metrics[number.name].scope is scope:
                return self._bound(self.metrics[number.name].expression, scope, is_upper=is_upper)
            case Minus():
                operand = self._bound(number.operand, scope, is_upper=not is_upper)
                return None if operand is None else Minus(operand)
            case Arithmetic() if number.operator in GROWING:
                return self._arithmetic(number, scope, is_upper=is_upper)
            case OverVcpus() if is_upper and number.fold is Fold.MAX:
                operand = self._bound(number.operand, Scope.VCPU, is_upper=True)
                return None if operand is None else replace(number, operand=operand)
        return None

    def _arithmetic(self, number: Arithmetic, scope: Scope, *, is_upper: bool) -> Expression | None:
        left = self._bound(number.left, scope, is_upper=is_upper)
        is_taken_away = number.operator is Operator.SUBTRACT
        right = self._bound(number.right, scope, is_upper=is_upper is not is_taken_away)
        return None if left is None or right is None else replace(number, left=left, right=right)


GROWING: Final = (Operator.ADD, Operator.SUBTRACT, Operator.MIN, Operator.MAX)
"""Operators that grow with their left side, and with their right side or its opposite."""
