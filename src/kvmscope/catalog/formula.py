"""The language of formulas, in which metrics and findings are written: text to a typed tree.

Not here: what a formula comes to (``analysis.formula``). The tree is pure data, to be turned into anything.

    formula     = conjunction { "or" conjunction }
    conjunction = negation { "and" negation }
    negation    = [ "not" ] comparison
    comparison  = sum [ ( "<" | "<=" | ">" | ">=" | "==" | "!=" ) sum ]
    sum         = product { ( "+" | "-" ) product }
    product     = sign { ( "*" | "/" ) sign }
    sign        = [ "-" ] atom
    atom        = number | "(" formula ")" | name | call
    call        = ( "rate" | "delta" | "value" | "seconds" ) "(" stat ")"
                | "quantile" "(" stat "," number ")"
                | ( "share_above" | "share_below" ) "(" stat "," number ")"
                | "ratio" "(" formula "," formula "," ( "unknown" | [ "-" ] number ) ")"
                | ( "min2" | "max2" ) "(" formula "," formula ")"
                | "either" "(" formula { "," formula } ")"
                | ( "sum" | "max" | "mean" | "count" ) "(" formula ")"
                | "fact" "(" name ")"
    stat        = [ name "." ] name
    number      = digits [ "." digits ] [ "e" [ "+" | "-" ] digits ] [ unit ]
    unit        = "ns" | "us" | "ms" | "s" | "B" | "KiB" | "MiB" | "GiB"

A bare ``name`` is a metric; a stat without a provider is one of ``kvm``.

Rule: whatever is wrong is one CatalogError that names the character. A number without a unit goes with anything in sums
and comparisons, and is a bare factor in products. Dimensions are checked where every stat is catalogued; a stat that no
catalogue knows is taken for whatever is asked of it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NamedTuple, NoReturn, Protocol, TypeAlias

from ..errors import CatalogError
from ..schema import Kind, Scope, Unit, Unknown
from .tomlfile import Entry, mark

DEFAULT_PROVIDER: Final = "kvm"

# --- the tree ---------------------------------------------------------------------------------------------------------


class How(Enum):
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
class _Node:
    """``at``: the character of the text at which it begins."""

    at: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Number(_Node):
    """A literal, not negative, in base units; ``unit`` is NONE for a bare number."""

    value: float
    unit: Unit = Unit.NONE

    def __str__(self) -> str:
        whole = self.value.is_integer() and self.value < 2**53
        return f"{int(self.value) if whole else self.value!r}{_LETTER[self.unit]}"


@dataclass(frozen=True, slots=True)
class Stat(_Node):
    """``rate(exits)``"""

    how: How
    stat: StatName

    def __str__(self) -> str:
        return f"{self.how.value}({self.stat})"


@dataclass(frozen=True, slots=True)
class Quantile(_Node):
    """``quantile(halt_wait_hist, 0.99)`` of what was added in the window: the estimate."""

    stat: StatName
    q: float

    def __str__(self) -> str:
        return f"quantile({self.stat}, {Number(self.q)})"


@dataclass(frozen=True, slots=True)
class Share(_Node):
    """``share_above(halt_wait_hist, 1ms)``: the share of what the window added on one side of a bound."""

    stat: StatName
    bound: Number
    is_above: bool

    def __str__(self) -> str:
        return f"share_{'above' if self.is_above else 'below'}({self.stat}, {self.bound})"


@dataclass(frozen=True, slots=True)
class Fact(_Node):
    """``fact(name)``: something that no stat tells; whoever evaluates the formula brings it."""

    name: str

    def __str__(self) -> str:
        return f"fact({self.name})"


@dataclass(frozen=True, slots=True)
class Reference(_Node):
    """Another metric, by its name."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Minus(_Node):
    """``-x``"""

    operand: Expression

    def __str__(self) -> str:
        return f"-{_within(self.operand, _Level.ATOM)}"


@dataclass(frozen=True, slots=True)
class Arithmetic(_Node):
    """``a + b``, ``min2(a, b)``; what is divided by is a constant and not 0."""

    operator: Operator
    left: Expression
    right: Expression

    def __str__(self) -> str:
        if self.operator in (Operator.MIN, Operator.MAX):
            return f"{self.operator.value}({self.left}, {self.right})"
        level = _level(self)
        return f"{_within(self.left, level)} {self.operator.value} {_within(self.right, _Level(level + 1))}"


@dataclass(frozen=True, slots=True)
class Ratio(_Node):
    """``ratio(a, b, zero)``: a / b, or ``zero`` where b is 0; None if that is unknown."""

    left: Expression
    right: Expression
    zero: float | None

    def __str__(self) -> str:
        zero = "unknown" if self.zero is None else f"{'-' if self.zero < 0 else ''}{Number(abs(self.zero))}"
        return f"ratio({self.left}, {self.right}, {zero})"


