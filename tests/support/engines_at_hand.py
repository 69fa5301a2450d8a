"""DuckDB and ClickHouse's engine with the raw relations of scenes, for tests that compare them with numpy."""

from __future__ import annotations

import atexit
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kvmscope.console.temporary import OwnedDirectory
from kvmscope.engines.columns import BlockSet, read_block_sets
from kvmscope.engines.printing import CLICKHOUSE_SESSION, print_query
from kvmscope.engines.refusal import QueryEngine
from kvmscope.engines.relational import Query
from kvmscope.scene import Scene
from kvmscope.store.columns import tables_of
from kvmscope.store.epochs import EpochTracker
from kvmscope.store.layout import RecordingTable

Rows = list[dict[str, Any]]


def tables_by_host(hosts: Mapping[str, Sequence[Scene]]) -> dict[RecordingTable, Any]:
    """The tables of a recording of several hosts, with the partition as a column."""
    parts: dict[RecordingTable, list[Any]] = {table: [] for table in RecordingTable}
    for host, scenes in hosts.items():
        for table, rows in tables_of(scenes, EpochTracker()).items():
            parts[table].append(rows.append_column("host", pa.array([host] * rows.num_rows, pa.string())))
    return {table: pa.concat_tables(each, promote_options="permissive") for table, each in parts.items()}


def block_sets(tables: Mapping[RecordingTable, Any]) -> tuple[BlockSet, ...]:
    documents = tables[RecordingTable.DOCUMENTS].to_pydict()
    texts = dict(zip(documents["key"], documents["text"], strict=True))
    return read_block_sets(tables[RecordingTable.SCENES]["blocks"].to_pylist(), texts, "tables")


class DuckdbAtHand:
    """An empty database in memory, whose raw relations are Arrow tables."""

    engine = QueryEngine.DUCKDB

    def __init__(self, tables: Mapping[RecordingTable, Any], _directory: Path) -> None:
        import duckdb

        self._connection = duckdb.connect()
        self._connection.execute("CREATE SCHEMA raw")
        for table, rows in tables.items():
            self._connection.register(f"arrow_{table.value}", rows)
            self._connection.execute(f"CREATE VIEW raw.{table.value} AS SELECT * FROM arrow_{table.value}")

    def rows(self, query: Query) -> Rows:
        found = self._connection.execute(print_query(query, self.engine))
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


@cache
def _session() -> Any:
    from chdb import session

    make: Any = session.Session  # one a process; the directory of a path-less one stays if the process is killed
    return make(str(_directory().path / "data"))


@cache
def _directory() -> OwnedDirectory:
    found = OwnedDirectory("clickhouse")
    atexit.register(found.close)
    return found


def close_session() -> None:
    """End the session of this process, so that another embedded ClickHouse can have a place of its own."""
    if _session.cache_info().currsize:
        _session().close()
        _session.cache_clear()
        _directory().close()
        _directory.cache_clear()


class ClickhouseAtHand:
    """The session of this process, whose raw relations are tables in memory, replaced by those of the next."""

    engine = QueryEngine.CLICKHOUSE

    def __init__(self, tables: Mapping[RecordingTable, Any], directory: Path) -> None:
        _session().query("CREATE DATABASE IF NOT EXISTS raw")
        for setting, value in CLICKHOUSE_SESSION.items():
            _session().query(f"SET {setting} = {value}")
        for table, rows in tables.items():
            file = directory / f"{table.value}.parquet"
            pq.write_table(rows, file)
            source = f"SELECT * FROM file('{file}', Parquet)"
            _session().query(f"DROP TABLE IF EXISTS raw.{table.value} SYNC")
            _session().query(f"CREATE TABLE raw.{table.value} ENGINE = Memory AS {source}")

    def rows(self, query: Query) -> Rows:
        text = print_query(query, self.engine)
        settings = ", output_format_json_quote_64bit_integers = 0, output_format_json_quote_denormals = 1"
        lines = _session().query(text + settings, "JSONEachRow").bytes().decode()
        return [json.loads(line) for line in lines.splitlines()]


ENGINES = (DuckdbAtHand, ClickhouseAtHand)


def is_near(found: float | None, expected: float) -> bool:
    """Whether a value of an engine is that of numpy, NULL being NaN; NaN and inf are no values at all."""
    if found is None:
        return math.isnan(expected)
    return not math.isnan(expected) and math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12)
