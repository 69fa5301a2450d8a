"""The tables of recordings in ClickHouse, with their roll-ups: statements that create and extend them.

``raw`` has the relations of ``tables``; ``raw_10s`` and ``raw_60s`` have the same relations with fewer rows: the first
and the last row of each subject and epoch in each 10 s or 60 s of CLOCK_BOOTTIME. Counts only go up in an epoch, so the
increases between the rows that are kept are exact. A roll-up is filled by a materialized view, and merges drop the rows
in between.
Rules: rows are sorted by subject, then time, as queries read them; columns for statistics of newer kernels are added.
Source: https://clickhouse.com/docs/engines/table-engines/mergetree-family/replacingmergetree
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..errors import UsageError
from .raw_columns import EPISODE_COLUMNS, EPISODES, ColumnType, known_columns
from .spelling import quote
from .tables import RAW, RawTable

_KEEP: Final = re.compile(r"(raw|10s|60s):([1-9][0-9]{0,4})d")

ROLL_UPS_S: Final = (10, 60)
"""The resolutions of roll-ups, in seconds."""

_TYPES: Final = {
    ColumnType.TIME: "DateTime64(9, 'UTC')",
    ColumnType.INTEGER: "Int64",
    ColumnType.WORD: "UInt64",
    ColumnType.FLOAT: "Float64",
    ColumnType.BOOLEAN: "Bool",
    ColumnType.TEXT: "String",
    ColumnType.TEXTS: "Array(String)",
}
_PACKED: Final = {ColumnType.TIME, ColumnType.INTEGER, ColumnType.WORD}
"""Types whose numbers mostly grow from row to row or stay: stored as differences they take a third less space (figures:
docs/reference/sql.md)."""
_NEVER_NULL: Final = {"host", "time", "boottime_ns", "vm", "vcpu", "row", "epoch", "key", "text", "blocks", "simulated"}

_KEYS: Final[Mapping[RawTable, Sequence[str]]] = {
    RawTable.SCENES: ("host", "boot", "source", "simulated"),
    RawTable.DOCUMENTS: ("host", "key"),
    RawTable.VMS: ("host", "boot", "vm", "epoch"),
    RawTable.VCPUS: ("host", "boot", "vm", "vcpu", "epoch"),
}
"""The key of a row without its time; a roll-up keeps rows for each key."""

_SORTED_BY: Final[Mapping[RawTable, Sequence[str]]] = {
    RawTable.SCENES: ("host", "time"),
    RawTable.DOCUMENTS: ("host", "key"),
    RawTable.VMS: ("host", "vm", "time"),
    RawTable.VCPUS: ("host", "vm", "vcpu", "time"),
}


@dataclass(frozen=True, slots=True)
class Retention:
    """For how many days rows of the raw tables and of each roll-up are kept; None: never deleted."""

    raw_days: int | None = None
    roll_up_days: Mapping[int, int] | None = None

    def of(self, resolution_s: int) -> int | None:
        """The days for tables of a resolution; 0: the raw tables."""
        return (self.roll_up_days or {}).get(resolution_s) if resolution_s else self.raw_days


def parse_retention(text: str) -> Retention:
    """A list such as ``raw:7d,10s:30d,60s:365d``; tables that it does not name are kept without limit. Raises
    UsageError."""
    days: dict[int, int] = {}
    for part in text.split(",") if text else ():
        match = _KEEP.fullmatch(part.strip())
        if match is None:
            raise UsageError(f"--keep {text!r:.60}: expected a list such as raw:7d,10s:30d,60s:365d")
        days[0 if match[1] == "raw" else int(match[1][:-1])] = int(match[2])
    return Retention(days.pop(0, None), days)


def database(resolution_s: int) -> str:
    """The database of the raw tables (0) or of a roll-up."""
    return f"{RAW}_{resolution_s}s" if resolution_s else RAW


def definitions() -> Iterator[str]:
    """The statements that create missing tables, with the columns that queries may name."""
    for resolution_s in (0, *ROLL_UPS_S):
        yield f"CREATE DATABASE IF NOT EXISTS {database(resolution_s)}"
    for table in RawTable:
        engine = "ReplacingMergeTree" if table is RawTable.DOCUMENTS else "MergeTree"
        yield _table(
            f"{RAW}.{table.value}", known_columns(table), f"ENGINE = {engine} {_layout(table, _SORTED_BY[table])}"
        )
    episodes = "ENGINE = ReplacingMergeTree ORDER BY (recording, number)"
    yield _table(f"{RAW}.{EPISODES}", EPISODE_COLUMNS, episodes, never_null={*_NEVER_NULL, "recording", "number"})
    for resolution_s in ROLL_UPS_S:
        for table in RawTable:
            if table is RawTable.DOCUMENTS:
                yield f"CREATE OR REPLACE VIEW {database(resolution_s)}.documents AS SELECT * FROM {RAW}.documents"
            else:
                yield _kept_rows(table, resolution_s)


def in_one_file() -> Iterator[str]:
    """The statements that make each part of a table one file for all columns, whatever its size.

    Otherwise a large part has four files for each column, all open while it is written: a few thousand, and as many for
    each concurrent merge.
    Source: https://clickhouse.com/docs/operations/settings/merge-tree-settings#min_bytes_for_wide_part
    """
    for table in (RawTable.SCENES, RawTable.VMS, RawTable.VCPUS):
        for name in (f"{RAW}.{table.value}", *(f"{database(each)}.{table.value}_edges" for each in ROLL_UPS_S)):
            yield f"ALTER TABLE {name} MODIFY SETTING {_ALWAYS_COMPACT}"


_ALWAYS_COMPACT: Final = f"min_bytes_for_wide_part = {1 << 62}, min_rows_for_wide_part = {1 << 62}"


def additions(table: RawTable, columns: Mapping[str, ColumnType]) -> Iterator[str]:
    """The statements that add columns to a table and to its roll-ups."""
    added = ", ".join(f"ADD COLUMN IF NOT EXISTS {_column(name, kind, _NEVER_NULL)}" for name, kind in columns.items())
    yield f"ALTER TABLE {RAW}.{table.value} {added}"
    for resolution_s in ROLL_UPS_S:
        yield f"ALTER TABLE {database(resolution_s)}.{table.value}_edges {added}"


def roll_ups(table: RawTable, columns: Iterable[str]) -> Iterator[str]:
    """The views that fill the roll-ups of a table, and the views that read them. They name columns, so they are created
    again after a column was added."""
    listed = ", ".join(map(quote, columns))
    key = ", ".join(_KEYS[table])
    yield from without_fills(table)
    for resolution_s in ROLL_UPS_S:
        place = database(resolution_s)
        yield (
            f"CREATE MATERIALIZED VIEW {place}.{table.value}_fill TO {place}.{table.value}_edges AS"
            f" {_both_edges(listed, f'{RAW}.{table.value}', resolution_s)}"
        )
        yield (
            f"CREATE OR REPLACE VIEW {place}.{table.value} AS SELECT {listed} FROM {place}.{table.value}_edges FINAL"
            f" LIMIT 1 BY {key}, boottime_ns"
        )


def without_fills(table: RawTable) -> Iterator[str]:
    """The statements after which rows of a table are not added to its roll-ups."""
    return (f"DROP VIEW IF EXISTS {database(resolution_s)}.{table.value}_fill" for resolution_s in ROLL_UPS_S)


def edges(table: RawTable, resolution_s: int, columns: Sequence[str], rows: str) -> str:
    """The statement that adds to a roll-up the rows that it keeps of ``rows``, a query with these columns and ``host``.
    A merge of all of them would leave the same."""
    listed, key = ", ".join(map(quote, ["host", *columns])), ", ".join(_KEYS[table])
    borders = "arrayJoin([(0, min(boottime_ns)), (1, max(boottime_ns))]) AS border"
    groups = f"SELECT {key}, {borders} FROM {rows} GROUP BY {key}, {_bucket(resolution_s)}"
    return (
        f"INSERT INTO {database(resolution_s)}.{table.value}_edges ({listed}, _bucket, _edge, _version)"
        f" {_both_edges(listed, rows, resolution_s)}"
        f" WHERE ({key}, _edge, boottime_ns) IN (SELECT {key}, border.1, border.2 FROM ({groups}))"
    )


def _bucket(resolution_s: int) -> str:
    return f"intDiv(boottime_ns, {resolution_s * 10**9})"


def _both_edges(listed: str, rows: str, resolution_s: int) -> str:
    """Each row twice, as the first and as the last of its bucket in a roll-up; the greatest version stays."""
    return (
        f"SELECT {listed}, {_bucket(resolution_s)} AS _bucket, _edge, if(_edge = 0, {_LATEST} - toUInt64(boottime_ns),"
        f" toUInt64(boottime_ns)) AS _version FROM {rows} ARRAY JOIN [0, 1] AS _edge"
    )


def retentions(retention: Retention) -> Iterator[str]:
    """The statements that make ClickHouse delete rows past their retention."""
    for resolution_s in (0, *ROLL_UPS_S):
        days = retention.of(resolution_s)
        if days is None:
            continue
        for table in (RawTable.SCENES, RawTable.VMS, RawTable.VCPUS):
            name = f"{table.value}_edges" if resolution_s else table.value
            yield f"ALTER TABLE {database(resolution_s)}.{name} MODIFY TTL toDateTime(time) + INTERVAL {days} DAY"


_LATEST: Final = "toUInt64(9223372036854775807)"


def _kept_rows(table: RawTable, resolution_s: int) -> str:
    """The table behind a roll-up: two rows for each key and bucket, each with the greatest version of its edge."""
    key = ", ".join([*_KEYS[table], "_bucket", "_edge"])
    own = "_bucket Int64 CODEC(Delta, ZSTD), _edge UInt8, _version UInt64 CODEC(Delta, ZSTD)"
    engine = f"ENGINE = ReplacingMergeTree(_version) PARTITION BY toStartOfMonth(time) ORDER BY ({key})"
    settings = "SETTINGS allow_nullable_key = 1"
    return _table(
        f"{database(resolution_s)}.{table.value}_edges", known_columns(table), f"{engine} {settings}", more=own
    )


def _table(
    name: str,
    columns: Mapping[str, ColumnType],
    engine: str,
    *,
    more: str = "",
    never_null: Iterable[str] = _NEVER_NULL,
) -> str:
    listed = [_column(column, kind, set(never_null)) for column, kind in columns.items()]
    return f"CREATE TABLE IF NOT EXISTS {name} ({', '.join([*listed, *([more] if more else [])])}) {engine}"


def _column(name: str, kind: ColumnType, never_null: set[str]) -> str:
    of_kind = _TYPES[kind]
    if name not in never_null and kind is not ColumnType.TEXTS:
        of_kind = f"Nullable({of_kind})"
    if kind is ColumnType.TEXT and name != "text":
        of_kind = f"LowCardinality({of_kind})"
    codec = "CODEC(Delta(8), ZSTD)" if kind in _PACKED else "CODEC(ZSTD)"
    return f"{quote(name)} {of_kind} {codec}"


def _layout(table: RawTable, keys: Sequence[str]) -> str:
    by_day = "" if table is RawTable.DOCUMENTS else "PARTITION BY toDate(time) "
    return f"{by_day}ORDER BY ({', '.join(keys)})"