@dataclass(frozen=True, slots=True)
class Either(_Node):
    """``either(a, b)``: the first of which the sample has all stats."""

    options: tuple[Expression, ...]

    def __str__(self) -> str:
        return f"either({', '.join(map(str, self.options))})"


@dataclass(frozen=True, slots=True)
class OverVcpus(_Node):
    """``sum(x)``: of a VM, from what ``x`` is for each of its vCPUs."""

    fold: Fold
    operand: Expression

    def __str__(self) -> str:
        return f"{self.fold.value}({self.operand})"


@dataclass(frozen=True, slots=True)
class Compare(_Node):
    """``a < b``"""

    comparison: Comparison
    left: Expression
    right: Expression

    def __str__(self) -> str:
        return f"{_within(self.left, _Level.SUM)} {self.comparison.value} {_within(self.right, _Level.SUM)}"


@dataclass(frozen=True, slots=True)
class Join(_Node):
    """``a and b``, ``a or b``"""

    junction: Junction
    left: Expression
    right: Expression

    def __str__(self) -> str:
        level = _level(self)
        return f"{_within(self.left, level)} {self.junction.value} {_within(self.right, _Level(level + 1))}"


@dataclass(frozen=True, slots=True)
class Not(_Node):
    """``not a``"""

    operand: Expression

    def __str__(self) -> str:
        return f"not {_within(self.operand, _Level.COMPARE)}"


Leaf: TypeAlias = Stat | Quantile | Share
"""What reads a stat."""

Expression: TypeAlias = (
    Number | Leaf | Fact | Reference | Minus | Arithmetic | Ratio | Either | OverVcpus | Compare | Join | Not
)


def children(expression: Expression) -> tuple[Expression, ...]:
    """The parts of which it is made."""
    match expression:
        case Arithmetic() | Ratio() | Compare() | Join():
            return (expression.left, expression.right)
        case Minus() | Not() | OverVcpus():
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


class _Level(int, Enum):
    """How closely the parts of an expression hold together, as in the grammar."""

    OR = 0
    AND = 1
    NOT = 2
    COMPARE = 3
    SUM = 4
    PRODUCT = 5
    SIGN = 6
    ATOM = 7


def _level(expression: Expression) -> _Level:
    match expression:
        case Join():
            return _Level.OR if expression.junction is Junction.OR else _Level.AND
        case Arithmetic():
            return _LEVEL_OF_OPERATOR.get(expression.operator, _Level.ATOM)
    return _LEVEL_OF_NODE.get(type(expression), _Level.ATOM)


_LEVEL_OF_OPERATOR: Final[Mapping[Operator, _Level]] = {
    Operator.ADD: _Level.SUM,
    Operator.SUBTRACT: _Level.SUM,
    Operator.MULTIPLY: _Level.PRODUCT,
    Operator.DIVIDE: _Level.PRODUCT,
}
_LEVEL_OF_NODE: Final[Mapping[type, _Level]] = {
    Not: _Level.NOT,
    Compare: _Level.COMPARE,
    Minus: _Level.SIGN,
}


def _within(expression: Expression, level: _Level) -> str:
    return str(expression) if _level(expression) >= level else f"({expression})"


_LETTER: Final[Mapping[Unit, str]] = {Unit.NONE: "", Unit.SECONDS: "s", Unit.BYTES: "B"}

# --- text to tree -----------------------------------------------------------------------------------------------------

Blame: TypeAlias = Callable[[int, str, str], CatalogError]
"""Makes the error of a place in the text: offset, what was expected there, and what was found."""

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
_TOKENS_MAX, _DEPTH_MAX = 300, 30


def blame_text(text: str, file: str = "formula") -> Blame:
    """Errors for a formula that stands in no file."""

    def blame(offset: int, expected: str, found: str) -> CatalogError:
        line = text.count("\n", 0, offset) + 1
        column = offset - text.rfind("\n", 0, offset)
        return CatalogError(
            "", file=file, line=line, column=column, expected=expected, found=found, excerpt=mark(text, offset)
        )

    return blame


def parse(text: str, blame: Blame | None = None) -> Expression:
    """The tree of a formula. Raises CatalogError, made by ``blame``, if it is none; types are not looked at."""
    return _Parser(text, blame or blame_text(text)).whole()


