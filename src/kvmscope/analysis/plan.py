"""Plans for the evaluation of a set of formulas: steps, their order, and the row of each value. Compiled once, run each
window.

There are a few hundred formulas and often no more than ten VMs, so the cost is the number of numpy calls and not the
arithmetic. The number of steps depends on the kinds of nodes at each depth, not on the number of formulas.

- *Slots.* A node at a level (vCPUs, VMs, the host) is a row of the table of that level, which has a column for each
  subject. A subexpression that several formulas share is one node, and so one row.
- *Normal form.* ``-x`` is ``-1 * x``, ``not x`` is ``1 - x``, and ``a > b`` is ``b < a``.
- *Depth.* A leaf has depth 0, any other node one more than the deepest of its operands. The nodes of one depth and one
  kind are one step: it takes the rows of their operands and fills adjacent rows.
- *Continuation.* Questions arrive one after another. A plan continues where the previous one ended, and has steps only
  for values not computed yet. It is kept for the next window, in which the same questions arrive in the same order.

Not here: numbers. ``evaluate`` runs the steps over a window; what the nodes mean is in ``formula.resolved``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..formula.check import Formula
from ..formula.resolve import Resolver
from ..formula.resolved import (
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
    ResolvedNode,
    StatColumn,
    StatTotal,
    Unresolved,
    VcpuFold,
    parts,
    walk_resolved,
)
from ..formula.tree import HOST, Comparison, Fold, Junction, Level, Operator
from ..schema import Descriptor, Kind, Scope
from .window import F64Array

Rows: TypeAlias = npt.NDArray[np.intp]
"""Rows of a table."""

_PLANS_KEPT: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """Formulas to evaluate together at one level. Plans are cached by this object: make it once, not every window."""

    formulas: tuple[Formula, ...]
    level: Level


# --- steps ------------------------------------------------------------------------------------------------------------


class WordReading(Enum):
    """What is read from the words of stats; an instant of 2**63 and more is one that fell below 0."""

    CHANGE = "change"
    NOW = "now"
    SIGNED_NOW = "signed now"


@dataclass(frozen=True, slots=True, eq=False)
class StatSelection:
    """One-word stats, with the descriptors that the formulas assume."""

    provider: str
    scope: Scope
    stats: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True, eq=False)
class CohortRows:
    """Cohorts of one scope: ``presences[starts[i] : starts[i + 1]]`` are the rows of all presences that cohort i needs.

    ``of``: the cohort of each total of a step.
    """

    presences: Rows
    starts: Rows
    of: Rows


@dataclass(frozen=True, slots=True, eq=False)
class ConstantStep:
    """The same number for every subject; NaN if it is unknown for all of them. ``values``: shape (rows, 1)."""

    level: Level
    rows: slice
    values: F64Array


@dataclass(frozen=True, slots=True, eq=False)
class StatStep:
    """``reading`` of each stat times ``factors``; where ``is_rate``, divided by the length of the window.

    ``factors`` and ``is_rate``: shape (rows, 1).
    """

    level: Scope
    rows: slice
    selection: StatSelection
    reading: WordReading
    factors: F64Array
    is_rate: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class HistogramStep:
    """The growth of a histogram. ``row`` holds the number of new values; the buckets are kept beside it."""

    level: Scope
    row: int
    column: StatColumn


@dataclass(frozen=True, slots=True, eq=False)
class FactStep:
    """Facts that the caller provides."""

    level: Level
    rows: slice
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class TotalStep:
    """Sums or maxima of ``columns``, rows of the table of ``scope``, over the cohorts' members."""

    level: Level
    rows: slice
    scope: Scope
    columns: Rows
    cohorts: CohortRows
    is_max: bool


@dataclass(frozen=True, slots=True, eq=False)
class BucketTotalStep:
    """The buckets of the histogram in row ``column`` of the table of ``scope``, summed over the cohort's members."""

    level: Level
    row: int
    scope: Scope
    column: int
    cohorts: CohortRows


@dataclass(frozen=True, slots=True, eq=False)
class QuantileStep:
    """Quantiles of the histogram whose buckets are kept beside row ``buckets``."""

    level: Level
    rows: slice
    buckets: int
    descriptor: Descriptor
    qs: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ShareStep:
    """The share of values on one side of a bound, from the buckets that are kept beside row ``buckets``."""

    level: Level
    row: int
    buckets: int
    descriptor: Descriptor
    bound: float
    is_above: bool


@dataclass(frozen=True, slots=True, eq=False)
class FoldStep:
    """``fold`` of the known values of ``operands``, rows of the table of vCPUs."""

    level: Level
    rows: slice
    operands: Rows
    fold: Fold


