"""What a formula is made of: frozen nodes that compare by value.

Not here: text (``parse``, ``text``) and types (``check``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from ..schema import Scope, Unit

DEFAULT_PROVIDER: Final = "kvm"


class WholeHost(Enum):
    """The host as a whole: one number."""

    HOST = "host"

    __hash__ = object.__hash__  # as that of a scope


HOST: Final = WholeHost.HOST
Level: TypeAlias = Scope | WholeHost
"""The level of a number: each vCPU, each VM, or the host."""


class Reduction(Enum):
    """What of a stat is meant. All are in base units: seconds, bytes, cycles, counts.

    Of a histogram, rate and delta are those of how many values it counted.
    """

    RATE = "rate"
    DELTA = "delta"
    VALUE = "value"
    SECONDS = "seconds"


class Fold(Enum):
    """How the vCPUs of a VM become one number; ``COUNT``: for how many a condition holds."""

    SUM = "sum"
    MAX = "max"
    MEAN = "mean"
    COUNT = "count"


class Operator(Enum):
    """Of two numbers, in their text."""

    ADD = "+"
    SUBTRACT = "-"
    MULTIPLY = "*"
    DIVIDE = "/"
    MIN = "min2"
    MAX = "max2"


class Comparison(Enum):
    """Of two numbers, in its text."""

    LESS = "<"
    LESS_OR_EQUAL = "<="
    MORE = ">"
    MORE_OR_EQUAL = ">="
    EQUAL = "=="
    NOT_EQUAL = "!="


class Junction(Enum):
    """Of two conditions, in its text."""

    AND = "and"
    OR = "or"


class StatName(NamedTuple):
    """A stat as formulas name it; its scope follows from where it stands."""

    provider: str
    name: str

    def __str__(self) -> str:
        return self.name if self.provider == DEFAULT_PROVIDER else f"{self.provider}.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _FormulaNode:
    """``at``: the character of the text at which it begins."""

    at: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Number(_FormulaNode):
    """A literal, not negative, in base units; ``unit`` is NONE for a bare number."""

    value: float
    unit: Unit = Unit.NONE


@dataclass(frozen=True, slots=True)
class StatTerm(_FormulaNode):
    """``rate(exits)``"""

    reduction: Reduction
    stat: StatName


@dataclass(frozen=True, slots=True)
class QuantileTerm(_FormulaNode):
    """``quantile(halt_wait_hist, 0.99)`` of what was added in the window: the estimate."""

    stat: StatName
    q: float


@dataclass(frozen=True, slots=True)
class ShareTerm(_FormulaNode):
    """``share_above(halt_wait_hist, 1ms)``: the share of what the window added on one side of a bound."""

    stat: StatName
    bound: Number
    is_above: bool


@dataclass(frozen=True, slots=True)
class FactTerm(_FormulaNode):
    """``fact(name)``: something that no stat shows; the evaluator supplies it."""

    name: str


@dataclass(frozen=True, slots=True)
class Reference(_FormulaNode):
    """Another metric, by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Minus(_FormulaNode):
    """``-x``"""

    operand: Expression


@dataclass(frozen=True, slots=True)
class Arithmetic(_FormulaNode):
    """``a + b``, ``min2(a, b)``; what is divided by is a constant and not 0."""

    operator: Operator
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Ratio(_FormulaNode):
    """``ratio(a, b, zero)``: a / b, or ``zero`` where b is 0; None if that is unknown."""

    left: Expression
    right: Expression
    zero: float | None


@dataclass(frozen=True, slots=True)
class Either(_FormulaNode):
    """``either(a, b)``: the first of which the sample has all stats."""

    options: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class OverVcpus(_FormulaNode):
    """``sum(x)``: of a VM, from what ``x`` is for each of its vCPUs."""

    fold: Fold
    operand: Expression


@dataclass(frozen=True, slots=True)
class Compare(_FormulaNode):
    """``a < b``"""

    comparison: Comparison
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Join(_FormulaNode):
    """``a and b``, ``a or b``"""

    junction: Junction
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Negation(_FormulaNode):
    """``not a``"""

    operand: Expression


Leaf: TypeAlias = StatTerm | QuantileTerm | ShareTerm
"""What reads a stat."""

Expression: TypeAlias = (
    Number | Leaf | FactTerm | Reference | Minus | Arithmetic | Ratio | Either | OverVcpus | Compare | Join | Negation
)


def children(expression: Expression) -> tuple[Expression, ...]:
    """The parts of which it is made."""
    match expression:
        case Arithmetic() | Ratio() | Compare() | Join():
            return (expression.left, expression.right)
        case Minus() | Negation() | OverVcpus():
            return (expression.operand,)
        case Either():
            return expression.options
    return ()


def walk(expression: Expression, scope: Scope) -> Iterator[tuple[Expression, Scope]]:
    """Every part with the scope that it is of, the whole first."""
    yield expression, scope
    inner = Scope.VCPU if isinstance(expression, OverVcpus) else scope
    for part in children(expression):
        yield from walk(part, inner)
