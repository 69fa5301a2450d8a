"""Text to tree: what parses, and what is refused where."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmscope.catalog.tomlfile import read_tables
from kvmscope.errors import CatalogError
from kvmscope.formula.parse import parse
from kvmscope.formula.text import write
from kvmscope.formula.tree import (
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
from kvmscope.schema import Unit

EXITS = StatTerm(Reduction.RATE, StatName("kvm", "exits"))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("rate(exits)", EXITS),
        ("delta( apicv.flips )", StatTerm(Reduction.DELTA, StatName("apicv", "flips"))),
        ("quantile(wait_hist, 0.99)", QuantileTerm(StatName("kvm", "wait_hist"), 0.99)),
        ("share_above(h, 500us)", ShareTerm(StatName("kvm", "h"), Number(0.0005, Unit.SECONDS), is_above=True)),
        ("share_below(h, 4KiB)", ShareTerm(StatName("kvm", "h"), Number(4096, Unit.BYTES), is_above=False)),
        ("ratio(rate(exits), 2, unknown)", Ratio(EXITS, Number(2), None)),
        ("ratio(rate(exits), 2, -1e-3)", Ratio(EXITS, Number(2), -0.001)),
        ("either(rate(exits), a)", Either((EXITS, Reference("a")))),
        ("count(fact(idle))", OverVcpus(Fold.COUNT, FactTerm("idle"))),
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
                    Negation(Compare(Comparison.LESS, Reference("a"), Number(1))),
                    Compare(Comparison.EQUAL, Reference("b"), Number(2)),
                ),
                FactTerm("c"),
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
        parse(entry.string("formula"), entry.blame("formula"))
    assert str(raised.value) == (
        "metrics.toml:4:31: metric m: formula: expected an operator or the end, found ')'\n"
        "    rate(exits) + halts)\n"
        "                       ^"
    )


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
    assert parse(write(expression)) == expression