@dataclass(frozen=True, slots=True)
class Division:
    """``left / right``, or ``zero`` where ``right`` is 0; NaN for unknown."""

    zero: float | None


Function: TypeAlias = Operator | Comparison | Junction | Division
"""A function of two numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class PairStep:
    """``function`` of pairs of rows of the same table."""

    level: Level
    rows: slice
    left: Rows
    right: Rows
    function: Function


Step: TypeAlias = (
    ConstantStep
    | StatStep
    | HistogramStep
    | FactStep
    | TotalStep
    | BucketTotalStep
    | QuantileStep
    | ShareStep
    | FoldStep
    | PairStep
)


# --- plans ------------------------------------------------------------------------------------------------------------


class NodeSlot(NamedTuple):
    """A node in normal form, at the level at which it is evaluated."""

    node: ResolvedNode
    level: Level


@dataclass(frozen=True, slots=True, eq=False)
class AnswerRows:
    """The rows of the answers to questions, one per formula.

    ``sources[starts[i] : starts[i + 1]]`` are the rows in which subjects summed by formula i can be missing, its own
    row included. ``unresolved``: the number of a formula, and a scope of which it leaves out all subjects.
    """

    level: Level
    rows: Rows
    sources: Rows
    starts: Rows
    unresolved: tuple[tuple[int, Scope], ...]


@dataclass(frozen=True, slots=True, eq=False)
class FormulaPlan:
    """Steps, and the row of every value once these steps and those of the previous plans have run.

    ``sizes``: the number of rows that each table needs. ``answers``: of the questions that are answered by then.
    """

    steps: tuple[Step, ...]
    rows: Mapping[NodeSlot, int]
    sizes: Mapping[Level, int]
    answers: Mapping[Questions, AnswerRows]
    following: dict[tuple[Questions, ...], FormulaPlan] = field(default_factory=dict)


class Planner:
    """Makes plans for the formulas of one resolver, each once."""

    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver
        self.start = FormulaPlan((), {}, dict.fromkeys((*Scope, HOST), 0), {})
        self._sizes = dict(self.start.sizes)
        self._normal: dict[ResolvedNode, ResolvedNode] = {}

    def size(self, level: Level) -> int:
        """The number of rows that the largest plan so far needs."""
        return self._sizes[level]

    def after(self, plan: FormulaPlan, asked: tuple[Questions, ...]) -> FormulaPlan:
        """The plan for what these questions still need after ``plan`` and all plans before it."""
        found = plan.following.get(asked)
        if found is None:
            if len(plan.following) >= _PLANS_KEPT:
                plan.following.clear()
            found = plan.following[asked] = self._make(plan, asked)
            self._sizes = {level: max(size, found.sizes[level]) for level, size in self._sizes.items()}
        return found

    def _make(self, plan: FormulaPlan, asked: tuple[Questions, ...]) -> FormulaPlan:
        roots = {questions: [self._slot(each, questions.level) for each in questions.formulas] for questions in asked}
        draft = _Draft(plan)
        draft.add([slot for slots in roots.values() for slot in slots])
        answers = {questions: self._answers(questions, slots, draft.rows) for questions, slots in roots.items()}
        return FormulaPlan(tuple(draft.steps), draft.rows, draft.sizes, {**plan.answers, **answers})

    def _slot(self, formula: Formula, level: Level) -> NodeSlot:
        return NodeSlot(self._in_normal_form(self.resolver.resolve(formula, level).node), level)

    def _answers(self, questions: Questions, slots: Sequence[NodeSlot], rows: Mapping[NodeSlot, int]) -> AnswerRows:
        level = questions.level
        sources, starts, unresolved = list[int](), list[int](), list[tuple[int, Scope]]()
        for number, (formula, slot) in enumerate(zip(questions.formulas, slots, strict=True)):
            starts.append(len(sources))
            found = list(_sources(self.resolver.resolve(formula, level).node, level))
            left_out = (node for node in found if not isinstance(node, Unresolved))
            places = [rows[NodeSlot(self._in_normal_form(node), level)] for node in left_out]
            sources += dict.fromkeys([rows[slot], *places])
            scopes = dict.fromkeys(node.scope for node in found if isinstance(node, Unresolved))
            unresolved += [(number, scope) for scope in scopes if scope is not None]
        of_formulas = [rows[slot] for slot in slots]
        return AnswerRows(level, _array(of_formulas), _array(sources), _array(starts), tuple(unresolved))

    def _in_normal_form(self, node: ResolvedNode) -> ResolvedNode:
        found = self._normal.get(node)
        if found is None:
            found = self._normal[node] = self._normalize(node)
        return found

    def _normalize(self, node: ResolvedNode) -> ResolvedNode:
        normal = self._in_normal_form
        match node:
            case Unresolved():
                return _UNKNOWN
            case Opposite():
                return Operation(Operator.MULTIPLY, Constant(-1.0), normal(node.operand))
            case Complement():
                return Operation(Operator.SUBTRACT, Constant(1.0), normal(node.operand))
            case Operation():
                return Operation(node.operator, normal(node.left), normal(node.right))
            case Quotient():
                return Quotient(normal(node.left), normal(node.right), node.zero)
            case Connective():
                return Connective(node.junction, normal(node.left), normal(node.right))
            case Relation(comparison=comparison) if comparison in _MIRRORED:
                return Relation(_MIRRORED[comparison], normal(node.right), normal(node.left))
            case Relation():
                return Relation(node.comparison, normal(node.left), normal(node.right))
            case VcpuFold():
                return VcpuFold(node.fold, normal(node.operand), node.level)
        return node


_UNKNOWN: Final = Unresolved("unknown for everybody", None)
_MIRRORED: Final[Mapping[Comparison, Comparison]] = {
    Comparison.MORE: Comparison.LESS,
    Comparison.MORE_OR_EQUAL: Comparison.LESS_OR_EQUAL,
}


def _sources(node: ResolvedNode, level: Level) -> Iterator[StatTotal | VcpuFold | Unresolved]:
    """The nodes that can leave subjects out of a number evaluated at ``level``."""
    match node:
        case StatTotal() | VcpuFold():
            yield node
        case Unresolved():
            if node.scope is not None and node.scope is not level:
                yield node
        case _:
            for part in parts(node):
                yield from _sources(part, level)


class _Draft:
    """A plan in the making: what ``before`` has computed, and steps for more."""

    def __init__(self, before: FormulaPlan) -> None:
        self.rows = dict(before.rows)
        self.sizes = dict(before.sizes)
        self.steps: list[Step] = []
        self._depths: dict[NodeSlot, int] = dict.fromkeys(before.rows, -1)
        self._presences: dict[Presence, NodeSlot] = {}
        self._note_presences(slot.node for slot in before.rows)

    def add(self, roots: Iterable[NodeSlot]) -> None:
        """Add steps for these nodes and all of their operands."""
        roots = list(roots)
        for root in roots:
            self._note_presences(walk_resolved(root.node))
        for root in roots:
            self._find_depth(root)
        alike: dict[tuple[Any, ...], list[NodeSlot]] = {}
        for slot, depth in self._depths.items():
            if depth >= 0:
                alike.setdefault((depth, *_kind(slot)), []).append(slot)
        for _, slots in sorted(alike.items(), key=lambda kind: kind[0][0]):
            self._add_step(slots)

    def _note_presences(self, nodes: Iterable[ResolvedNode]) -> None:
        for node in nodes:
            if isinstance(node, StatColumn):
                presence = Presence(node.stat, node.quantity is not Quantity.NOW)
                self._presences.setdefault(presence, NodeSlot(node, node.stat.scope))

    def _find_depth(self, slot: NodeSlot) -> int:
        found = self._depths.get(slot)
        if found is None:
            found = 1 + max(map(self._find_depth, self._operands(slot)), default=-1)
            self._depths[slot] = found
        return found

    def _operands(self, slot: NodeSlot) -> list[NodeSlot]:
        node, level = slot
        match node:
            case StatTotal(column=column, cohort=cohort):
                return [NodeSlot(column, column.stat.scope), *map(self._presences.__getitem__, cohort.presences)]
            case VcpuFold():
                return [NodeSlot(node.operand, Scope.VCPU)]
            case HistogramQuantile() | HistogramShare():
                return [NodeSlot(node.buckets, level)]
            case Operation() | Quotient() | Relation() | Connective():
                return [NodeSlot(node.left, level), NodeSlot(node.right, level)]
        return []

    def _add_step(self, slots: Sequence[NodeSlot]) -> None:
        level = slots[0].level
        first = self.sizes[level]
        self.sizes[level] = first + len(slots)
        self.rows |= {slot: first + place for place, slot in enumerate(slots)}
        self.steps.append(self._step(slots, level, slice(first, first + len(slots))))

    def _step(self, slots: Sequence[NodeSlot], level: Level, rows: slice) -> Step:
        """The step for nodes of one kind, whose operands all have rows already."""
        nodes: list[Any] = [slot.node for slot in slots]
        match nodes[0]:
            case Unresolved():
                return ConstantStep(level, rows, _column([np.nan] * len(nodes)))
            case Constant():
                return ConstantStep(level, rows, _column([node.value for node in nodes]))
            case FactColumn():
                return FactStep(level, rows, tuple(node.name for node in nodes))
            case StatColumn() as column if column.descriptor.is_histogram:
                return HistogramStep(column.stat.scope, rows.start, column)
            case StatColumn() as column:
                return _stat_step(nodes, column, rows)
            case StatTotal() as total if total.column.quantity is Quantity.BUCKETS:
                scope = total.column.stat.scope
                (column_row,) = self._rows_of([NodeSlot(total.column, scope)])
                return BucketTotalStep(level, rows.start, scope, column_row, self._cohorts(nodes))
            case StatTotal() as total:
                scope = total.column.stat.scope
                columns = _array(self._rows_of(NodeSlot(node.column, scope) for node in nodes))
                return TotalStep(level, rows, scope, columns, self._cohorts(nodes), total.is_max)
            case HistogramQuantile() as node:
                buckets = self.rows[NodeSlot(node.buckets, level)]
                return QuantileStep(level, rows, buckets, _descriptor(node), tuple(each.q for each in nodes))
            case HistogramShare() as node:
                buckets = self.rows[NodeSlot(node.buckets, level)]
                return ShareStep(level, rows.start, buckets, _descriptor(node), node.bound, node.is_above)
            case VcpuFold() as node:
                operands = _array(self._rows_of(NodeSlot(each.operand, Scope.VCPU) for each in nodes))
                return FoldStep(level, rows, operands, _fold(node))
            case node:
                left, right = (
                    _array(self._rows_of(NodeSlot(getattr(each, side), level) for each in nodes))
                    for side in ("left", "right")
                )
                return PairStep(level, rows, left, right, _function(node))

    def _rows_of(self, slots: Iterable[NodeSlot]) -> list[int]:
        return [self.rows[slot] for slot in slots]

    def _cohorts(self, totals: Sequence[StatTotal]) -> CohortRows:
        numbers: dict[Cohort, int] = {}
        presences, starts = list[int](), list[int]()
        for total in totals:
            if total.cohort not in numbers:
                numbers[total.cohort] = len(numbers)
                starts.append(len(presences))
                presences += self._rows_of(self._presences[each] for each in total.cohort.presences)
        return CohortRows(_array(presences), _array(starts), _array([numbers[total.cohort] for total in totals]))


def _kind(slot: NodeSlot) -> tuple[Any, ...]:
    """The properties that all nodes of one step share."""
    node, level = slot
    match node:
        case StatColumn() if node.descriptor.is_histogram:
            return StatColumn, node
        case StatColumn():
            return StatColumn, node.stat.provider, level, _reading(node)
        case StatTotal() if node.column.quantity is Quantity.BUCKETS:
            return StatTotal, node
        case StatTotal():
            return StatTotal, node.column.stat.scope, level, node.is_max
        case HistogramQuantile():
            return HistogramQuantile, level, node.buckets
        case HistogramShare():
            return HistogramShare, level, node
        case VcpuFold():
            return VcpuFold, level, _fold(node)
        case Operation() | Quotient() | Relation() | Connective():
            return PairStep, level, _function(node)
    return type(node), level


def _reading(column: StatColumn) -> WordReading:
    if column.quantity is not Quantity.NOW:
        return WordReading.CHANGE
    return WordReading.SIGNED_NOW if column.descriptor.kind is Kind.INSTANT else WordReading.NOW


def _fold(node: VcpuFold) -> Fold:
    # A condition is 1 or 0, so the number of conditions that hold is their sum.
    return Fold.SUM if node.fold is Fold.COUNT else node.fold


def _function(node: Operation | Quotient | Relation | Connective) -> Function:
    match node:
        case Operation():
            return node.operator
        case Quotient():
            return Division(node.zero)
        case Relation():
            return node.comparison
        case Connective():
            return node.junction


def _stat_step(columns: Sequence[StatColumn], first: StatColumn, rows: slice) -> StatStep:
    selection = StatSelection(first.stat.provider, first.stat.scope, tuple(column.descriptor for column in columns))
    factors = _column([column.descriptor.scale for column in columns])
    is_rate = np.array([[column.quantity is Quantity.RATE] for column in columns])
    return StatStep(first.stat.scope, rows, selection, _reading(first), factors, is_rate)


def _descriptor(node: HistogramQuantile | HistogramShare) -> Descriptor:
    column = node.buckets.column if isinstance(node.buckets, StatTotal) else node.buckets
    return column.descriptor


def _column(values: Sequence[float]) -> F64Array:
    return np.array(values, dtype=np.float64)[:, np.newaxis]


def _array(rows: Iterable[int]) -> Rows:
    return np.array(list(rows), dtype=np.intp)
