"""The parts of the views of ``vocabulary`` that DuckDB and ClickHouse spell differently; the rest is common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .refusal import QueryEngine


def quote(name: str) -> str:
    """An identifier of any characters, quoted for both engines."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A string literal for both engines: in ClickHouse a backslash starts an escape."""
    return "'" + value.replace("'", "''") + "'"


@dataclass(frozen=True, slots=True)
class Spelling:
    """``first``, ``last``: aggregates, the value at the minimum and at the maximum of another column. ``any_of``: any
    one value of a group. ``merged``: suffix of a table in which newer rows replace older ones."""

    first: str
    last: str
    any_of: str
    merged: str = ""

    def vm_id(self, column: str) -> str:
        """The id of a VM as every other command writes it: 16 hexadecimal digits."""
        return f"format('{{:016x}}', {column})"

    def is_set(self, column: str) -> str:
        """Whether a word is not 0, as a boolean."""
        return f"{column} <> 0"

    def bit(self, column: str, number: int) -> str:
        """Whether a bit of a word is set."""
        return f"(({column} >> {number}) & 1) = 1"

    def field(self, text: str, *path: str) -> str:
        """The text of a field of JSON, NULL if there is none."""
        return f"json_extract_string({text}, '$.{'.'.join(path)}')"

    def joined(self, parts: Sequence[tuple[str, str]]) -> str:
        """The strings whose condition holds, joined by commas."""
        if not parts:
            return "''"
        return f"concat_ws(', ', {', '.join(f'CASE WHEN {test} THEN {literal(word)} END' for test, word in parts)})"

    def seconds(self, nanoseconds: str) -> str:
        return f"({nanoseconds}) / 1e9"


class _ClickHouseSpelling(Spelling):
    __slots__ = ()

    def vm_id(self, column: str) -> str:
        return f"leftPad(lower(hex({column})), 16, '0')"

    def is_set(self, column: str) -> str:
        return f"CAST({column} <> 0 AS Nullable(Bool))"

    def bit(self, column: str, number: int) -> str:
        return f"CAST(bitTest({column}, {number}) AS Nullable(Bool))"

    def field(self, text: str, *path: str) -> str:
        keys = ", ".join(map(literal, path))
        return f"nullIf(JSONExtractString({text}, {keys}), '')"

    def joined(self, parts: Sequence[tuple[str, str]]) -> str:
        if not parts:
            return "''"
        texts = ", ".join(f"if(coalesce({test}, false), {literal(word)}, '')" for test, word in parts)
        return f"arrayStringConcat(arrayFilter(part -> part != '', [{texts}]), ', ')"


SPELLINGS: Final = {
    QueryEngine.DUCKDB: Spelling(first="arg_min", last="arg_max", any_of="any_value"),
    QueryEngine.CLICKHOUSE: _ClickHouseSpelling(first="argMin", last="argMax", any_of="any", merged=" FINAL"),
}
