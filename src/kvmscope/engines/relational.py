"""A small relational form of what all engines share. Formulas are lowered to it before they are printed as SQL.

Scalars compare by value. A ``Query`` is a sequence of named relations, the last of which is the answer. Elsewhere: each
engine's SQL (``printing``).
Rule: numbers are doubles and may be NULL; conditions are booleans and may be NULL (Kleene). Everything in this form has
the same meaning in every engine: where engines differ (least of NULL, integer division, a float literal), the form has
its own function, which the printer spells for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class Function(Enum):
    """Functions of one or more scalars of a row. All but the connectives are NULL if an argument is NULL."""

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
    """A u64 word reinterpreted as an i64."""
    BIT = "bit"
    """The bit with this number of a u64 word: 0 or 1."""
    EPOCH_NS = "epoch ns"
    """A time as nanoseconds since 1970, at the engine's resolution."""
    JOIN_TEXTS = "join texts"
    """The strings of a list joined by spaces."""


class Aggregation(Enum):
    """Aggregates of the rows of a group. Rows in which the argument is NULL do not count. NULL for no rows."""

    SUM = "sum"
    MIN = "min"
    MAX = "max"
    MEAN = "mean"
    COUNT = "count"
    """The number of rows; without an argument, of all rows."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A column. ``of``: alias of its relation, "" if there is only one relation."""

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
    """The value of the first branch whose condition holds, else ``otherwise``; None: NULL."""

    branches: tuple[tuple[Scalar, Scalar], ...]
    otherwise: Scalar | None = None


@dataclass(frozen=True, slots=True)
class OneOf:
    """Whether a text is one of these; false if there are none."""

    text: Scalar
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One value of a group or, with ``over``, of the rows up to this one."""

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
    """A joined relation. ``on`` None: a cross join. ``keeps_all``: a LEFT JOIN, which keeps left rows without a match,
    with NULLs."""

    source: RelationSource
    on: Scalar | None
    keeps_all: bool = False


@dataclass(frozen=True, slots=True)
class NamedScalar:
    """A scalar with its column name in the resulting relation."""

    name: str
    scalar: Scalar


@dataclass(frozen=True, slots=True)
class Select:
    """Rows of a source, joined, filtered by ``where``, grouped; without a source, one row. ``keeps_columns``: put the
    columns of the source first."""

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
    """``steps`` in order, each of which may read earlier ones, and the answer."""

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
