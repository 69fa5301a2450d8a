"""Lower resolved formulas to scalars of the relational form, over the sheets of vCPUs, VMs and hosts.

``analysis.evaluate`` computes with the columns of one window; here each step is a scalar for the rows of all windows.
The rules are the same: unknown in, unknown out, except for Kleene's connectives and for folds over vCPUs, which leave
unknown values out; a result that is not finite is unknown. Finiteness is checked only where a result can overflow: each
number carries a bound of its magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ..analysis.histogram import edges
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
)
from ..formula.tree import HOST, Comparison, Fold, Junction, Level, Operator
from ..schema import Descriptor, Scope
from .columns import BlockSet
from .histograms import quantile, share_below
from .leaves import INTERVAL_S, SubjectLeaves
from .relational import (
    Aggregate,
    Aggregation,
    Branching,
    Function,
    Literal,
    NamedScalar,
    Null,
    OneOf,
    Ref,
    Scalar,
    add,
    apply,
    equal,
    every,
    is_known,
    when,
)
from .sheet import Sheet
from .windows import WindowPlan

_WORD_MAX: Final = 2.0**64
_SUBJECTS_MAX: Final = 2.0**32
_SHORTEST_S: Final = 1e-9
_SAFE: Final = 1e300
"""Numbers up to this are finite, with room for rounding."""


@dataclass(frozen=True, slots=True)
class _Number:
    """A scalar, and the bound of its magnitude if it is finite; inf if unknown."""

    scalar: Scalar
    most: float


class FactSource(Protocol):
    """The source of the facts that formulas read."""

    def fact(self, name: str, level: Level, lowering: Lowering) -> Scalar:
        """A fact of each subject of a level, NULL where unknown."""
        ...

    def total(self, name: str, lowering: Lowering) -> Scalar | None:
        """A shortcut for the sum of a fact of vCPUs for each VM; None if there is none."""
        ...


class Workspace:
    """Collects the columns that the formulas of one query need, for all sets of blocks."""

    def __init__(self, block_sets: Sequence[BlockSet], plan: WindowPlan) -> None:
        self.block_sets = block_sets
        blocks = BlockSet(tuple(dict.fromkeys(block for each in block_sets for block in each.blocks)))
        self.sheets: Mapping[Level, Sheet] = {
            Scope.VCPU: Sheet("vcpus"),
            Scope.VM: Sheet("vms"),
            HOST: Sheet("hosts"),
        }
        self.leaves = {scope: SubjectLeaves(scope, blocks, plan, self.sheets[scope]) for scope in Scope}
        self._folds: dict[tuple[Scope, Level], dict[Aggregate, str]] = {}

    def folds(self, scope: Scope, level: Level) -> tuple[NamedScalar, ...]:
        """The aggregates of subjects of ``scope`` for each subject of ``level``."""
        return tuple(NamedScalar(name, made) for made, name in self._folds.get((scope, level), {}).items())

    def fold(self, scope: Scope, level: Level, made: Aggregate) -> Ref:
        """One value for each subject of ``level`` from those of ``scope`` that belong to it."""
        names = self._folds.setdefault((scope, level), {})
        return Ref(names.setdefault(made, f"{scope.value}_fold_{len(names)}"))

    def choose(self, scalars: Sequence[Scalar], level: Level, null: Null) -> Scalar:
        """The scalar for the set of blocks of the row, as a column. ``scalars``: one for each set."""
        texts: dict[Scalar, list[str]] = {}
        for scalar, blocks in zip(scalars, self.block_sets, strict=True):
            texts.setdefault(scalar, []).append(blocks.text)
        if len(texts) == 1:
            return self.sheets[level].hold(scalars[0])
        options = tuple((OneOf(Ref("blocks"), tuple(each)), scalar) for scalar, each in texts.items())
        return self.sheets[level].hold(Branching(options, null))

    def choose_each(self, scalars: Sequence[Mapping[str, Scalar]], level: Level) -> list[NamedScalar]:
        """The same for named scalars, with the same names in each set of blocks; NULL in other rows."""
        return [NamedScalar(name, self.choose([each[name] for each in scalars], level, Null())) for name in scalars[0]]


class Lowering:
    """Makes scalars of formulas that were resolved with the descriptors of one set of blocks."""

    def __init__(self, workspace: Workspace, blocks: BlockSet, facts: FactSource) -> None:
        self.blocks = blocks
        self.sheets = workspace.sheets
        self.leaves = workspace.leaves
        self.fold = workspace.fold
        self._facts = facts
        self._found: dict[tuple[ResolvedNode, Level], _Number] = {}

    def number(self, node: ResolvedNode, level: Level) -> Scalar:
        """A number for each subject of ``level``, NULL where unknown; a condition is 1 where it holds, else 0."""
        return self._checked(self._number(node, level), level)

    def condition(self, node: ResolvedNode, level: Level) -> Scalar:
        """A condition for each subject of ``level``. Raises TypeError for a number."""
        match node:
            case Unresolved():
                return Null(is_condition=True)
            case Relation():
                left, right = self._of(node.left, level), self._of(node.right, level)
                return apply(_COMPARISONS[node.comparison], left, right)
            case Connective():
                function = Function.AND if node.junction is Junction.AND else Function.OR
                return apply(function, self.condition(node.left, level), self.condition(node.right, level))
            case Complement():
                return apply(Function.NOT, self.condition(node.operand, level))
        raise TypeError(f"{node} is a number, and a condition was asked")

    def _of(self, node: ResolvedNode, level: Level) -> Scalar:
        """A number that may be used in several places."""
        return self.sheets[level].hold(self._checked(self._number(node, level), level))

    def _checked(self, number: _Number, level: Level) -> Scalar:
        if number.most <= _SAFE:
            return number.scalar
        held = self.sheets[level].hold(number.scalar)
        return when(apply(Function.IS_FINITE, held), held)

    def _number(self, node: ResolvedNode, level: Level) -> _Number:
        key = (node, level)
        if key not in self._found:
            self._found[key] = self._make_number(node, level)
        return self._found[key]

    def _make_number(self, node: ResolvedNode, level: Level) -> _Number:
        match node:
            case Unresolved():
                return _UNKNOWN
            case Constant():
                return _Number(Literal(node.value), abs(node.value))
            case StatColumn() | StatTotal():
                return self._stat(node, level)
            case HistogramQuantile() | HistogramShare():
                return self._histogram(node, level)
            case FactColumn():
                return _Number(self._facts.fact(node.name, node.level, self), _SAFE)
            case Opposite():
                operand = self._number(node.operand, level)
                return _Number(apply(Function.NEGATE, operand.scalar), operand.most)
            case Operation():
                return self._operation(node, level)
            case Quotient():
                return self._quotient(node, level)
            case VcpuFold():
                return self._vcpu_fold(node)
            case Relation() | Connective() | Complement():
                holds = self.sheets[level].hold(self.condition(node, level))
                fails = apply(Function.NOT, holds)
                return _Number(_branches((holds, Literal(1.0)), (fails, Literal(0.0))), 1.0)

    # --- leaves -------------------------------------------------------------------------------------------------------

    def _stat(self, node: StatColumn | StatTotal, level: Level) -> _Number:
        column = node if isinstance(node, StatColumn) else node.column
        factor, most = self._unit(column)
        if not math.isfinite(column.descriptor.scale):
            return _UNKNOWN
        return _Number(_times(self._words_of(node, level), factor), most)

    def _unit(self, column: StatColumn) -> tuple[Scalar | None, float]:
        """The factor for the words of a stat, and the bound of the product."""
        scale = 1.0 if _is_counted(column) else column.descriptor.scale
        most = _WORD_MAX * _SUBJECTS_MAX * scale
        if column.quantity is Quantity.RATE:
            return apply(Function.DIVIDE, Literal(scale), INTERVAL_S), most / _SHORTEST_S
        return None if scale == 1.0 else Literal(scale), most

    def _words_of(self, node: StatColumn | StatTotal, level: Level) -> Scalar:
        if isinstance(node, StatColumn):
            return self._word(node)
        scope = node.column.stat.scope
        word = self.sheets[scope].hold(self._word(node.column))
        aggregation = Aggregation.MAX if node.is_max else Aggregation.SUM
        return self.fold(scope, level, Aggregate(aggregation, when(self._is_member(node.cohort), word)))

    def _word(self, column: StatColumn) -> Scalar:
        """A word, or the number of values in a histogram, for each subject of the stat's own scope."""
        leaves = self.leaves[column.stat.scope]
        return leaves.now(column) if column.quantity is Quantity.NOW else add(*leaves.changes(column))

    def _is_member(self, cohort: Cohort) -> Scalar:
        scope = cohort.presences[0].stat.scope
        return self.sheets[scope].hold(every(*map(self._is_present, cohort.presences)))

    def _is_present(self, presence: Presence) -> Scalar:
        descriptor = self.blocks.descriptors[presence.stat]
        leaves = self.leaves[presence.stat.scope]
        quantity = Quantity.CHANGE if presence.is_change else Quantity.NOW
        column = StatColumn(presence.stat, quantity, descriptor)
        return is_known(leaves.changes(column)[0] if presence.is_change else leaves.now(column))

    def _histogram(self, node: HistogramQuantile | HistogramShare, level: Level) -> _Number:
        counts, descriptor = self._buckets(node.buckets, level)
        sheet = self.sheets[level]
        if isinstance(node, HistogramQuantile):
            most = max(edge for edge in edges(descriptor).tolist() if edge < math.inf)
            return _Number(quantile(sheet, descriptor, counts, node.q), most)
        below = share_below(sheet, descriptor, counts, node.bound)
        return _Number(apply(Function.SUBTRACT, Literal(1.0), below) if node.is_above else below, 1.0)

    def _buckets(self, node: StatColumn | StatTotal, level: Level) -> tuple[tuple[Scalar, ...], Descriptor]:
        if isinstance(node, StatColumn):
            return self.leaves[node.stat.scope].changes(node), node.descriptor
        column, scope = node.column, node.column.stat.scope
        member = self._is_member(node.cohort)
        counts = self.leaves[scope].changes(column)
        sums = (self.fold(scope, level, Aggregate(Aggregation.SUM, when(member, count))) for count in counts)
        return tuple(sums), column.descriptor

    # --- arithmetic ---------------------------------------------------------------------------------------------------

    def _operation(self, node: Operation, level: Level) -> _Number:
        if node.operator in (Operator.MIN, Operator.MAX):
            return self._least_or_greatest(node, level)
        left, right = self._number(node.left, level), self._number(node.right, level)
        match node.operator:
            case Operator.MULTIPLY:
                return _Number(apply(Function.MULTIPLY, left.scalar, right.scalar), left.most * right.most)
            case Operator.DIVIDE:
                return self._plain_quotient(node, level)
            case Operator.SUBTRACT:
                return _Number(apply(Function.SUBTRACT, left.scalar, right.scalar), left.most + right.most)
        return _Number(apply(Function.ADD, left.scalar, right.scalar), left.most + right.most)

    def _least_or_greatest(self, node: Operation, level: Level) -> _Number:
        left, right = self._of(node.left, level), self._of(node.right, level)
        is_min = node.operator is Operator.MIN
        takes_left = apply(Function.LESS_OR_EQUAL if is_min else Function.MORE_OR_EQUAL, left, right)
        takes_right = apply(Function.LESS if is_min else Function.MORE, right, left)
        return _Number(_branches((takes_left, left), (takes_right, right)), _SAFE)

    def _plain_quotient(self, node: Operation, level: Level) -> _Number:
        """A quotient; unknown for a divisor of 0."""
        above, below = self._number(node.left, level), self._of(node.right, level)
        divided = apply(Function.DIVIDE, above.scalar, below)
        if isinstance(below, Literal) and below.value:
            return _Number(divided, _over(above.most, float(below.value)))
        return _Number(when(apply(Function.NOT_EQUAL, below, Literal(0.0)), divided), math.inf)

    def _quotient(self, node: Quotient, level: Level) -> _Number:
        above, below = self._of(node.left, level), self._of(node.right, level)
        divided = apply(Function.DIVIDE, above, below)
        at_zero: Scalar = Null() if node.zero is None else when(is_known(above), Literal(node.zero))
        return _Number(Branching(((equal(below, Literal(0.0)), at_zero),), divided), math.inf)

    def _vcpu_fold(self, node: VcpuFold) -> _Number:
        total = self._total_of_fact(node)
        if total is not None:
            return _Number(total, _SAFE)
        operand = self._number(node.operand, Scope.VCPU)
        scalar = self.sheets[Scope.VCPU].hold(self._checked(operand, Scope.VCPU))
        most = operand.most if node.fold in (Fold.MAX, Fold.MEAN) else operand.most * _SUBJECTS_MAX
        return _Number(self.fold(Scope.VCPU, node.level, Aggregate(_FOLDS[node.fold], scalar)), most)

    def _total_of_fact(self, node: VcpuFold) -> Scalar | None:
        if isinstance(node.operand, FactColumn) and node.fold is Fold.SUM and node.level is Scope.VM:
            return self._facts.total(node.operand.name, self)
        return None


