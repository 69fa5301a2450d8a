"""A resolved formula as PromQL: a vector with one sample for each subject with a known value.

An unknown value is an absent sample, which PromQL's arithmetic and comparisons propagate as numpy propagates NaN. The
rest is explicit:

- *Conditions* are printed twice, as the subjects for which they hold and those for which they do not; for subjects in
  neither set they are unknown. ``and`` and ``or`` of two such sets are Kleene's.
- *Division.* Values that are not finite are dropped (``< Inf > -Inf``); the formula says what a division by 0 yields.
- *Constants* are evaluated here, as one number for all subjects is not a vector.
- *Cohorts.* Leaves of vCPUs are summed over the vCPUs for which all leaves of the expression are known.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from ...analysis.bucket_bounds import float_text
from ...catalog.series_names import HOST_INFO, HOST_LABELS, VM_VCPUS, VM_VMM_SILENT
from ...formula.resolved import (
    Cohort,
    Complement,
    Connective,
    Constant,
    FactColumn,
    HistogramQuantile,
    HistogramShare,
    Operation,
    Opposite,
    Presence,
    Quantity,
    Quotient,
    Relation,
    ResolvedFormula,
    ResolvedNode,
    ScopedStat,
    StatColumn,
    StatTotal,
    Unresolved,
    VcpuFold,
    walk_resolved,
)
from ...formula.tree import Comparison, Fold, Junction, Level, Operator
from ...schema import Descriptor, Scope
from ..refusal import EngineRefusal, QueryEngine
from .buckets import BucketChanges, is_sayable, quantile, share
from .columns import CountSource, ExportedColumns, summed_away
from .leaves import Leaves


def print_promql(
    formula: ResolvedFormula, leaves: Leaves, source: CountSource, *, subject: str = ""
) -> str | EngineRefusal:
    """The formula as a query; conditions are 1 where they hold and 0 where they do not.

    ``subject``: named in a refusal, by default the text of the formula.
    """
    return _said(formula, subject, lambda: _Printer(formula, leaves, source).query())


def print_holds(
    formula: ResolvedFormula, leaves: Leaves, source: CountSource, *, subject: str = ""
) -> str | EngineRefusal:
    """A condition as a query of the subjects for which it holds, with any value."""
    return _said(formula, subject, lambda: _Printer(formula, leaves, source).subjects())


def _said(formula: ResolvedFormula, subject: str, say: Callable[[], str]) -> str | EngineRefusal:
    try:
        query = say()
    except _Unsayable as error:
        return EngineRefusal(QueryEngine.PROMETHEUS, subject or str(formula), str(error))
    if len(query) <= MOST_CHARACTERS:
        return query
    reason = f"the query would have {len(query)} characters, more than {MOST_CHARACTERS}"
    return EngineRefusal(QueryEngine.PROMETHEUS, subject or str(formula), reason)


class _Unsayable(Exception):
    """Why PromQL cannot say a part of a formula."""


_Number: TypeAlias = str | float | None
"""A query, a number that is the same for all subjects, or None: unknown for all."""

_Subjects: TypeAlias = str | bool
"""A query for a set of subjects; True: all; False: none."""

MOST_CHARACTERS: Final = 30_000
"""The limit on the length of a query. Prometheus reads each selector separately, so time grows with length."""

NOBODY: Final = "vector(1) < 0"
"""A query without a result: unknown for all subjects."""


class _Printer:
    """Prints one formula."""

    def __init__(self, formula: ResolvedFormula, leaves: Leaves, source: CountSource) -> None:
        self._formula = formula
        self._columns = ExportedColumns(leaves, source, _descriptors(formula.node))

    def query(self) -> str:
        """As ``print_promql``."""
        number = self._number(self._formula.node)
        if isinstance(number, str):
            return number
        return NOBODY if number is None else f"({_everybody(self._formula.level)} * 0 + {_text(number)})"

    def subjects(self) -> str:
        """As ``print_holds``."""
        found = self._holds(self._formula.node)
        if isinstance(found, str):
            return found
        return _everybody(self._formula.level) if found else NOBODY

    # --- numbers ------------------------------------------------------------------------------------------------------

    def _number(self, node: ResolvedNode) -> _Number:
        match node:
            case Unresolved():
                return None
            case Constant():
                return node.value if math.isfinite(node.value) else None
            case StatColumn() | StatTotal():
                return self._columns.number(node)
            case HistogramQuantile():
                return quantile(self._buckets(node.buckets), node.q)
            case HistogramShare():
                return share(self._buckets(node.buckets), node.bound, is_above=node.is_above)
            case FactColumn():
                return _fact(node)
            case Opposite():
                operand = self._number(node.operand)
                return f"(-1 * {operand})" if isinstance(operand, str) else None if operand is None else -operand
            case Operation():
                return self._operation(node)
            case Quotient():
                return self._quotient(node)
            case VcpuFold():
                return self._fold(node)
            case Relation() | Connective() | Complement():
                return self._truth(node)

    def _truth(self, node: ResolvedNode) -> _Number:
        """A condition as 1 and 0."""
        if isinstance(node, Relation):
            return self._compared(node)
        holds, fails = self._holds(node), self._fails(node)
        if holds is True or fails is True:
            return float(holds is True)
        parts = [f"{holds} * 0 + 1"] if isinstance(holds, str) else []
        parts += [f"{fails} * 0"] if isinstance(fails, str) else []
        return f"({' or '.join(parts)})" if parts else None

    def _compared(self, node: Relation) -> _Number:
        related = self._related(node, node.comparison, f"{node.comparison.value} bool")
        if isinstance(related, str):
            return related
        return None if self._related(node, _OPPOSITES[node.comparison]) is related else float(related)

    def _operation(self, node: Operation) -> _Number:
        left, right = self._number(node.left), self._number(node.right)
        if left is None or right is None:
            return None
        if isinstance(left, float) and isinstance(right, float):
            return _finite(_worked_out(node.operator, left, right))
        if node.operator in (Operator.MIN, Operator.MAX):
            return _chosen(node.operator, left, right)
        text = f"({_text(left)} {node.operator.value} {_text(right)})"
        return text if _largest(node) < _OVERFLOW else f"({text}{_FINITE})"

    def _quotient(self, node: Quotient) -> _Number:
        above, below = self._number(node.left), self._number(node.right)
        if above is None or below is None:
            return None
        if isinstance(below, float):
            return _over_constant(above, below, node.zero)
        known = f"{_text(above)} / {below}{_FINITE}"
        if node.zero is None:
            return f"({known})"
        only = f" and {above}" if isinstance(above, str) else ""
        return f"({known} or ({below} == 0) * 0 + {_text(node.zero)}{only})"

    def _fold(self, node: VcpuFold) -> _Number:
        if node.fold is Fold.SUM and isinstance(node.operand, StatColumn) and node.operand.quantity is not Quantity.NOW:
            return self._columns.number(_total_of(node.operand, node.level))
        operand = self._number(node.operand)
        if operand is None:
            return None
        if isinstance(operand, float):
            return _constant_fold(node, operand)
        over = f"without ({summed_away(Scope.VCPU, node.level)}) ({operand})"
        # avg computes a running mean, whose last digits differ from those of a divided sum.
        return f"(sum {over} / count {over})" if node.fold is Fold.MEAN else f"({_FOLDS[node.fold]} {over})"

    def _buckets(self, node: StatColumn | StatTotal) -> BucketChanges:
        changes = self._columns.buckets(node)
        if not is_sayable(changes.descriptor):
            raise _Unsayable("the bounds of the buckets do not follow from their numbers")
        return changes

    # --- conditions ---------------------------------------------------------------------------------------------------

    def _holds(self, node: ResolvedNode) -> _Subjects:
        match node:
            case Relation():
                return self._related(node, node.comparison)
            case Connective():
                join = _both if node.junction is Junction.AND else _either
                return join(self._holds(node.left), self._holds(node.right))
            case Complement():
                return self._fails(node.operand)
        return self._unknown(node)

    def _fails(self, node: ResolvedNode) -> _Subjects:
        match node:
            case Relation():
                return self._related(node, _OPPOSITES[node.comparison])
            case Connective():
                join = _either if node.junction is Junction.AND else _both
                return join(self._fails(node.left), self._fails(node.right))
            case Complement():
                return self._holds(node.operand)
        return self._unknown(node)

    def _unknown(self, node: ResolvedNode) -> _Subjects:
        if isinstance(node, Unresolved):
            return False
        raise _Unsayable("a number stands where a condition is expected")

    def _related(self, node: Relation, comparison: Comparison, word: str = "") -> _Subjects:
        left, right = self._number(node.left), self._number(node.right)
        if left is None or right is None:
            return False
        if isinstance(left, float) and isinstance(right, float):
            return _COMPARE[comparison](left, right)
        return f"({_text(left)} {word or comparison.value} {_text(right)})"


def _descriptors(node: ResolvedNode) -> dict[ScopedStat, Descriptor]:
    return {each.stat: each.descriptor for each in walk_resolved(node) if isinstance(each, StatColumn)}


def _total_of(column: StatColumn, level: Level) -> StatTotal:
    """The sum of one stat over the subjects for which it is known."""
    return StatTotal(column, level, Cohort((Presence(column.stat, column.quantity is not Quantity.NOW),)))


def _fact(node: FactColumn) -> str:
    series = _FACT_SERIES.get((node.level, node.name))
    if series is None:
        raise _Unsayable(f"no series has fact {node.name}")
    return series


def _everybody(level: Level) -> str:
    """All subjects of a level, with any value."""
    match level:
        case Scope.VM:
            return VM_VCPUS.sample_name
        case Scope.VCPU:
            raise _Unsayable("it is the same for every vCPU, and no series is there for every vCPU")
    return f"max without ({', '.join(HOST_LABELS)}) ({HOST_INFO.sample_name})"


def _constant_fold(node: VcpuFold, operand: float) -> str:
    """A fold of a value that is the same for every vCPU."""
    vcpus = VM_VCPUS.sample_name if node.level is Scope.VM else f"(sum without (vm) ({VM_VCPUS.sample_name}))"
    is_counted = node.fold in (Fold.SUM, Fold.COUNT)
    return f"(({vcpus} > 0) * {_text(operand)})" if is_counted else f"(({vcpus} > 0) * 0 + {_text(operand)})"


def _over_constant(above: str | float, below: float, zero: float | None) -> _Number:
    if below == 0.0:
        if zero is None or isinstance(above, float):
            return zero
        return f"({above} * 0 + {_text(zero)})"
    return _finite(above / below) if isinstance(above, float) else f"({above} / {_text(below)}{_FINITE})"


def _chosen(operator: Operator, left: str | float, right: str | float) -> str:
    """The smaller or the larger of two operands, at least one of which is a query."""
    is_min = operator is Operator.MIN
    if isinstance(left, float) or isinstance(right, float):
        vector, bound = (right, left) if isinstance(left, float) else (left, right)
        return f"{'clamp_max' if is_min else 'clamp_min'}({vector}, {bound!r})"
    first, second = ("<=", "<") if is_min else (">=", ">")
    return f"({left} {first} {right} or {right} {second} {left})"


def _both(left: _Subjects, right: _Subjects) -> _Subjects:
    if isinstance(left, str) and isinstance(right, str):
        return f"({left} and {right})"
    if left is False or right is False:
        return False
    return right if left is True else left


def _either(left: _Subjects, right: _Subjects) -> _Subjects:
    if isinstance(left, str) and isinstance(right, str):
        return f"({left} or {right})"
    if left is True or right is True:
        return True
    return right if left is False else left


def _text(number: str | float) -> str:
    if isinstance(number, str):
        return number
    return f"({float_text(number)})" if number < 0 else float_text(number)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _worked_out(operator: Operator, left: float, right: float) -> float:
    if operator is Operator.DIVIDE:
        return left / right if right else math.nan
    return _OPERATIONS[operator](left, right)


def _largest(node: ResolvedNode) -> float:
    """A generous bound of the absolute value. An operation is checked for overflow only where the bound exceeds a
    float."""
    match node:
        case Constant():
            return abs(node.value)
        case Opposite():
            return _largest(node.operand)
        case Operation(operator=Operator.MULTIPLY):
            return _largest(node.left) * _largest(node.right)
        case Operation(operator=Operator.DIVIDE, right=Constant(value=value)):
            return _largest(node.left) / abs(value) if value else math.inf
        case Operation():
            return _largest(node.left) + _largest(node.right)
        case Quotient():
            return _largest(node.left) * _MOST
        case VcpuFold():
            return _largest(node.operand) * _MOST
    return _MOST


_FINITE: Final = " < Inf > -Inf"
_OVERFLOW: Final = 1e300
_MOST: Final = 1e30
"""More than any stat, number of vCPUs or reciprocal of a stat."""

_FOLDS: Final[Mapping[Fold, str]] = MappingProxyType({Fold.SUM: "sum", Fold.MAX: "max", Fold.COUNT: "sum"})
_OPPOSITES: Final[Mapping[Comparison, Comparison]] = MappingProxyType(
    {
        Comparison.LESS: Comparison.MORE_OR_EQUAL,
        Comparison.LESS_OR_EQUAL: Comparison.MORE,
        Comparison.MORE: Comparison.LESS_OR_EQUAL,
        Comparison.MORE_OR_EQUAL: Comparison.LESS,
        Comparison.EQUAL: Comparison.NOT_EQUAL,
        Comparison.NOT_EQUAL: Comparison.EQUAL,
    }
)
_COMPARE: Final[Mapping[Comparison, Callable[[float, float], bool]]] = MappingProxyType(
    {
        Comparison.LESS: operator.lt,
        Comparison.LESS_OR_EQUAL: operator.le,
        Comparison.MORE: operator.gt,
        Comparison.MORE_OR_EQUAL: operator.ge,
        Comparison.EQUAL: operator.eq,
        Comparison.NOT_EQUAL: operator.ne,
    }
)
_OPERATIONS: Final[Mapping[Operator, Callable[[float, float], float]]] = MappingProxyType(
    {
        Operator.ADD: operator.add,
        Operator.SUBTRACT: operator.sub,
        Operator.MULTIPLY: operator.mul,
        Operator.MIN: min,
        Operator.MAX: max,
    }
)
_FACT_SERIES: Final[Mapping[tuple[Level, str], str]] = MappingProxyType(
    {(Scope.VM, "vcpus"): VM_VCPUS.sample_name, (Scope.VM, "vmm_silent_s"): VM_VMM_SILENT.sample_name}
)
"""Facts that ``serve`` exports as they are."""

SAYABLE_FACTS: Final = frozenset(_FACT_SERIES)
