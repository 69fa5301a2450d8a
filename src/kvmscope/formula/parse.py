"""Text to tree, by recursive descent. ``kvmscope.formula`` has the grammar.

Rule: any text gives a tree, or one CatalogError with the position of the character. Types are not checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, NoReturn, TypeAlias

from ..errors import CatalogError, mark
from ..schema import Unit
from .text import write
from .tree import (
    DEFAULT_PROVIDER,
    Arithmetic,
    Compare,
    Comparison,
    Either,
    Expression,
    FactTerm,
    Fold,
    Join,
    Junction,
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
    StatName,
    StatTerm,
)

Blame: TypeAlias = Callable[[int, str, str], CatalogError]
"""Makes the error for a place in the text, from the offset, the expected and the found text."""

_TOKEN = re.compile(
    r"(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?P<unit>[A-Za-z_]\w*)?"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<sign><=|>=|==|!=|[<>+\-*/(),.])",
    re.ASCII,
)
_BLANK = re.compile(r"\s*")
_UNITS: Final[Mapping[str, tuple[float, Unit]]] = {
    "ns": (1e9, Unit.SECONDS),
    "us": (1e6, Unit.SECONDS),
    "ms": (1e3, Unit.SECONDS),
    "s": (1.0, Unit.SECONDS),
    "B": (1.0, Unit.BYTES),
    "KiB": (2.0**-10, Unit.BYTES),
    "MiB": (2.0**-20, Unit.BYTES),
    "GiB": (2.0**-30, Unit.BYTES),
}
_KEYWORDS: Final = frozenset({"and", "or", "not", "unknown"})
_FUNCTIONS: Final = (
    *(reduction.value for reduction in Reduction),
    "quantile",
    "share_above",
    "share_below",
    "ratio",
    "either",
    "min2",
    "max2",
    *(fold.value for fold in Fold),
    "fact",
)
_COMPARISONS: Final = tuple(comparison.value for comparison in Comparison)
_TOKENS_MAX, _DEPTH_MAX = 300, 30


def blame_text(text: str, file: str = "formula") -> Blame:
    """Makes errors for a formula that is not in a file."""

    def blame(offset: int, expected: str, found: str) -> CatalogError:
        line = text.count("\n", 0, offset) + 1
        column = offset - text.rfind("\n", 0, offset)
        return CatalogError(
            "", file=file, line=line, column=column, expected=expected, found=found, excerpt=mark(text, offset)
        )

    return blame


def parse(text: str, blame: Blame | None = None) -> Expression:
    """The tree of a formula. Raises CatalogError, made by ``blame``, if it is not a formula; types are not checked."""
    return _Parser(text, blame or blame_text(text)).whole()


class _Token(NamedTuple):
    """A tuple rather than a dataclass, since the start of a command makes a few thousand."""

    kind: str
    text: str
    at: int
    unit: str = ""


def _tokenize(text: str, blame: Blame) -> list[_Token]:
    tokens: list[_Token] = []
    at = _skip_blank(text, 0)
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found:
            raise blame(at, "a name, a number or a sign", repr(text[at]))
        if len(tokens) == _TOKENS_MAX:
            raise blame(at, f"a formula of at most {_TOKENS_MAX} words", "more")
        kind = "number" if found["number"] else "name" if found["name"] else "sign"
        tokens.append(_Token(kind, found[kind], at, found["unit"] or ""))
        at = _skip_blank(text, found.end())
    return [*tokens, _Token("end", "", len(text.rstrip()))]


def _skip_blank(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return blank.end() if blank else at


class _Parser:
    """Recursive descent: one method per rule of the grammar."""

    def __init__(self, text: str, blame: Blame) -> None:
        self._blame = blame
        self._tokens = iter(_tokenize(text, blame))
        self._next = next(self._tokens)
        self._depth = 0

    def whole(self) -> Expression:
        expression = self._formula()
        if self._next.kind != "end":
            self._refuse("an operator or the end")
        return expression

    def _take(self) -> _Token:
        token = self._next
        self._next = next(self._tokens, token)  # the end token repeats
        return token

    def _take_if(self, *texts: str) -> _Token | None:
        token = self._next
        return self._take() if token.text in texts and token.kind in ("sign", "name") else None

    def _expect(self, sign: str) -> None:
        if not self._take_if(sign):
            self._refuse(repr(sign))

    def _refuse(self, expected: str) -> NoReturn:
        token = self._next
        raise self._blame(token.at, expected, "the end" if token.kind == "end" else repr(token.text + token.unit))

    def _formula(self) -> Expression:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            self._refuse(f"at most {_DEPTH_MAX} levels of brackets")
        left = self._conjunction()
        while token := self._take_if("or"):
            left = Join(Junction.OR, left, self._conjunction(), at=token.at)
        self._depth -= 1
        return left

    def _conjunction(self) -> Expression:
        left = self._negation()
        while token := self._take_if("and"):
            left = Join(Junction.AND, left, self._negation(), at=token.at)
        return left

    def _negation(self) -> Expression:
        token = self._take_if("not")
        operand = self._comparison()
        return Negation(operand, at=token.at) if token else operand

    def _comparison(self) -> Expression:
        left = self._sum()
        token = self._take_if(*_COMPARISONS)
        return Compare(Comparison(token.text), left, self._sum(), at=token.at) if token else left

    def _sum(self) -> Expression:
        left = self._product()
        while token := self._take_if("+", "-"):
            left = Arithmetic(Operator(token.text), left, self._product(), at=token.at)
        return left

    def _product(self) -> Expression:
        left = self._sign()
        while token := self._take_if("*", "/"):
            left = Arithmetic(Operator(token.text), left, self._sign(), at=token.at)
        return left

    def _sign(self) -> Expression:
        token = self._take_if("-")
        operand = self._atom()
        return Minus(operand, at=token.at) if token else operand

    def _atom(self) -> Expression:
        if self._take_if("("):
            inner = self._formula()
            self._expect(")")
            return inner
        if self._next.kind == "number":
            return self._number()
        if self._next.kind != "name" or self._next.text in _KEYWORDS:
            self._refuse("a number, a metric, a function or '('")
        token = self._take()
        if self._next.text != "(":
            return Reference(token.text, at=token.at)
        return self._call(token)

    def _call(self, token: _Token) -> Expression:
        if token.text not in _FUNCTIONS:
            raise self._blame(token.at, f"a function ({', '.join(_FUNCTIONS)})", repr(token.text))
        self._expect("(")
        call = self._arguments(token)
        self._expect(")")
        return call

    def _arguments(self, token: _Token) -> Expression:
        match token.text:
            case "quantile":
                return self._quantile(token)
            case "share_above" | "share_below":
                return self._share(token)
            case "ratio":
                return self._ratio(token)
            case "either":
                return self._either(token)
            case "min2" | "max2":
                return self._extreme(token)
            case "fact":
                return FactTerm(self._name("the name of a fact"), at=token.at)
            case "sum" | "max" | "mean" | "count":
                return OverVcpus(Fold(token.text), self._formula(), at=token.at)
        return StatTerm(Reduction(token.text), self._stat_name(), at=token.at)

    def _number(self) -> Number:
        if self._next.kind != "number":
            self._refuse("a number")
        token = self._take()
        factor, unit = _UNITS.get(token.unit, (1.0, Unit.NONE))
        if token.unit and unit is Unit.NONE:
            raise self._blame(token.at + len(token.text), f"a unit ({', '.join(_UNITS)})", repr(token.unit))
        value = float(token.text) / factor
        if value == float("inf"):
            raise self._blame(token.at, "a number below 1.8e308", token.text)
        return Number(value, unit, at=token.at)

    def _name(self, what: str) -> str:
        if self._next.kind != "name" or self._next.text in _KEYWORDS:
            self._refuse(what)
        return self._take().text

    def _stat_name(self) -> StatName:
        first = self._name("a stat")
        return StatName(first, self._name("a stat")) if self._take_if(".") else StatName(DEFAULT_PROVIDER, first)

    def _quantile(self, token: _Token) -> Expression:
        stat = self._stat_name()
        self._expect(",")
        q = self._number()
        if q.value > 1 or q.unit is not Unit.NONE:
            raise self._blame(q.at, "a number from 0 to 1", write(q))
        return QuantileTerm(stat, q.value, at=token.at)

    def _share(self, token: _Token) -> Expression:
        stat = self._stat_name()
        self._expect(",")
        return ShareTerm(stat, self._number(), token.text == "share_above", at=token.at)

    def _ratio(self, token: _Token) -> Expression:
        left = self._formula()
        self._expect(",")
        right = self._formula()
        self._expect(",")
        if self._take_if("unknown"):
            return Ratio(left, right, None, at=token.at)
        sign = -1.0 if self._take_if("-") else 1.0
        if self._next.kind != "number":
            self._refuse("what the ratio is where its second part is 0: a number or 'unknown'")
        return Ratio(left, right, sign * self._bare_number(), at=token.at)

    def _bare_number(self) -> float:
        number = self._number()
        if number.unit is not Unit.NONE:
            raise self._blame(number.at, "a number without a unit", write(number))
        return number.value

    def _either(self, token: _Token) -> Expression:
        options = [self._formula()]
        while self._take_if(","):
            options.append(self._formula())
        return Either(tuple(options), at=token.at)

    def _extreme(self, token: _Token) -> Expression:
        left = self._formula()
        self._expect(",")
        return Arithmetic(Operator(token.text), left, self._formula(), at=token.at)
