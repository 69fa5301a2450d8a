"""The language of formulas: what parses, what it is printed as, and what is refused where."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmscope.catalog.formula import (
    CONDITION,
    Arithmetic,
    Compare,
    Comparison,
    Context,
    Dimension,
    Either,
    Expression,
    Fact,
    Fold,
    Formula,
    How,
    Join,
    Junction,
    Minus,
    Not,
    Number,
    Operator,
    OverVcpus,
    Quantile,
    Ratio,
    Reference,
    Share,
    Stat,
    StatName,
    Type,
    blame_text,
    check,
    constant,
    parse,
    read_formula,
    walk,
)
from kvmscope.catalog.tomlfile import read_tables
from kvmscope.errors import CatalogError
from kvmscope.schema import Kind, Scope, Unit

EXITS = Stat(How.RATE, StatName("kvm", "exits"))


@dataclass(frozen=True)
class Shape:
    kind: Kind
    unit: Unit = Unit.NONE


STATS = {
    (Scope.VCPU, "exits"): Shape(Kind.CUMULATIVE),
    (Scope.VCPU, "halts"): Shape(Kind.CUMULATIVE),
    (Scope.VCPU, "poll_ns"): Shape(Kind.CUMULATIVE, Unit.SECONDS),
    (Scope.VCPU, "wait_hist"): Shape(Kind.LOG_HISTOGRAM, Unit.SECONDS),
    (Scope.VCPU, "blocking"): Shape(Kind.INSTANT, Unit.BOOLEAN),
    (Scope.VCPU, "written"): Shape(Kind.CUMULATIVE, Unit.BYTES),
    (Scope.VM, "flushes"): Shape(Kind.CUMULATIVE),
    (Scope.VM, "longest"): Shape(Kind.PEAK),
}
CONTEXT = Context(
    stats=lambda provider, scope, name: STATS.get((scope, name)) if provider == "kvm" else None,
    metrics={
        "exits_per_s": (Scope.VCPU, Type(dimension=Dimension(seconds=-1))),
        "flushes_per_s": (Scope.VM, Type(dimension=Dimension(seconds=-1))),
    },
    facts={(Scope.VCPU, "never_ran"): CONDITION, (Scope.VM, "age"): Type(dimension=Dimension(seconds=1))},
)


def checked(text: str, scope: Scope = Scope.VCPU) -> Formula:
    return check(parse(text), scope, CONTEXT, blame_text(text))


# --- text to tree -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("rate(exits)", EXITS),
        ("delta( apicv.flips )", Stat(How.DELTA, StatName("apicv", "flips"))),
        ("quantile(wait_hist, 0.99)", Quantile(StatName("kvm", "wait_hist"), 0.99)),
        ("share_above(h, 500us)", Share(StatName("kvm", "h"), Number(0.0005, Unit.SECONDS), is_above=True)),
        ("share_below(h, 4KiB)", Share(StatName("kvm", "h"), Number(4096, Unit.BYTES), is_above=False)),
        ("ratio(rate(exits), 2, unknown)", Ratio(EXITS, Number(2), None)),
        ("ratio(rate(exits), 2, -1e-3)", Ratio(EXITS, Number(2), -0.001)),
        ("either(rate(exits), a)", Either((EXITS, Reference("a")))),
        ("count(fact(idle))", OverVcpus(Fold.COUNT, Fact("idle"))),
        ("min2(a, -b)", Arithmetic(Operator.MIN, Reference("a"), Minus(Reference("b")))),
        (
            "1 + 2 * 3",
            Arithmetic(Operator.ADD, Number(1), Arithmetic(Operator.MULTIPLY, Number(2), Number(3))),
        ),
        (
            "8 - 4 - 2",
            Arithmetic(Operator.SUBTRACT, Arithmetic(Operator.SUBTRACT, Number(8), Number(4)), Number(2)),
        ),
        (
            "not a < 1 and b == 2 or fact(c)",
            Join(
                Junction.OR,
                Join(
                    Junction.AND,
                    Not(Compare(Comparison.LESS, Reference("a"), Number(1))),
                    Compare(Comparison.EQUAL, Reference("b"), Number(2)),
                ),
                Fact("c"),
            ),
        ),
        ("rate", Reference("rate")),
    ],
)
def test_a_formula_becomes_a_tree(text: str, tree: Expression) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 1, r"expected a number, a metric, a function or '\(', found the end"),
        ("  ", 1, "found the end"),
        ("rate(exits", 11, r"expected '\)', found the end"),
        ("rate()", 6, r"expected a stat, found '\)'"),
        ("rate(a.)", 8, r"expected a stat, found '\)'"),
        ("rate(exits) rate(x)", 13, "expected an operator or the end, found 'rate'"),
        ("a <", 4, "found the end"),
        ("a < b < c", 7, "expected an operator or the end, found '<'"),
        ("a == not b", 6, "found 'not'"),
        ("not not a", 5, "found 'not'"),
        ("--a", 2, "found '-'"),
        ("a + \n  * b", 3, r"found '\*'"),
        ("5 parsecs", 3, "expected an operator or the end, found 'parsecs'"),
        ("5parsecs", 2, r"expected a unit \(ns, us, ms, s, B, KiB, MiB, GiB\), found 'parsecs'"),
        ("1.", 2, "expected an operator or the end, found '.'"),
        ("1e999", 1, "expected a number below"),
        ("a $ b", 3, r"expected a name, a number or a sign, found '\$'"),
        ("speed(exits)", 1, r"expected a function \(rate, delta, .* fact\), found 'speed'"),
        ("quantile(h, 1.5)", 13, "expected a number from 0 to 1, found 1.5"),
        ("quantile(h, 1s)", 13, "expected a number from 0 to 1, found 1s"),
        ("quantile(h, a)", 13, "expected a number, found 'a'"),
        ("ratio(a, b)", 11, r"expected ',', found '\)'"),
        ("ratio(a, b, c)", 13, "what the ratio is where its second part is 0: a number or 'unknown', found 'c'"),
        ("ratio(a, b, 1s)", 13, "expected a number without a unit, found 1s"),
        ("either()", 8, r"found '\)'"),
        ("fact(1)", 6, "expected the name of a fact, found '1'"),
        ("unknown", 1, "found 'unknown'"),
        ("(" * 60, 31, "expected at most 30 levels of brackets"),
        ("1" + "+1" * 500, 301, "expected a formula of at most 300 words"),
    ],
)
def test_what_is_no_formula_is_refused_at_its_place(text: str, column: int, message: str) -> None:
    with pytest.raises(CatalogError, match=message) as raised:
        parse(text)
    assert raised.value.column == column
    assert raised.value.line == 1 + text.count("\n")
    assert raised.value.excerpt.endswith("^")


def test_in_a_file_the_place_is_that_of_the_file() -> None:
    [entry] = read_tables('\n[[metric]]\nname = "m"\nformula = "rate(exits) + halts)"\n', "metrics.toml", "metric")
    with pytest.raises(CatalogError) as raised:
        read_formula(entry, "formula", Scope.VCPU, CONTEXT)
    assert str(raised.value) == (
        "metrics.toml:4:31: metric m: formula: expected an operator or the end, found ')'\n"
        "    rate(exits) + halts)\n"
        "                       ^"
    )


# --- tree to text -----------------------------------------------------------------------------------------------------

_names = st.sampled_from(["exits", "halts", "num_2M_pages", "a", "rate", "unknowns"])
_stats = st.builds(StatName, st.sampled_from(["kvm", "apicv"]), _names)
_values = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
_numbers = st.builds(Number, _values, st.sampled_from([Unit.NONE, Unit.SECONDS, Unit.BYTES]))
_leaves = st.one_of(
    _numbers,
    st.builds(Stat, st.sampled_from(How), _stats),
    st.builds(Quantile, _stats, st.floats(min_value=0, max_value=1)),
    st.builds(Share, _stats, _numbers, st.booleans()),
    st.builds(Fact, _names),
    st.builds(Reference, _names),
)


def _larger(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    zeros = st.none() | st.floats(allow_nan=False, allow_infinity=False)
    return st.one_of(
        st.builds(Minus, inner),
        st.builds(Not, inner),
        st.builds(Arithmetic, st.sampled_from(Operator), inner, inner),
        st.builds(Ratio, inner, inner, zeros),
        st.builds(Either, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(OverVcpus, st.sampled_from(Fold), inner),
        st.builds(Compare, st.sampled_from(Comparison), inner, inner),
        st.builds(Join, st.sampled_from(Junction), inner, inner),
    )


expressions = st.recursive(_leaves, _larger, max_leaves=12)


@given(expressions)
def test_what_is_printed_is_read_as_the_same_tree(expression: Expression) -> None:
    assert parse(str(expression)) == expression


_words = st.sampled_from(
    "rate delta quantile ratio either sum fact unknown and or not ( ) , . + - * / < <= == 1 0.5 2e3 1ms exits a".split()
)


@settings(max_examples=300)
@given(st.one_of(st.text(max_size=60), st.lists(_words, max_size=25).map(" ".join)))
def test_any_text_is_a_formula_or_the_one_error(text: str) -> None:
    try:
        expression = parse(text)
    except CatalogError as error:
        assert error.column is not None
        return
    assert parse(str(expression)) == expression
    try:
        checked(text)
    except CatalogError as error:
        assert error.expected


def test_parts_come_with_their_scope() -> None:
    parts = walk(parse("rate(flushes) > sum(rate(exits) * 2)"), Scope.VM)
    scopes = {str(part): scope for part, scope in parts}
    assert scopes["rate(flushes)"] is Scope.VM
    assert scopes["sum(rate(exits) * 2)"] is Scope.VM
    assert scopes["rate(exits)"] is Scope.VCPU


# --- types ------------------------------------------------------------------------------------------------------------

PER_SECOND = Dimension(seconds=-1)


@pytest.mark.parametrize(
    ("text", "scope", "dimension"),
    [
        ("rate(exits)", Scope.VCPU, PER_SECOND),
        ("delta(exits) + delta(halts)", Scope.VCPU, Dimension()),
        ("delta(poll_ns)", Scope.VCPU, Dimension(seconds=1)),
        ("seconds(poll_ns)", Scope.VCPU, Dimension()),
        ("seconds(of_a_stranger)", Scope.VCPU, Dimension()),
        ("rate(of_a_stranger)", Scope.VCPU, None),
        ("rate(stranger.stat) + rate(exits)", Scope.VCPU, PER_SECOND),
        ("quantile(wait_hist, 0.5)", Scope.VCPU, Dimension(seconds=1)),
        ("share_above(wait_hist, 1ms)", Scope.VCPU, Dimension()),
        ("share_above(wait_hist, 1)", Scope.VCPU, Dimension()),
        ("value(blocking)", Scope.VCPU, Dimension()),
        ("ratio(rate(exits), rate(halts), 0)", Scope.VCPU, Dimension()),
        ("ratio(delta(poll_ns), delta(halts), unknown)", Scope.VCPU, Dimension(seconds=1)),
        ("ratio(1, rate(exits), unknown)", Scope.VCPU, Dimension(seconds=1)),
        ("rate(exits) * 2", Scope.VCPU, PER_SECOND),
        ("rate(exits) * 2s", Scope.VCPU, Dimension()),
        ("value(exits) * 4KiB", Scope.VCPU, Dimension(bytes=1)),
        ("rate(written) / (2 * 3)", Scope.VCPU, Dimension(seconds=-1, bytes=1)),
        ("max2(0, rate(exits) - 5)", Scope.VCPU, PER_SECOND),
        ("-exits_per_s", Scope.VCPU, PER_SECOND),
        ("either(rate(a_stranger), rate(exits))", Scope.VCPU, PER_SECOND),
        ("rate(flushes) + exits_per_s", Scope.VM, PER_SECOND),
        ("sum(rate(exits))", Scope.VM, PER_SECOND),
        ("max(quantile(wait_hist, 0.9))", Scope.VM, Dimension(seconds=1)),
        ("count(fact(never_ran))", Scope.VM, Dimension()),
        ("value(longest)", Scope.VM, Dimension()),
        ("fact(age)", Scope.VM, Dimension(seconds=1)),
    ],
)
def test_a_number_has_the_dimension_of_its_stats(text: str, scope: Scope, dimension: Dimension | None) -> None:
    assert checked(text, scope) == Formula(parse(text), scope, Type(dimension=dimension))


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("rate(exits) > 100", Scope.VCPU),
        ("quantile(wait_hist, 0.99) < 50us and not fact(never_ran)", Scope.VCPU),
        ("exits_per_s > 5 or flushes_per_s > 3", Scope.VM),
        ("count(exits_per_s > 5) >= 1", Scope.VM),
    ],
)
def test_conditions_are_told_from_numbers(text: str, scope: Scope) -> None:
    assert checked(text, scope).type == CONDITION


@pytest.mark.parametrize(
    ("text", "scope", "column", "message"),
    [
        ("rate(flushes)", Scope.VCPU, 1, "expected a stat of vCPUs, found flushes, one of VMs"),
        ("1 + rate(exits)", Scope.VM, 5, r"expected a stat of VMs, or sum\(…\), .*, found exits, one of vCPUs"),
        ("sum(rate(flushes))", Scope.VM, 5, "expected a stat of vCPUs"),
        ("sum(rate(exits))", Scope.VCPU, 1, r"expected a formula of one vCPU, found sum\(…\)"),
        ("sum(sum(rate(exits)))", Scope.VM, 5, "expected a formula of one vCPU"),
        ("rate(blocking)", Scope.VCPU, 1, r"expected a cumulative stat, or value\(blocking\), found blocking, an inst"),
        ("delta(longest)", Scope.VM, 1, "found longest, a peak"),
        ("value(wait_hist)", Scope.VCPU, 1, "expected a stat of one value, found wait_hist, a histogram"),
        ("quantile(exits, 0.5)", Scope.VCPU, 1, "expected a histogram, found exits, a cumulative one"),
        ("rate(poll_ns)", Scope.VCPU, 1, r"expected seconds\(poll_ns\), since it counts time"),
        ("seconds(exits)", Scope.VCPU, 1, "expected a stat that counts time, found exits, which does not"),
        ("share_above(wait_hist, 4KiB)", Scope.VCPU, 24, "expected a bound in seconds, found one in bytes"),
        ("rate(exits) + seconds(poll_ns)", Scope.VCPU, 15, r"expected a number \(number per second\), found a number"),
        ("rate(exits) > delta(exits)", Scope.VCPU, 15, "found a number"),
        ("rate(exits) / rate(halts)", Scope.VCPU, 13, r"a division by a constant that is not 0, or ratio\(a, b, zero"),
        ("rate(exits) / (1 - 1)", Scope.VCPU, 13, "expected a division by a constant that is not 0"),
        ("either(rate(exits), seconds(poll_ns))", Scope.VCPU, 21, "like the first, found a number"),
        ("either(rate(exits), fact(never_ran))", Scope.VCPU, 21, "like the first, found a condition"),
        ("(1 < 2) + 3", Scope.VCPU, 4, "expected a number, found a condition"),
        ("not rate(exits)", Scope.VCPU, 5, "expected a condition, found a number"),
        ("rate(exits) and 1 < 2", Scope.VCPU, 1, "expected a condition, found a number"),
        ("1 < 2 or rate(exits)", Scope.VCPU, 10, "expected a condition, found a number"),
        ("count(rate(exits))", Scope.VM, 7, "expected a condition, found a number"),
        ("mean(1 < 2)", Scope.VM, 8, "expected a number, found a condition"),
        ("flushes_per_s", Scope.VCPU, 1, "expected a metric of vCPUs, found flushes_per_s, one of VMs"),
        ("exitsss_per_s", Scope.VCPU, 1, "expected a metric, found 'exitsss_per_s'"),
        ("fact(age) > 1", Scope.VCPU, 1, "expected a fact of vCPUs, found 'age'"),
        ("fact(nothing)", Scope.VM, 1, "expected a fact of VMs, found 'nothing'"),
    ],
)
def test_what_does_not_fit_together_is_refused_at_its_place(text: str, scope: Scope, column: int, message: str) -> None:
    with pytest.raises(CatalogError, match=message) as raised:
        checked(text, scope)
    assert raised.value.column == column


@pytest.mark.parametrize(
    ("text", "value"),
    [("2 * (3 + 4) - -1", 15.0), ("1 / 4", 0.25), ("1 / 0", None), ("min2(1, 2) + max2(1, 2)", 3.0), ("a", None)],
)
def test_constants_are_worked_out(text: str, value: float | None) -> None:
    assert constant(parse(text)) == value
