"""The nodes of a formula: frozen, and compared by value.

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

    __hash__ = object.__hash__  # as for Scope


HOST: Final = WholeHost.HOST
Level: TypeAlias = Scope | WholeHost
"""The level of a number: each vCPU, each VM, or the host."""


class Reduction(Enum):
    """The quantity that is read from a stat. All are in base units: seconds, bytes, cycles, counts.

    For a histogram, rate and delta are those of the number of values in it.
    """

    RATE = "rate"
    DELTA = "delta"
    VALUE = "value"
    SECONDS = "seconds"


class Fold(Enum):
    """How the values of a VM's vCPUs are combined; ``COUNT``: the number of vCPUs for which a condition holds."""

    SUM = "sum"
    MAX = "max"
    MEAN = "mean"
    COUNT = "count"


class Operator(Enum):
    """Operators on two numbers; the values are their text."""

    ADD = "+"
    SUBTRACT = "-"
    MULTIPLY = "*"
    DIVIDE = "/"
    MIN = "min2"
    MAX = "max2"


class Comparison(Enum):
    """Comparisons of two numbers; the values are their text."""

    LESS = "<"
    LESS_OR_EQUAL = "<="
    MORE = ">"
    MORE_OR_EQUAL = ">="
    EQUAL = "=="
    NOT_EQUAL = "!="


class Junction(Enum):
    """Connectives of two conditions; the values are their text."""

    AND = "and"
    OR = "or"


class StatName(NamedTuple):
    """The name of a stat in a formula; its scope follows from the context."""

    provider: str
    name: str

    def __str__(self) -> str:
        return self.name if self.provider == DEFAULT_PROVIDER else f"{self.provider}.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _FormulaNode:
    """``at``: the offset in the text at which the node begins."""

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
    """``quantile(halt_wait_hist, 0.99)``: the estimate for the values added in the window."""

    stat: StatName
    q: float


@dataclass(frozen=True, slots=True)
class ShareTerm(_FormulaNode):
    """``share_above(halt_wait_hist, 1ms)``: the share on one side of a bound, of the values added in the window."""

    stat: StatName
    bound: Number
    is_above: bool


@dataclass(frozen=True, slots=True)
class FactTerm(_FormulaNode):
    """``fact(name)``: a value that no stat provides; the caller of the evaluator supplies it."""

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
    """``a + b``, ``min2(a, b)``; a divisor is a constant and not 0."""

    operator: Operator
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Ratio(_FormulaNode):
    """``ratio(a, b, zero)``: a / b, or ``zero`` where b is 0; ``zero`` is None for ``unknown``."""

    left: Expression
    right: Expression
    zero: float | None


@dataclass(frozen=True, slots=True)
class Either(_FormulaNode):
    """``either(a, b)``: the first option of which the sample has all stats."""

    options: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class OverVcpus(_FormulaNode):
    """``sum(x)``: the value for a VM, from the values of ``x`` for each of its vCPUs."""

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
"""A term that reads a stat."""

Expression: TypeAlias = (
    Number | Leaf | FactTerm | Reference | Minus | Arithmetic | Ratio | Either | OverVcpus | Compare | Join | Negation
)


def children(expression: Expression) -> tuple[Expression, ...]:
    """The direct operands of an expression."""
    match expression:
        case Arithmetic() | Ratio() | Compare() | Join():
            return (expression.left, expression.right)
        case Minus() | Negation() | OverVcpus():
            return (expression.operand,)
        case Either():
            return expression.options
    return ()


def walk(expression: Expression, scope: Scope) -> Iterator[tuple[Expression, Scope]]:
    """Every part of an expression with its scope, the whole first."""
    yield expression, scope
    inner = Scope.VCPU if isinstance(expression, OverVcpus) else scope
    for part in children(expression):
        yield from walk(part, inner)
