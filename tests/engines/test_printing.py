"""The relational form as text of both engines: what they take a literal, an alias and a function for."""

from __future__ import annotations

import pytest

pytest.importorskip("sqlglot", reason="sqlglot is not installed: make setup")

from kvmscope.engines.printing import print_query
from kvmscope.engines.refusal import QueryEngine
from kvmscope.engines.relational import (
    Function,
    Literal,
    NamedScalar,
    Null,
    OneOf,
    Query,
    Ref,
    RelationSource,
    Scalar,
    Select,
    apply,
    when,
)

BOTH = (QueryEngine.DUCKDB, QueryEngine.CLICKHOUSE)


def printed(scalar: Scalar, engine: QueryEngine) -> str:
    """The text of a scalar that is selected."""
    text = print_query(Query((), Select((NamedScalar("x", scalar),), RelationSource("t", "t"))), engine)
    return text.removeprefix("SELECT ").partition(' AS "x"')[0]


@pytest.mark.parametrize("engine", BOTH)
def test_a_float_has_an_exponent_since_without_one_it_is_a_decimal(engine: QueryEngine) -> None:
    assert printed(Literal(0.05), engine) == "0.05e0"
    assert printed(Literal(1e300), engine) == "1e+300"
    assert printed(Literal(-2.0), engine) == "(-2.0e0)"
    assert printed(Literal(3), engine) == "3"


@pytest.mark.parametrize("engine", BOTH)
def test_texts_and_names_are_quoted(engine: QueryEngine) -> None:
    assert printed(Literal("it's"), engine) == "'it''s'"
    assert printed(Ref('a"b', "t"), engine) == '"t"."a""b"'


@pytest.mark.parametrize("engine", BOTH)
def test_what_is_one_of_no_texts_is_never_true(engine: QueryEngine) -> None:
    assert printed(OneOf(Ref("a"), ()), engine) == "0 = 1"


@pytest.mark.parametrize("engine", BOTH)
def test_each_operation_stands_in_parentheses(engine: QueryEngine) -> None:
    added = apply(Function.ADD, Ref("a"), Ref("b"))
    assert printed(apply(Function.DIVIDE, added, Ref("c")), engine) == '(("a" + "b") / "c")'


def test_each_engine_has_its_own_words() -> None:
    whole = apply(Function.WHOLE_DIVIDE, Ref("a"), Literal(2))
    assert [printed(whole, engine) for engine in BOTH] == ['("a" // 2)', 'intDiv("a", 2)']
    assert [printed(Null(), engine) for engine in BOTH] == ["CAST(NULL AS DOUBLE)", "CAST(NULL AS Nullable(Float64))"]
    signed = printed(apply(Function.SIGNED, Ref("a")), QueryEngine.CLICKHOUSE)
    assert signed == 'toInt64("a")'


def test_a_case_without_a_default_has_none() -> None:
    case = when(apply(Function.IS_NULL, Ref("a")), Literal(1))
    assert printed(case, QueryEngine.DUCKDB) == 'CASE WHEN ("a" IS NULL) THEN 1 END'
