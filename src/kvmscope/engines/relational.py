"""A small relational form, made of what all engines share: what a formula becomes before it is printed.

Scalars compare by value. A ``Query`` is a sequence of named relations, of which the last is the answer. Not
here: how an engine writes it (``printing``).
Rule: numbers are doubles and may be NULL; conditions are booleans and may be NULL (Kleene). Nothing in this form means
one thing in one engine and another thing in the next: where engines differ (least of NULL, integer division, a float
literal), there is a word of our own, and the printer spells it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class Function(Enum):
    """What is made of one or more scalars of a row. All but the connectives are NULL if an argument is."""

    ADD = "add"
    SUBTRACT = "subtract"
    MULTIPLY = "multiply"
    DIVIDE = "divide"
    NEGATE = "negate"
    POWER = "power"
    WHOLE_DIVIDE = "whole divide"
    REMAINDER = "remainder"
    LESS = "less"
    LESS_OR_EQUAL = "less or equal"
    MORE = "more"
    MORE_OR_EQUAL = "more or equal"
    EQUAL = "equal"
    NOT_EQUAL = "not equal"
    AND = "and"
    OR = "or"
    NOT = "not"
    IS_NULL = "is null"
    COALESCE = "coalesce"
    IS_FINITE = "is finite"
    TO_DOUBLE = "to double"
    TO_INTEGER = "to integer"
    SIGNED = "signed"
    """A u64 word taken for an i64."""
    BIT = "bit"
    """Of a u64 word the bit with this number: 0 or 1."""
    EPOCH_NS = "epoch ns"
    """A moment as nanoseconds since 1970, as fine as the engine has it."""
    JOIN_TEXTS = "join texts"
    """The texts of a list as one, with spaces between them."""


class Aggregation(Enum):
    """What is made of the rows of a group; rows in which the argument is NULL do not count. NULL of no rows."""

    SUM = "sum"
    MIN = "min"
    MAX = "max"
    MEAN = "mean"
    COUNT = "count"
    """How many rows; of no argument, all."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A column; ``of``: the alias of its relation, or "" where there is one relation only."""

    name: str
    of: str = ""


@dataclass(frozen=True, slots=True)
class Literal:
    """A number (a float is a double), or a text."""

    value: float | int | str


@dataclass(frozen=True, slots=True)
class Null:
    """NULL as a number or as a condition."""

    is_condition: bool = False


@dataclass(frozen=True, slots=True)
class Apply:
    """A function of scalars."""

    function: Function
    arguments: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Branching:
    """The value of the first branch whose condition holds; ``otherwise`` None is NULL."""

    branches: tuple[tuple[Scalar, Scalar], ...]
    otherwise: Scalar | None = None


@dataclass(frozen=True, slots=True)
class OneOf:
    """Whether a text is one of these; of none, never."""

    text: Scalar
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One value of a group; or of the rows up to this one, where ``over`` is given."""

    aggregation: Aggregation
    argument: Scalar | None
    over: RowsSoFar | None = None


@dataclass(frozen=True, slots=True)
class RowsSoFar:
    """The rows of the same ``partition`` up to this one, by ``order``; without an order, all of them."""

    partition: tuple[Scalar, ...]
    order: tuple[Scalar, ...]


Scalar: TypeAlias = Ref | Literal | Null | Apply | Branching | OneOf | Aggregate


@dataclass(frozen=True, slots=True)
class RelationSource:
    """A relation under an alias; ``schema``: "" for one of the same query."""

    name: str
    alias: str
    schema: str = ""


@dataclass(frozen=True, slots=True)
class Joined:
    """A further relation; ``on`` None: each row with each. ``keeps_all``: rows of the left side without a partner stay,
    with NULLs (LEFT JOIN)."""

    source: RelationSource
    on: Scalar | None
    keeps_all: bool = False


@dataclass(frozen=True, slots=True)
class NamedScalar:
    """A scalar with the name that it has in the relation made."""

    name: str
    scalar: Scalar


@dataclass(frozen=True, slots=True)
class Select:
    """Rows of a source, joined, kept by ``where``, grouped; of no source, one row. ``keeps_columns``: those of the
    source come first."""

    columns: tuple[NamedScalar, ...]
    source: RelationSource | None
    joins: tuple[Joined, ...] = ()
    where: Scalar | None = None
    group_by: tuple[Scalar, ...] = ()
    having: Scalar | None = None
    keeps_columns: bool = False


@dataclass(frozen=True, slots=True)
class UnionAll:
    """The rows of several selects with the same columns."""

    selects: tuple[Select, ...]


Relation: TypeAlias = Select | UnionAll


@dataclass(frozen=True, slots=True)
class Named:
    """A relation that later ones of the same query may read by its name."""

    name: str
    relation: Relation


@dataclass(frozen=True, slots=True)
class Query:
    """``steps`` in their order, each reading those before it, and the answer."""

    steps: tuple[Named, ...]
    answer: Relation


def apply(function: Function, *arguments: Scalar) -> Apply:
    return Apply(function, arguments)


def add(*terms: Scalar) -> Scalar:
    """The sum of one or more numbers."""
    total = terms[0]
    for term in terms[1:]:
        total = apply(Function.ADD, total, term)
    return total


def every(*conditions: Scalar) -> Scalar:
    """Whether all of one or more conditions hold."""
    whole = conditions[0]
    for condition in conditions[1:]:
        whole = apply(Function.AND, whole, condition)
    return whole


def equal(left: Scalar, right: Scalar) -> Apply:
    return apply(Function.EQUAL, left, right)


def is_known(scalar: Scalar) -> Apply:
    return apply(Function.NOT, apply(Function.IS_NULL, scalar))


def when(condition: Scalar, value: Scalar, otherwise: Scalar | None = None) -> Branching:
    return Branching(((condition, value),), otherwise)


def refs(scalar: Scalar) -> Iterator[Ref]:
    """Every column that a scalar reads."""
    match scalar:
        case Ref():
            yield scalar
        case Apply():
            for argument in scalar.arguments:
                yield from refs(argument)
        case Branching():
            for condition, value in scalar.branches:
                yield from refs(condition)
                yield from refs(value)
            if scalar.otherwise is not None:
                yield from refs(scalar.otherwise)
        case OneOf():
            yield from refs(scalar.text)
        case Aggregate():
            if scalar.argument is not None:
                yield from refs(scalar.argument)
