"""A formula after ``resolve``: complete instructions for an evaluator or a printer of queries, without look-ups.

A tree of frozen nodes that compare by value and have a text. Each leaf has a stat with its descriptor, the quantity
read from it, the level at which it is summed, and the cohort of the sum. There are no metrics and no alternatives in
it, and a stat that the schemas lack is a node, ``Unresolved``, with the reason.

Rules of evaluation:
- Unresolved in, unknown out. The exceptions are ``Connective`` (Kleene: false and unknown is false, true or unknown is
  true) and ``VcpuFold``, which leaves out vCPUs whose operand is unknown.
- A result that is not finite is unknown.
- A total over no subjects is unknown, and so is a quantile or share of no values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

from ..schema import Descriptor, Kind, Scope
from .tree import Comparison, Fold, Junction, Level, Operator


class ScopedStat(NamedTuple):
    """A stat of one provider and scope."""

    provider: str
    scope: Scope
    name: str

    def __str__(self) -> str:
        return f"{self.provider}.{self.name}@{self.scope.value}"


class Quantity(Enum):
    """The quantity read from a stat, in base units.

    ``CHANGE``: the increase of a count in the window; for a histogram, the number of new values. ``RATE``: the same per
    second. ``NOW``: the value at the end of the window. ``BUCKETS``: the increase of each bucket of a histogram.
    """

    CHANGE = "change"
    RATE = "rate"
    NOW = "now"
    BUCKETS = "buckets"


@dataclass(frozen=True, slots=True, kw_only=True)
class _ResolvedNode:
    """Evaluators look nodes up in every window, so the hash of a node is computed once."""

    _hash: int | None = field(default=None, init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        if self._hash is None:
            object.__setattr__(self, "_hash", hash((type(self).__name__, *self._parts())))
        return self._hash or 0

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        # Strings have another hash in each process.
        return type(self), self._parts()

    def __str__(self) -> str:
        return write_resolved(self)  # type: ignore[arg-type]

    def _parts(self) -> tuple[Any, ...]:
        names: tuple[str, ...] = self.__match_args__
        return tuple(getattr(self, name) for name in names)


@dataclass(frozen=True, slots=True)
class Presence(_ResolvedNode):
    """Whether a stat is known for a subject: with ``is_change`` its increase, otherwise its value."""

    stat: ScopedStat
    is_change: bool

    __hash__ = _ResolvedNode.__hash__


@dataclass(frozen=True, slots=True)
class Cohort(_ResolvedNode):
    """The subjects of a scope for which all of these presences hold; sorted by name, each once."""

    presences: tuple[Presence, ...]

    __hash__ = _ResolvedNode.__hash__


@dataclass(frozen=True, slots=True)
class Unresolved(_ResolvedNode):
    """An unknown value. ``scope``: the scope whose subjects are all left out, or None if it does not concern a stat."""

    reason: str
    scope: Scope | None

    __hash__ = _ResolvedNode.__hash__


@dataclass(frozen=True, slots=True)
class Constant(_ResolvedNode):
    """The same number for every subject."""

    value: float

    __hash__ = _ResolvedNode.__hash__


@dataclass(frozen=True, slots=True)
class StatColumn(_ResolvedNode):
    """A stat of each subject of its own scope."""

    stat: ScopedStat
    quantity: Quantity
    descriptor: Descriptor

    __hash__ = _ResolvedNode.__hash__


@dataclass(frozen=True, slots=True)
class StatTotal(_ResolvedNode):
    """A stat summed over the cohort's members that belong to each subject of ``level``; for a peak, the maximum."""

    column: StatColumn
    level: Level
    cohort: Cohort

    __hash__ = _ResolvedNode.__hash__

    @property
    def is_max(self) -> bool:
        return self.column.descriptor.kind is Kind.PEAK


@dataclass(frozen=True, slots=True)
class HistogramQuantile(_ResolvedNode):
    """The estimate of one quantile; ``buckets`` is of ``Quantity.BUCKETS``."""

    buckets: StatColumn | StatTotal
    q: float

    __hash__ = _ResolvedNode.__hash__


@dataclass(frozen=True, slots=True)
class HistogramShare(_ResolvedNode):
    """The share of the values on one side of ``bound``, which is in base units."""

    buckets: StatColumn | StatTotal
    bound: float
    is_above: bool

    __hash__ = _ResolvedNode.__hash__


@dataclass(frozen=True, slots=True)
class FactColumn(_ResolvedNode):
    """A fact of each subject of ``level``, which the caller provides."""

    name: str
    level: Level

    __hash__ = _ResolvedNode.__hash__


@dataclass(frozen=True, slots=True)
class Opposite(_ResolvedNode):
    """``-x``"""

    operand: ResolvedNode

    __hash__ = _ResolvedNode.__hash__


