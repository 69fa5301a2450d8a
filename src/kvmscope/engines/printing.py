"""The relational form as SQL for DuckDB and ClickHouse, printed from sqlglot's expression objects.

Objects are printed; text is never translated: sqlglot does the quoting and nesting, and this module chooses each
engine's functions.
Sources: DuckDB 1.4 to 2.0 (a literal without an exponent is a DECIMAL; UBIGINT arithmetic raises on overflow);
ClickHouse 25 and 26 (joins fill missing columns with 0 unless ``join_use_nulls``; an alias hides a column unless
``prefer_column_name_to_alias``; integer arithmetic wraps).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from .refusal import QueryEngine
from .relational import (
    Aggregate,
    Aggregation,
    Apply,
    Branching,
    Function,
    Joined,
    Literal,
    Named,
    NamedScalar,
    Null,
    OneOf,
    Query,
    Ref,
    Relation,
    RelationSource,
    Scalar,
    Select,
    UnionAll,
)

DIALECTS: Final = {QueryEngine.DUCKDB: "duckdb", QueryEngine.CLICKHOUSE: "clickhouse"}
CLICKHOUSE_SESSION: Final[Mapping[str, int]] = {
    "max_query_size": 2**24,
    "max_ast_elements": 10**6,
    "max_expanded_ast_elements": 10**7,
}
"""Settings that a session needs before its first query: the query of all rules is longer than the default limit."""
_SETTINGS: Final = " SETTINGS join_use_nulls = 1, prefer_column_name_to_alias = 1"


def print_query(query: Query, engine: QueryEngine, *, pretty: bool = False) -> str:
    """The text of a query. Raises KeyError for an engine without SQL."""
    text: str = _SqlPrinter(engine).query(query).sql(dialect=DIALECTS[engine], pretty=pretty, copy=False)
    return text + _SETTINGS if engine is QueryEngine.CLICKHOUSE else text


class _SqlPrinter:
    """Makes expression objects of the relational form."""

    def __init__(self, engine: QueryEngine) -> None:
        from sqlglot import exp

        self._exp: Any = exp
        self._is_duckdb = engine is QueryEngine.DUCKDB

    def query(self, query: Query) -> Any:
        whole = self._relation(query.answer)
        if query.steps:
            steps = [self._step(step) for step in query.steps]
            whole.set("with_", self._exp.With(expressions=steps))
        return whole

    def _step(self, step: Named) -> Any:
        return self._exp.CTE(this=self._relation(step.relation), alias=self._exp.TableAlias(this=self._name(step.name)))

    def _relation(self, relation: Relation) -> Any:
        if isinstance(relation, UnionAll):
            whole = self._select(relation.selects[0])
            for select in relation.selects[1:]:
                whole = self._exp.Union(this=whole, expression=self._select(select), distinct=False)
            return whole
        return self._select(relation)

    def _select(self, select: Select) -> Any:
        """Clauses are set directly, since the builder's methods parse and copy their arguments."""
        columns = [self._column(column) for column in select.columns]
        if select.source is None:
            return self._exp.Select(expressions=columns)
        if select.keeps_columns:
            columns.insert(0, self._exp.Column(this=self._exp.Star(), table=self._name(select.source.alias)))
        made = self._exp.Select(expressions=columns, from_=self._exp.From(this=self._source(select.source)))
        if select.joins:
            made.set("joins", [self._join(join) for join in select.joins])
        if select.where is not None:
            made.set("where", self._exp.Where(this=self._scalar(select.where)))
        if select.group_by:
            made.set("group", self._exp.Group(expressions=[self._scalar(key) for key in select.group_by]))
        if select.having is not None:
            made.set("having", self._exp.Having(this=self._scalar(select.having)))
        return made

    def _join(self, join: Joined) -> Any:
        source = self._source(join.source)
        if join.on is None:
            return self._exp.Join(this=source, kind="CROSS")
        side = {"side": "LEFT"} if join.keeps_all else {"kind": "INNER"}
        return self._exp.Join(this=source, on=self._scalar(join.on), **side)

    def _source(self, source: RelationSource) -> Any:
        schema = self._name(source.schema) if source.schema else None
        alias = self._exp.TableAlias(this=self._name(source.alias))
        return self._exp.Table(this=self._name(source.name), db=schema, alias=alias)

    def _column(self, column: NamedScalar) -> Any:
        return self._exp.Alias(this=self._scalar(column.scalar), alias=self._name(column.name))

    def _name(self, name: str) -> Any:
        return self._exp.Identifier(this=name, quoted=True)

    def _scalar(self, scalar: Scalar) -> Any:
        match scalar:
            case Ref():
                table = self._name(scalar.of) if scalar.of else None
                return self._exp.Column(this=self._name(scalar.name), table=table)
            case Literal():
                return self._literal(scalar.value)
            case Null():
                return self._cast(self._exp.Null(), "BOOLEAN" if scalar.is_condition else "DOUBLE")
            case Apply():
                return self._apply(scalar.function, [self._scalar(argument) for argument in scalar.arguments])
            case Branching():
                branches = [
                    self._exp.If(this=self._scalar(condition), true=self._scalar(value))
                    for condition, value in scalar.branches
                ]
                default = None if scalar.otherwise is None else self._scalar(scalar.otherwise)
                return self._exp.Case(ifs=branches, default=default)
            case OneOf():
                return self._one_of(scalar)
            case Aggregate():
                return self._aggregate(scalar)

    def _one_of(self, scalar: OneOf) -> Any:
        if not scalar.texts:
            return self._exp.EQ(this=self._exp.Literal.number(0), expression=self._exp.Literal.number(1))
        texts = [self._exp.Literal.string(text) for text in scalar.texts]
        return self._exp.Paren(this=self._exp.In(this=self._scalar(scalar.text), expressions=texts))

    def _literal(self, value: float | str) -> Any:
        if isinstance(value, str):
            return self._exp.Literal.string(value)
        if isinstance(value, int):
            return self._exp.Literal.number(value)
        if value < 0:
            return self._exp.Paren(this=self._exp.Neg(this=self._literal(-value)))
        text = repr(value)
        return self._exp.Literal.number(text if "e" in text else f"{text}e0")  # an exponent makes it a double

    def _apply(self, function: Function, parts: list[Any]) -> Any:
        name = _OPERATORS.get(function)
        if name is not None:
            return self._exp.Paren(this=getattr(self._exp, name)(this=parts[0], expression=parts[1]))
        return _SPELLINGS[function](self, parts)

    def negate(self, parts: list[Any]) -> Any:
        return self._exp.Paren(this=self._exp.Neg(this=parts[0]))

    def not_(self, parts: list[Any]) -> Any:
        return self._exp.Paren(this=self._exp.Not(this=self._exp.Paren(this=parts[0])))

    def is_null(self, parts: list[Any]) -> Any:
        return self._exp.Paren(this=self._exp.Is(this=parts[0], expression=self._exp.Null()))

    def coalesce(self, parts: list[Any]) -> Any:
        return self._exp.Coalesce(this=parts[0], expressions=parts[1:])

    def power(self, parts: list[Any]) -> Any:
        return self._call("pow", *parts)

    def is_finite(self, parts: list[Any]) -> Any:
        return self._call("isfinite" if self._is_duckdb else "isFinite", *parts)

    def to_double(self, parts: list[Any]) -> Any:
        return self._cast(parts[0], "DOUBLE") if self._is_duckdb else self._call("toFloat64", *parts)

    def to_integer(self, parts: list[Any]) -> Any:
        return self._cast(parts[0], "BIGINT") if self._is_duckdb else self._call("toInt64", *parts)

    def whole_divide(self, parts: list[Any]) -> Any:
        if self._is_duckdb:
            return self._exp.Paren(this=self._exp.IntDiv(this=parts[0], expression=parts[1]))
        return self._call("intDiv", *parts)

    def signed(self, parts: list[Any]) -> Any:
        """DuckDB raises where a cast does not fit; ClickHouse's wraps."""
        if not self._is_duckdb:
            return self._call("toInt64", *parts)
        wide = self._cast(parts[0], "INT128")
        below_zero = self._exp.Sub(this=wide, expression=self._exp.Literal.number(2**64))
        is_negative = self._exp.GTE(this=parts[0].copy(), expression=self._exp.Literal.number(2**63))
        return self._exp.Case(ifs=[self._exp.If(this=is_negative, true=below_zero)], default=wide.copy())

    def bit(self, parts: list[Any]) -> Any:
        if not self._is_duckdb:
            return self._call("bitTest", *parts)
        shifted = self._exp.Paren(this=self._exp.BitwiseRightShift(this=parts[0], expression=parts[1]))
        return self._exp.Paren(this=self._exp.BitwiseAnd(this=shifted, expression=self._exp.Literal.number(1)))

    def epoch_ns(self, parts: list[Any]) -> Any:
        if self._is_duckdb:
            return self._call("epoch_ns", *parts)
        fine = self._call("toDateTime64", *parts, self._exp.Literal.number(9))
        return self._call("toUnixTimestamp64Nano", fine)

    def join_texts(self, parts: list[Any]) -> Any:
        blank = self._exp.Literal.string(" ")
        return self._call("array_to_string" if self._is_duckdb else "arrayStringConcat", *parts, blank)

    def _aggregate(self, aggregate: Aggregate) -> Any:
        argument = self._exp.Star() if aggregate.argument is None else self._scalar(aggregate.argument)
        made = getattr(self._exp, _AGGREGATIONS[aggregate.aggregation])(this=argument)
        if aggregate.over is None:
            return made
        partition = [self._scalar(key) for key in aggregate.over.partition]
        if not aggregate.over.order:
            return self._exp.Window(this=made, partition_by=partition)
        order = [self._exp.Ordered(this=self._scalar(key)) for key in aggregate.over.order]
        spec = self._exp.WindowSpec(kind="ROWS", start="UNBOUNDED", start_side="PRECEDING", end="CURRENT ROW")
        return self._exp.Window(this=made, partition_by=partition, order=self._exp.Order(expressions=order), spec=spec)

    def _cast(self, value: Any, kind: str) -> Any:
        return self._exp.Cast(this=value, to=self._exp.DataType(this=self._exp.DataType.Type[kind], nested=False))

    def _call(self, name: str, *parts: Any) -> Any:
        return self._exp.Anonymous(this=name, expressions=list(parts))


