"""Recordings in ClickHouse, queried in DuckDB: the rows that a query reads are pulled into DuckDB's memory.

A query over a fleet reads a few scenes of each host and a tenth of the columns. The rules of the catalogue are one long
query, which ClickHouse takes longer to plan than DuckDB takes to answer, so ClickHouse selects the rows and DuckDB
evaluates the rules.
Rule: pulled rows have the same columns and values as in ClickHouse.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pyarrow as pa

from ..closing import Closable
from ..errors import RecordingError
from .clickhouse import ClickHouseStore
from .duckdb_store import DEFAULT_MEMORY_BYTES, DuckDbConnection
from .engine import QueryResult
from .refusal import QueryEngine
from .results import plain_table
from .spelling import literal
from .tables import RawTable

if TYPE_CHECKING:
    from .vocabulary import Vocabulary


class PulledRecordings(Closable):
    """A ``SqlStore`` that has no relations of recordings until some are kept. Closes the ClickHouse store too.

    ``recorded``: the ClickHouse database whose rows are pulled.
    """

    dialect = QueryEngine.DUCKDB

    def __init__(self, source: ClickHouseStore, recorded: str, *, memory_bytes: int = DEFAULT_MEMORY_BYTES) -> None:
        """``memory_bytes``: DuckDB's memory limit. Raises Unavailable if DuckDB is not installed."""
        self.damage: Sequence[RecordingError] = source.damage
        self.recorded = recorded
        self._source = source
        self._connection = DuckDbConnection(memory_bytes=memory_bytes, keeps_order=False)
        self._closing = ExitStack()
        self._closing.callback(source.close)
        self._closing.callback(self._connection.close)
        self._closing.enter_context(source.without_merges())

    @property
    def vocabulary(self) -> Vocabulary:
        """The statistics of the recordings."""
        return self._source.vocabulary

    def query(self, sql: str) -> QueryResult:
        """The result of a query over the kept tables. Raises QueryError, Unavailable."""
        return plain_table(self._connection.read(sql))

    def ask(self, sql: str) -> Iterator[pa.RecordBatch]:
        """The result of a query that a user typed, by ClickHouse. Raises as ``SqlStore.ask`` does."""
        return self._source.ask(sql)

    def make(self, sql: str) -> None:
        """Run a statement of kvmscope's own in DuckDB. Raises as ``query`` does."""
        self._connection.do(sql)

    def keep(self, name: str, query: str) -> None:
        """Keep the result of a ClickHouse query as a table. Raises as ``query`` does."""
        self._connection.add_table(name, self._source.read(query))

    def rows_of(self, table: RawTable, hosts: Sequence[str]) -> str:
        """A ClickHouse query for the rows of a relation on these hosts."""
        listed = ", ".join(map(literal, hosts)) or "NULL"
        return f"SELECT * FROM {self.recorded}.{table.value} WHERE host IN ({listed})"

    def close(self) -> None:
        self._closing.close()
