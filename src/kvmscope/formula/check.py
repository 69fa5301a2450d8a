"""The type of a tree: a condition, or a number with its dimension.

Rule: parts of incompatible types, and undefined names, are one CatalogError with the position of the character.
A number without a unit fits any dimension in sums and comparisons, and is a dimensionless factor in products.
Dimensions are checked if every stat is catalogued; a stat that is not in the catalogue fits any type.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from ..schema import Kind, Scope, Unit, Unknown
from .parse import Blame
from .text import write
from .tree import (
    Arithmetic,
    Compare,
    Either,
    Expression,
    FactTerm,
    Fold,
    Join,
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
    walk,
)


class Dimension(NamedTuple):
    """Powers of the base units: a rate of bytes is ``Dimension(seconds=-1, bytes=1)``, a bare count all zeros."""

    seconds: int = 0
    bytes: int = 0
    cycles: int = 0

    def __str__(self) -> str:
        above = [f"{name}^{power}" if power > 1 else name for name, power in self._powers if power > 0]
        below = [f"{name}^{-power}" if power < -1 else name[:-1] for name, power in self._powers if power < 0]
        return f"{'*'.join(above) or 'number'}{''.join(f' per {name}' for name in below)}"

    @property
    def _powers(self) -> tuple[tuple[str, int], ...]:
        return (("seconds", self.seconds), ("bytes", self.bytes), ("cycles", self.cycles))

    def times(self, other: Dimension, power: int = 1) -> Dimension:
        return Dimension(*(a + b * power for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True)
class Type:
    """A condition, or a number of a dimension; ``dimension`` None: one that is unknown."""

    is_condition: bool = False
    dimension: Dimension | None = None

    def __str__(self) -> str:
        return "a condition" if self.is_condition else f"a number ({self.dimension or 'of any unit'})"


CONDITION: Final = Type(is_condition=True)


class StatShape(Protocol):
    """The type of a stat according to the catalogue."""

    @property
    def kind(self) -> Kind | Unknown: ...
    @property
    def unit(self) -> Unit | Unknown: ...


Lookup: TypeAlias = Callable[[str, Scope, str], StatShape | None]
"""Looks up a stat in the catalogue by provider, scope and name; None if it is not there."""


def no_stats(provider: str, scope: Scope, name: str) -> StatShape | None:
    """A catalogue without stats."""
    del provider, scope, name
    return None


@dataclass(frozen=True, slots=True)
class Context:
    """The names that a formula can use: stats, metrics with their scopes, facts of a scope."""

    stats: Lookup = no_stats
    metrics: Mapping[str, tuple[Scope, Type]] = field(default_factory=dict)
    facts: Mapping[tuple[Scope, str], Type] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Formula:
    """A checked formula: its tree, its scope, and its type.

    Evaluators use it as a key in every window, and its tree is deep, so the hash is computed once.
    """

    expression: Expression
    scope: Scope
    type: Type
    _hash: int | None = field(default=None, init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        if self._hash is None:
            object.__setattr__(self, "_hash", hash((self.expression, self.scope, self.type)))
        return self._hash or 0

    def __reduce__(self) -> tuple[Any, ...]:
        # The hash of a string differs between processes.
        return Formula, (self.expression, self.scope, self.type)

    def __str__(self) -> str:
        return write(self.expression)


def walk_with_metrics(
    expression: Expression, scope: Scope, metrics: Mapping[str, Formula]
) -> Iterator[tuple[Expression, Scope]]:
    """As ``walk``, but each reference is followed by the parts of the metric that it names."""
    for part, inner in walk(expression, scope):
        yield part, inner
        if isinstance(part, Reference):
            referred = metrics[part.name]
            yield from walk_with_metrics(referred.expression, referred.scope, metrics)


def check(expression: Expression, scope: Scope, context: Context, blame: Blame) -> Formula:
    """A tree with its type. Raises CatalogError if the types of its parts are incompatible, or a name is undefined."""
    return Formula(expression, scope, _Checker(context, blame).type_of(expression, scope))


class _Checker:
    def __init__(self, context: Context, blame: Blame) -> None:
        self._context = context
        self._blame = blame

    def type_of(self, expression: Expression, scope: Scope) -> Type:
        match expression:
            case Number():
                return self._literal(expression)
            case StatTerm():
                return self._stat(expression, scope)
            case QuantileTerm() | ShareTerm():
                return self._histogram(expression, scope)
            case FactTerm():
                return self._fact(expression, scope)
            case Reference():
                return self._reference(expression, scope)
            case Minus():
                return self._number(expression.operand, scope)
            case Arithmetic():
                return self._arithmetic(expression, scope)
            case Ratio():
                return self._ratio(expression, scope)
            case Either():
                return self._either(expression, scope)
            case OverVcpus():
                return self._over(expression, scope)
            case Compare():
                return self._compare(expression, scope)
            case Join():
                self._condition(expression.left, scope)
                return self._condition(expression.right, scope)
            case Negation():
                return self._condition(expression.operand, scope)

    def _literal(self, number: Number) -> Type:
        return Type(dimension=None if number.unit is Unit.NONE else _DIMENSIONS[number.unit])

    def _stat(self, leaf: StatTerm, scope: Scope) -> Type:
        shape = self._shape(leaf, scope)
        if shape is None:
            return Type(dimension=Dimension() if leaf.reduction is Reduction.SECONDS else None)
        dimension = _DIMENSIONS.get(shape.unit) if isinstance(shape.unit, Unit) else None
        if isinstance(shape.kind, Kind):
            self._check_kind(leaf, shape.kind)
        if leaf.reduction is Reduction.SECONDS and shape.unit is not Unit.SECONDS:
            raise self._blame(leaf.at, "a stat that counts time", f"{leaf.stat}, which does not")
        if leaf.reduction is Reduction.RATE and shape.unit is Unit.SECONDS and shape.kind is Kind.CUMULATIVE:
            raise self._blame(leaf.at, f"seconds({leaf.stat}), since it counts time", write(leaf))
        if isinstance(shape.kind, Kind) and shape.kind.is_histogram:
            dimension = Dimension()
        if dimension and leaf.reduction in (Reduction.RATE, Reduction.SECONDS):
            dimension = dimension.times(_DIMENSIONS[Unit.SECONDS], -1)
        return Type(dimension=dimension)

    def _check_kind(self, leaf: StatTerm, kind: Kind) -> None:
        if kind.is_histogram and leaf.reduction in (Reduction.VALUE, Reduction.SECONDS):
            raise self._blame(leaf.at, "a stat of one value", f"{leaf.stat}, a histogram")
        if leaf.reduction is not Reduction.VALUE and kind in (Kind.INSTANT, Kind.PEAK):
            raise self._blame(leaf.at, f"a cumulative stat, or value({leaf.stat})", f"{leaf.stat}, {_KINDS[kind]}")

    def _histogram(self, leaf: QuantileTerm | ShareTerm, scope: Scope) -> Type:
        shape = self._shape(leaf, scope)
        dimension = _DIMENSIONS.get(shape.unit) if shape and isinstance(shape.unit, Unit) else None
        if shape and isinstance(shape.kind, Kind) and not shape.kind.is_histogram:
            raise self._blame(leaf.at, "a histogram", f"{leaf.stat}, {_KINDS[shape.kind]}")
        if isinstance(leaf, QuantileTerm):
            return Type(dimension=dimension)
        bound = self.type_of(leaf.bound, scope)
        if bound.dimension and dimension and bound.dimension != dimension:
            raise self._blame(leaf.bound.at, f"a bound in {dimension}", f"one in {bound.dimension}")
        return Type(dimension=Dimension())

    def _shape(self, leaf: Leaf, scope: Scope) -> StatShape | None:
        shape = self._context.stats(leaf.stat.provider, scope, leaf.stat.name)
        other = Scope.VM if scope is Scope.VCPU else Scope.VCPU
        if shape is None and self._context.stats(leaf.stat.provider, other, leaf.stat.name):
            hint = ", or sum(…), max(…), mean(…)" if scope is Scope.VM and isinstance(leaf, StatTerm) else ""
            raise self._blame(leaf.at, f"a stat of {_SUBJECTS[scope]}{hint}", f"{leaf.stat}, one of {_SUBJECTS[other]}")
        return shape

    def _fact(self, fact: FactTerm, scope: Scope) -> Type:
        found = self._context.facts.get((scope, fact.name))
        if found is None:
            raise self._blame(fact.at, f"a fact of {_SUBJECTS[scope]}", repr(fact.name))
        return found

    def _reference(self, reference: Reference, scope: Scope) -> Type:
        found = self._context.metrics.get(reference.name)
        if found is None:
            raise self._blame(reference.at, "a metric", repr(reference.name))
        if scope is Scope.VCPU and found[0] is Scope.VM:
            raise self._blame(reference.at, "a metric of vCPUs", f"{reference.name}, one of VMs")
        return found[1]

    def _ratio(self, node: Ratio, scope: Scope) -> Type:
        left, right = self._numbers(node, scope)
        return Type(dimension=_product(node.left, left, node.right, right, power=-1))

    def _arithmetic(self, node: Arithmetic, scope: Scope) -> Type:
        left, right = self._numbers(node, scope)
        match node.operator:
            case Operator.MULTIPLY:
                return Type(dimension=_product(node.left, left, node.right, right))
            case Operator.DIVIDE:
                if not constant(node.right):
                    raise self._blame(node.at, "a division by a constant that is not 0, or ratio(a, b, zero)", "'/'")
                return Type(dimension=_product(node.left, left, node.right, right, power=-1))
        return self._alike(node, left, right)

    def _either(self, node: Either, scope: Scope) -> Type:
        types = [self.type_of(option, scope) for option in node.options]
        first = types[0]
        for option, found in zip(node.options, types, strict=True):
            if found.is_condition != first.is_condition or not _fit(found, first):
                raise self._blame(option.at, f"{first}, like the first", str(found))
        return next((found for found in types if found.dimension), first)

    def _over(self, node: OverVcpus, scope: Scope) -> Type:
        if scope is Scope.VCPU:
            raise self._blame(node.at, "a formula of one vCPU", f"{node.fold.value}(…), which is of a VM")
        if node.fold is Fold.COUNT:
            self._condition(node.operand, Scope.VCPU)
            return Type(dimension=Dimension())
        return self._number(node.operand, Scope.VCPU)

    def _compare(self, node: Compare, scope: Scope) -> Type:
        self._alike(node, *self._numbers(node, scope))
        return CONDITION

    def _numbers(self, node: Arithmetic | Ratio | Compare, scope: Scope) -> tuple[Type, Type]:
        return self._number(node.left, scope), self._number(node.right, scope)

    def _number(self, expression: Expression, scope: Scope) -> Type:
        found = self.type_of(expression, scope)
        if found.is_condition:
            raise self._blame(expression.at, "a number", "a condition")
        return found

    def _condition(self, expression: Expression, scope: Scope) -> Type:
        found = self.type_of(expression, scope)
        if not found.is_condition:
            raise self._blame(expression.at, "a condition", "a number")
        return found

    def _alike(self, node: Arithmetic | Compare, left: Type, right: Type) -> Type:
        if not _fit(left, right):
            raise self._blame(node.right.at, f"{left}", f"{right}")
        return left if left.dimension else right


def constant(expression: Expression) -> float | None:
    """The value of an expression of literals; None if it has other parts, or a division by 0."""
    match expression:
        case Number():
            return expression.value
        case Minus():
            inner = constant(expression.operand)
            return None if inner is None else -inner
        case Arithmetic():
            left, right = constant(expression.left), constant(expression.right)
            return None if left is None or right is None else _OPERATIONS[expression.operator](left, right)
    return None


_OPERATIONS: Final[Mapping[Operator, Callable[[float, float], float | None]]] = {
    Operator.ADD: operator.add,
    Operator.SUBTRACT: operator.sub,
    Operator.MULTIPLY: operator.mul,
    Operator.DIVIDE: lambda left, right: left / right if right else None,
    Operator.MIN: min,
    Operator.MAX: max,
}


def _fit(left: Type, right: Type) -> bool:
    return left.dimension is None or right.dimension is None or left.dimension == right.dimension


def _product(left: Expression, a: Type, right: Expression, b: Type, *, power: int = 1) -> Dimension | None:
    first, second = _of_factor(left, a), _of_factor(right, b)
    return first.times(second, power) if first is not None and second is not None else None


def _of_factor(expression: Expression, found: Type) -> Dimension | None:
    """The dimension of a factor; a bare constant is dimensionless here, rather than of any dimension."""
    return Dimension() if found.dimension is None and constant(expression) is not None else found.dimension


_DIMENSIONS: Final[Mapping[Unit, Dimension]] = {
    Unit.NONE: Dimension(),
    Unit.BYTES: Dimension(bytes=1),
    Unit.SECONDS: Dimension(seconds=1),
    Unit.CYCLES: Dimension(cycles=1),
    Unit.BOOLEAN: Dimension(),
    Unit.BIT: Dimension(),
}
_KINDS: Final[Mapping[Kind, str]] = {
    Kind.CUMULATIVE: "a cumulative one",
    Kind.INSTANT: "an instant one",
    Kind.PEAK: "a peak",
    Kind.LINEAR_HISTOGRAM: "a histogram",
    Kind.LOG_HISTOGRAM: "a histogram",
}
_SUBJECTS: Final[Mapping[Scope, str]] = {Scope.VM: "VMs", Scope.VCPU: "vCPUs"}