_OPERATORS: Final[Mapping[Function, str]] = {
    Function.ADD: "Add",
    Function.SUBTRACT: "Sub",
    Function.MULTIPLY: "Mul",
    Function.DIVIDE: "Div",
    Function.REMAINDER: "Mod",
    Function.LESS: "LT",
    Function.LESS_OR_EQUAL: "LTE",
    Function.MORE: "GT",
    Function.MORE_OR_EQUAL: "GTE",
    Function.EQUAL: "EQ",
    Function.NOT_EQUAL: "NEQ",
    Function.AND: "And",
    Function.OR: "Or",
}
_SPELLINGS: Final[Mapping[Function, Callable[[_SqlPrinter, list[Any]], Any]]] = {
    Function.NEGATE: _SqlPrinter.negate,
    Function.NOT: _SqlPrinter.not_,
    Function.IS_NULL: _SqlPrinter.is_null,
    Function.COALESCE: _SqlPrinter.coalesce,
    Function.POWER: _SqlPrinter.power,
    Function.IS_FINITE: _SqlPrinter.is_finite,
    Function.TO_DOUBLE: _SqlPrinter.to_double,
    Function.TO_INTEGER: _SqlPrinter.to_integer,
    Function.WHOLE_DIVIDE: _SqlPrinter.whole_divide,
    Function.SIGNED: _SqlPrinter.signed,
    Function.BIT: _SqlPrinter.bit,
    Function.EPOCH_NS: _SqlPrinter.epoch_ns,
    Function.JOIN_TEXTS: _SqlPrinter.join_texts,
}
_AGGREGATIONS: Final[Mapping[Aggregation, str]] = {
    Aggregation.SUM: "Sum",
    Aggregation.MIN: "Min",
    Aggregation.MAX: "Max",
    Aggregation.MEAN: "Avg",
    Aggregation.COUNT: "Count",
}
