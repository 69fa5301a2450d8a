"""A tree as text, from which ``parse`` makes the same tree."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from ..schema import Unit
from .tree import (
    Arithmetic,
    Compare,
    Either,
    Expression,
    FactTerm,
    Join,
    Junction,
    Minus,
    Negation,
    Number,
    Operator,
    OverVcpus,
    QuantileTerm,
    Ratio,
    Reference,
    ShareTerm,
    StatTerm,
)


def write(expression: Expression) -> str:
    """The text of a tree."""
    match expression:
        case Number(value=value, unit=unit):
            is_whole = value.is_integer() and value < 2**53
            return f"{int(value) if is_whole else value!r}{_LETTER[unit]}"
        case StatTerm():
            return f"{expression.reduction.value}({expression.stat})"
        case QuantileTerm():
            return f"quantile({expression.stat}, {write(Number(expression.q))})"
        case ShareTerm():
            side = "above" if expression.is_above else "below"
            return f"share_{side}({expression.stat}, {write(expression.bound)})"
        case FactTerm():
            return f"fact({expression.name})"
        case Reference():
            return expression.name
        case Minus():
            return f"-{_within(expression.operand, _Binding.ATOM)}"
        case Arithmetic() | Join():
            return _write_pair(expression)
        case Ratio(zero=zero):
            return f"ratio({write(expression.left)}, {write(expression.right)}, {_write_zero(zero)})"
        case Either():
            return f"either({', '.join(map(write, expression.options))})"
        case OverVcpus():
            return f"{expression.fold.value}({write(expression.operand)})"
        case Compare():
            left, right = (_within(part, _Binding.SUM) for part in (expression.left, expression.right))
            return f"{left} {expression.comparison.value} {right}"
        case Negation():
            return f"not {_within(expression.operand, _Binding.COMPARE)}"


def _write_pair(node: Arithmetic | Join) -> str:
    word = node.operator.value if isinstance(node, Arithmetic) else node.junction.value
    binding = _binding(node)
    if binding is _Binding.ATOM:
        return f"{word}({write(node.left)}, {write(node.right)})"
    return f"{_within(node.left, binding)} {word} {_within(node.right, _Binding(binding + 1))}"


def _write_zero(zero: float | None) -> str:
    if zero is None:
        return "unknown"
    return f"{'-' if zero < 0 else ''}{write(Number(abs(zero)))}"


class _Binding(IntEnum):
    """The precedence of an expression, as in the grammar."""

    OR = 0
    AND = 1
    NOT = 2
    COMPARE = 3
    SUM = 4
    PRODUCT = 5
    SIGN = 6
    ATOM = 7


def _binding(expression: Expression) -> _Binding:
    match expression:
        case Join(junction=Junction.OR):
            return _Binding.OR
        case Join():
            return _Binding.AND
        case Negation():
            return _Binding.NOT
        case Compare():
            return _Binding.COMPARE
        case Arithmetic(operator=Operator.ADD | Operator.SUBTRACT):
            return _Binding.SUM
        case Arithmetic(operator=Operator.MULTIPLY | Operator.DIVIDE):
            return _Binding.PRODUCT
        case Minus():
            return _Binding.SIGN
    return _Binding.ATOM


def _within(expression: Expression, binding: _Binding) -> str:
    text = write(expression)
    return text if _binding(expression) >= binding else f"({text})"


_LETTER: Final[Mapping[Unit, str]] = {Unit.NONE: "", Unit.SECONDS: "s", Unit.BYTES: "B"}