@dataclass(frozen=True, slots=True)
class Operation(_ResolvedNode):
    """An arithmetic operation on two numbers."""

    operator: Operator
    left: ResolvedNode
    right: ResolvedNode

    __hash__ = _ResolvedNode.__hash__


@dataclass(frozen=True, slots=True)
class Quotient(_ResolvedNode):
    """``left / right``; if ``right`` is 0 and ``left`` is known, ``zero`` (None: unknown)."""

    left: ResolvedNode
    right: ResolvedNode
    zero: float | None

    __hash__ = _ResolvedNode.__hash__


@dataclass(frozen=True, slots=True)
class VcpuFold(_ResolvedNode):
    """One number for each subject of ``level``, from the vCPUs for which ``operand`` is known."""

    fold: Fold
    operand: ResolvedNode
    level: Level

    __hash__ = _ResolvedNode.__hash__


@dataclass(frozen=True, slots=True)
class Relation(_ResolvedNode):
    """A comparison: 1 where it holds, 0 where not."""

    comparison: Comparison
    left: ResolvedNode
    right: ResolvedNode

    __hash__ = _ResolvedNode.__hash__


@dataclass(frozen=True, slots=True)
class Connective(_ResolvedNode):
    """A conjunction or disjunction of two conditions."""

    junction: Junction
    left: ResolvedNode
    right: ResolvedNode

    __hash__ = _ResolvedNode.__hash__


@dataclass(frozen=True, slots=True)
class Complement(_ResolvedNode):
    """``not x``"""

    operand: ResolvedNode

    __hash__ = _ResolvedNode.__hash__


ResolvedNode: TypeAlias = (
    Unresolved
    | Constant
    | StatColumn
    | StatTotal
    | HistogramQuantile
    | HistogramShare
    | FactColumn
    | Opposite
    | Operation
    | Quotient
    | VcpuFold
    | Relation
    | Connective
    | Complement
)


@dataclass(frozen=True, slots=True)
class ResolvedFormula:
    """One number for each subject of ``level``; conditions: 1 holds, 0 does not."""

    node: ResolvedNode
    level: Level

    def __str__(self) -> str:
        return write_resolved(self.node)


def parts(node: ResolvedNode) -> tuple[ResolvedNode, ...]:
    """The direct operands of a node."""
    match node:
        case StatTotal():
            return (node.column,)
        case HistogramQuantile() | HistogramShare():
            return (node.buckets,)
        case Opposite() | Complement() | VcpuFold():
            return (node.operand,)
        case Operation() | Quotient() | Relation() | Connective():
            return (node.left, node.right)
        case Unresolved() | Constant() | StatColumn() | FactColumn():
            return ()


def walk_resolved(node: ResolvedNode) -> Iterator[ResolvedNode]:
    """Every node of a tree, the root first."""
    yield node
    for part in parts(node):
        yield from walk_resolved(part)


def write_resolved(node: ResolvedNode | Presence | Cohort) -> str:
    """The node as text, for people who inspect the result of ``resolve``."""
    match node:
        case Unresolved():
            return f"unknown[{node.reason}]"
        case Constant():
            return repr(node.value)
        case Presence():
            return f"{'change' if node.is_change else 'now'}({node.stat})"
        case Cohort():
            return " and ".join(map(write_resolved, node.presences))
        case StatColumn():
            return f"{node.quantity.value}({node.stat})"
        case StatTotal():
            fold = "max" if node.is_max else "sum"
            return f"{fold}[{node.level.value}]({write_resolved(node.column)} where {write_resolved(node.cohort)})"
        case HistogramQuantile():
            return f"quantile({write_resolved(node.buckets)}, {node.q!r})"
        case HistogramShare():
            side = "above" if node.is_above else "below"
            return f"share_{side}({write_resolved(node.buckets)}, {node.bound!r})"
        case FactColumn():
            return f"fact[{node.level.value}]({node.name})"
        case Opposite():
            return f"-({write_resolved(node.operand)})"
        case Operation(operator=Operator.MIN | Operator.MAX):
            return f"{node.operator.value}({write_resolved(node.left)}, {write_resolved(node.right)})"
        case Operation():
            return _pair(node.operator.value, node.left, node.right)
        case Quotient():
            zero = "unknown" if node.zero is None else repr(node.zero)
            return f"ratio({write_resolved(node.left)}, {write_resolved(node.right)}, {zero})"
        case VcpuFold():
            return f"{node.fold.value}[{node.level.value}]({write_resolved(node.operand)})"
        case Relation():
            return _pair(node.comparison.value, node.left, node.right)
        case Connective():
            return _pair(node.junction.value, node.left, node.right)
        case Complement():
            return f"not ({write_resolved(node.operand)})"


def _pair(word: str, left: ResolvedNode, right: ResolvedNode) -> str:
    return f"({write_resolved(left)} {word} {write_resolved(right)})"
