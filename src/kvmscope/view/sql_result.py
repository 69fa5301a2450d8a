"""The result of an SQL query as a view, as lines of a table, and as CSV.

Rule: an unknown value (NULL, or a number that is not finite) is null, an empty cell, or the sign for unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from ..catalog.questions import Question
from ..engines.engine import ColumnKind, QueryResult, ResultColumn
from ..host.text import printable
from ..units import NOT_KNOWN_SIGN, rfc3339
from .csv_line import csv_line
from .text import columns, counted
from .values import Answer, Moment

SqlItem: TypeAlias = bool | int | float | str | None
SqlValue: TypeAlias = bool | int | float | str | Moment | Sequence[SqlItem] | None

_LONGEST_CELL = 60


@dataclass(frozen=True, slots=True)
class SqlColumn:
    """A column of the answer."""

    name: Annotated[str, "Name of the column, a key of each row."]
    kind: ColumnKind


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlAnswer(Answer):
    """The answer of `sql`."""

    columns: Annotated[Sequence[SqlColumn], "The columns in their order."]
    rows: Annotated[Sequence[Mapping[str, SqlValue]], "The rows, each by names of columns. Texts are untrusted."]


@dataclass(frozen=True, slots=True)
class ReadyQuestion:
    """A predefined question."""

    name: Annotated[str, "What `--ready` takes."]
    title: Annotated[str, "The question in words."]
    sql: Annotated[str, "The query."]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionList(Answer):
    """The answer of `sql` without a query."""

    questions: Annotated[Sequence[ReadyQuestion], "The questions."]


def sql_answer(result: QueryResult) -> SqlAnswer:
    """A result as a view."""
    names = result.names
    values = [[_value(column, value) for value in column.values] for column in result.columns]
    return SqlAnswer(
        columns=tuple(SqlColumn(column.name, column.kind) for column in result.columns),
        rows=tuple(dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)),
    )


def question_list(questions: Sequence[Question]) -> QuestionList:
    return QuestionList(questions=tuple(ReadyQuestion(each.name, each.title, each.sql) for each in questions))


def question_lines(view: QuestionList) -> Iterator[str]:
    """Each question with its SQL, as it can be typed again."""
    for question in view.questions:
        yield f"{question.name}: {question.title}"
        yield from (f"    {line}" for line in question.sql.splitlines())
        yield ""
    yield "Ask one with: kvmscope sql --from DIR --ready NAME"


def answer_lines(result: QueryResult) -> list[str]:
    """A table with a header, and the number of its rows."""
    head = [printable(name, max_length=_LONGEST_CELL) for name in result.names]
    cells = [[_cell(column, value) for value in column.values] for column in result.columns]
    numbers = [place for place, column in enumerate(result.columns) if column.kind is ColumnKind.NUMBER]
    table = columns([head, *zip(*cells, strict=True)], right=numbers)
    return [*table, "", f"({counted(len(result), 'row')})"]


def csv_lines(results: Iterable[QueryResult]) -> Iterator[str]:
    """The header, and a line for each row of each part of a result. A list is written as JSON."""
    for number, result in enumerate(results):
        if not number:
            yield csv_line(result.names)
        cells = [[_csv_cell(column, value) for value in column.values] for column in result.columns]
        yield from map(csv_line, zip(*cells, strict=True))


def _value(column: ResultColumn, value: Any) -> SqlValue:
    if value is None:
        return None
    if column.kind is ColumnKind.TIME:
        return Moment(value)
    if column.kind is ColumnKind.OTHER and isinstance(value, list):
        return [item if isinstance(item, bool | int | float | str | None) else json.dumps(item) for item in value]
    plain: SqlValue = json.dumps(value) if isinstance(value, dict) else value
    return plain


def _csv_cell(column: ResultColumn, value: Any) -> object:
    if value is not None and column.kind is ColumnKind.TIME:
        return rfc3339(value)
    return json.dumps(value) if isinstance(value, list | dict) else value


def _cell(column: ResultColumn, value: Any) -> str:
    """The cell of a table. Names and texts are untrusted."""
    if value is None:
        return NOT_KNOWN_SIGN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < _WHOLE or not value.is_integer() else f"{value:.0f}"
    if isinstance(value, list):
        return printable(", ".join(map(str, value)), max_length=_LONGEST_CELL)
    return (
        str(_csv_cell(column, value))
        if column.kind is not ColumnKind.TEXT
        else printable(value, max_length=_LONGEST_CELL)
    )


_WHOLE = 1e6