def _is_counted(column: StatColumn) -> bool:
    """Whether the number is the number of values in a histogram."""
    return column.descriptor.is_histogram


def _times(scalar: Scalar, factor: Scalar | None) -> Scalar:
    return scalar if factor is None else apply(Function.MULTIPLY, scalar, factor)


def _over(most: float, divisor: float) -> float:
    return most / abs(divisor) if abs(divisor) > 1 / _SAFE else math.inf


def _branches(*branches: tuple[Scalar, Scalar]) -> Scalar:
    """The value of the first condition that holds, NULL where none is known to hold."""
    return Branching(branches)


_UNKNOWN: Final = _Number(Null(), 0.0)
_COMPARISONS: Final[Mapping[Comparison, Function]] = {
    Comparison.LESS: Function.LESS,
    Comparison.LESS_OR_EQUAL: Function.LESS_OR_EQUAL,
    Comparison.MORE: Function.MORE,
    Comparison.MORE_OR_EQUAL: Function.MORE_OR_EQUAL,
    Comparison.EQUAL: Function.EQUAL,
    Comparison.NOT_EQUAL: Function.NOT_EQUAL,
}
_FOLDS: Final[Mapping[Fold, Aggregation]] = {
    Fold.SUM: Aggregation.SUM,
    Fold.MAX: Aggregation.MAX,
    Fold.MEAN: Aggregation.MEAN,
    Fold.COUNT: Aggregation.SUM,
}