@dataclass(frozen=True, slots=True)
class _Token:
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
    """Recursive descent: one method a rule of the grammar."""

    def __init__(self, text: str, blame: Blame) -> None:
        self._blame = blame
        self._tokens = _tokenize(text, blame)
        self._place = 0
        self._depth = 0

    def whole(self) -> Expression:
        expression = self._formula()
        if self._next.kind != "end":
            self._refuse("an operator or the end")
        return expression

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self) -> _Token:
        token = self._next
        self._place += 1
        return token

    def _take_if(self, *texts: str) -> _Token | None:
        return self._take() if self._next.text in texts and self._next.kind in ("sign", "name") else None

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
        return Not(operand, at=token.at) if token else operand

    def _comparison(self) -> Expression:
        left = self._sum()
        token = self._take_if(*(comparison.value for comparison in Comparison))
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
        read = _CALLS.get(token.text)
        if read is None:
            raise self._blame(token.at, f"a function ({', '.join(_CALLS)})", repr(token.text))
        self._expect("(")
        call = read(self, token)
        self._expect(")")
        return call

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

    def _read_stat(self, token: _Token) -> Expression:
        return Stat(How(token.text), self._stat_name(), at=token.at)

    def _read_quantile(self, token: _Token) -> Expression:
        stat = self._stat_name()
        self._expect(",")
        q = self._number()
        if q.value > 1 or q.unit is not Unit.NONE:
            raise self._blame(q.at, "a number from 0 to 1", str(q))
        return Quantile(stat, q.value, at=token.at)

    def _read_share(self, token: _Token) -> Expression:
        stat = self._stat_name()
        self._expect(",")
        return Share(stat, self._number(), token.text == "share_above", at=token.at)

    def _read_ratio(self, token: _Token) -> Expression:
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
            raise self._blame(number.at, "a number without a unit", str(number))
        return number.value

    def _read_either(self, token: _Token) -> Expression:
        options = [self._formula()]
        while self._take_if(","):
            options.append(self._formula())
        return Either(tuple(options), at=token.at)

    def _read_extreme(self, token: _Token) -> Expression:
        left = self._formula()
        self._expect(",")
        return Arithmetic(Operator(token.text), left, self._formula(), at=token.at)

    def _read_over(self, token: _Token) -> Expression:
        return OverVcpus(Fold(token.text), self._formula(), at=token.at)

    def _read_fact(self, token: _Token) -> Expression:
        return Fact(self._name("the name of a fact"), at=token.at)


_Reader: TypeAlias = Callable[[_Parser, _Token], Expression]
_CALLS: Final[Mapping[str, _Reader]] = {
    **{how.value: _Parser._read_stat for how in How},
    "quantile": _Parser._read_quantile,
    "share_above": _Parser._read_share,
    "share_below": _Parser._read_share,
    "ratio": _Parser._read_ratio,
    "either": _Parser._read_either,
    **{operator.value: _Parser._read_extreme for operator in (Operator.MIN, Operator.MAX)},
    **{fold.value: _Parser._read_over for fold in Fold},
    "fact": _Parser._read_fact,
}

# --- types ------------------------------------------------------------------------------------------------------------


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
    """A condition, or a number of a dimension; ``dimension`` None: one that cannot be told."""

    is_condition: bool = False
    dimension: Dimension | None = None

    def __str__(self) -> str:
        return "a condition" if self.is_condition else f"a number ({self.dimension or 'of any unit'})"


CONDITION: Final = Type(is_condition=True)


class StatShape(Protocol):
    """What the catalogue says of a stat."""

    @property
    def kind(self) -> Kind | Unknown: ...
    @property
    def unit(self) -> Unit | Unknown: ...


Lookup: TypeAlias = Callable[[str, Scope, str], StatShape | None]
"""The catalogue of stats by provider, scope and name; None for a stat that it has not got."""


def no_stats(provider: str, scope: Scope, name: str) -> StatShape | None:
    """A catalogue without stats."""
    del provider, scope, name
    return None


@dataclass(frozen=True, slots=True)
class Context:
    """What names in a formula may stand for: stats, metrics with their scopes, facts of a scope."""

    stats: Lookup = no_stats
    metrics: Mapping[str, tuple[Scope, Type]] = field(default_factory=dict)
    facts: Mapping[tuple[Scope, str], Type] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula that was checked: its tree, what it is of, and what it comes to."""

    expression: Expression
    scope: Scope
    type: Type

    def __str__(self) -> str:
        return str(self.expression)


def read_formula(entry: Entry, key: str, scope: Scope, context: Context) -> Formula:
    """The formula that stands under ``key``, parsed and checked; CatalogError otherwise."""
    blame = entry.blame(key)
    return check(parse(entry.string(key), blame), scope, context, blame)


def check(expression: Expression, scope: Scope, context: Context, blame: Blame) -> Formula:
    """A tree with its type. Raises CatalogError if its parts do not fit together, or a name stands for nothing."""
    return Formula(expression, scope, _Checker(context, blame).type_of(expression, scope))


class _Checker:
    def __init__(self, context: Context, blame: Blame) -> None:
        self._context = context
        self._blame = blame

    def type_of(self, expression: Expression, scope: Scope) -> Type:
        return _RULES[type(expression)](self, expression, scope)

    def _literal(self, number: Number, scope: Scope) -> Type:
        del scope
        return Type(dimension=None if number.unit is Unit.NONE else _DIMENSIONS[number.unit])

    def _stat(self, leaf: Stat, scope: Scope) -> Type:
        shape = self._shape(leaf, scope)
        if shape is None:
            return Type(dimension=Dimension() if leaf.how is How.SECONDS else None)
        dimension = _DIMENSIONS.get(shape.unit) if isinstance(shape.unit, Unit) else None
        if isinstance(shape.kind, Kind):
            self._check_kind(leaf, shape.kind)
        if leaf.how is How.SECONDS and shape.unit is not Unit.SECONDS:
            raise self._blame(leaf.at, "a stat that counts time", f"{leaf.stat}, which does not")
        if leaf.how is How.RATE and shape.unit is Unit.SECONDS and shape.kind is Kind.CUMULATIVE:
            raise self._blame(leaf.at, f"seconds({leaf.stat}), since it counts time", str(leaf))
        if isinstance(shape.kind, Kind) and shape.kind.is_histogram:
            dimension = Dimension()
        if dimension and leaf.how in (How.RATE, How.SECONDS):
            dimension = dimension.times(_DIMENSIONS[Unit.SECONDS], -1)
        return Type(dimension=dimension)

    def _check_kind(self, leaf: Stat, kind: Kind) -> None:
        if kind.is_histogram and leaf.how in (How.VALUE, How.SECONDS):
            raise self._blame(leaf.at, "a stat of one value", f"{leaf.stat}, a histogram")
        if leaf.how is not How.VALUE and kind in (Kind.INSTANT, Kind.PEAK):
            raise self._blame(leaf.at, f"a cumulative stat, or value({leaf.stat})", f"{leaf.stat}, {_KINDS[kind]}")

    def _histogram(self, leaf: Quantile | Share, scope: Scope) -> Type:
        shape = self._shape(leaf, scope)
        dimension = _DIMENSIONS.get(shape.unit) if shape and isinstance(shape.unit, Unit) else None
        if shape and isinstance(shape.kind, Kind) and not shape.kind.is_histogram:
            raise self._blame(leaf.at, "a histogram", f"{leaf.stat}, {_KINDS[shape.kind]}")
        if isinstance(leaf, Quantile):
            return Type(dimension=dimension)
        bound = self.type_of(leaf.bound, scope)
        if bound.dimension and dimension and bound.dimension != dimension:
            raise self._blame(leaf.bound.at, f"a bound in {dimension}", f"one in {bound.dimension}")
        return Type(dimension=Dimension())

    def _shape(self, leaf: Leaf, scope: Scope) -> StatShape | None:
        shape = self._context.stats(leaf.stat.provider, scope, leaf.stat.name)
        other = Scope.VM if scope is Scope.VCPU else Scope.VCPU
        if shape is None and self._context.stats(leaf.stat.provider, other, leaf.stat.name):
            hint = ", or sum(…), max(…), mean(…)" if scope is Scope.VM and isinstance(leaf, Stat) else ""
            raise self._blame(leaf.at, f"a stat of {_SUBJECTS[scope]}{hint}", f"{leaf.stat}, one of {_SUBJECTS[other]}")
        return shape

    def _fact(self, fact: Fact, scope: Scope) -> Type:
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

    def _minus(self, node: Minus, scope: Scope) -> Type:
        return self._number(node.operand, scope)

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

    def _join(self, node: Join, scope: Scope) -> Type:
        self._condition(node.left, scope)
        return self._condition(node.right, scope)

    def _not(self, node: Not, scope: Scope) -> Type:
        return self._condition(node.operand, scope)

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


_Rule: TypeAlias = Callable[[_Checker, Any, Scope], Type]
_RULES: Final[Mapping[type, _Rule]] = {
    Number: _Checker._literal,
    Stat: _Checker._stat,
    Quantile: _Checker._histogram,
    Share: _Checker._histogram,
    Fact: _Checker._fact,
    Reference: _Checker._reference,
    Minus: _Checker._minus,
    Arithmetic: _Checker._arithmetic,
    Ratio: _Checker._ratio,
    Either: _Checker._either,
    OverVcpus: _Checker._over,
    Compare: _Checker._compare,
    Join: _Checker._join,
    Not: _Checker._not,
}


def constant(expression: Expression) -> float | None:
    """What an expression of literals comes to; None if there is more to it, or a division by 0."""
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
    """In a product a bare constant is without a dimension, not of any."""
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
