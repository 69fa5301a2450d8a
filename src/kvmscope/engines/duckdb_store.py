"""DuckDB restricted to the relations that it was given: it reads no other file and writes none.

Queries run in a dedicated thread, since DuckDB does not check for signals: Ctrl-C interrupts the query.
Rules: after ``close_doors`` no file but the given ones can be read, nothing can be attached, installed, loaded or set,
and a read-only transaction refuses changes of tables. Memory is limited; what does not fit spills to a temporary
directory.
Source: https://duckdb.org/docs/operations_manual/securing_duckdb/overview
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import pyarrow as pa

from ..console.temporary import OwnedDirectory
from ..errors import QueryError, RecordingError, Unavailable
from ..linux.libc import raise_thread_stacks
from .guard import query_start

T = TypeVar("T")

DEFAULT_MEMORY_BYTES = 2 << 30
_ROWS_PER_BATCH = 1 << 16
_MOST_SAID = 400
_STACK_BYTES = 8 << 20
"""Stack size of its threads and of the worker: with less than 300 KiB, DuckDB crashes with SIGSEGV."""

_CONFIG = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_unsigned_extensions": "false",
    "python_enable_replacements": "false",  # a name in a query is never a variable of this program
    "errors_as_json": "true",
    "checkpoint_threshold": "1TB",  # checkpoints of an in-memory database gain nothing and cost seconds
}


def _temporary_directory() -> OwnedDirectory | None:
    """The directory to spill to; None if no directory is writable, as in read-only containers."""
    try:
        return OwnedDirectory("sql")
    except OSError:
        return None


class DuckDbConnection:
    """An engine in this process, initially without relations. Close when done."""

    def __init__(self, *, memory_bytes: int = DEFAULT_MEMORY_BYTES, keeps_order: bool = True) -> None:
        """``keeps_order``: without ORDER BY, rows have the order of the files, which costs time. Raises Unavailable if
        DuckDB is not installed."""
        try:
            import duckdb
        except ModuleNotFoundError:
            raise Unavailable("SQL over recordings needs DuckDB", remedy="pip install 'kvmscope[sql]'") from None
        with suppress(OSError):
            raise_thread_stacks(_STACK_BYTES)
        self._duckdb = duckdb
        self._temporary = _temporary_directory()
        order = {"preserve_insertion_order": str(keeps_order).lower()}
        memory = {
            "memory_limit": f"{max(1, memory_bytes >> 20)}MiB",
            "temp_directory": str(self._temporary.path) if self._temporary else "",
        }
        try:
            self._connection = duckdb.connect(":memory:", config={**_CONFIG, **order, **memory})
        except duckdb.OutOfMemoryException:  # before any query: no memory, or no threads for its workers
            self._clean_up()
            raise MemoryError("DuckDB cannot be started") from None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="duckdb")
        self.do("SET TimeZone = 'UTC'")
        self.do("SET enable_progress_bar = false")  # it is printed on standard output, between rows of the answer

    def do(self, sql: str) -> None:
        """Run a statement of kvmscope's own. Raises as ``stream`` does."""
        self._call(lambda: self._connection.execute(sql).fetchall(), sql)

    def add_table(self, name: str, table: Any) -> None:
        """Keep an Arrow table under a name that needs no quoting in SQL."""

        def add() -> None:
            self._connection.register("added", table)
            self._connection.execute(f"CREATE TABLE {name} AS SELECT * FROM added").fetchall()
            self._connection.unregister("added")

        self._call(add, "")

    def add_view(self, name: str, dataset: Any) -> None:
        """Register a dataset under a name; Arrow reads it when a query does."""
        self._call(lambda: self._connection.register(name, dataset), "")

    def close_doors(self, readable: Sequence[str]) -> None:
        """From now on allow reading of these files only, and no change of settings."""
        if readable:
            self.do(f"SET allowed_paths = {text_list(readable)}")
        self.do("SET enable_external_access = false")
        self.do("SET lock_configuration = true")

    def check(self, sql: str) -> None:
        """Raises QueryError unless DuckDB's own parser finds one SELECT."""
        statements = self._call(lambda: self._connection.extract_statements(sql), sql)
        if not statements:
            raise QueryError("the query is empty")
        if len(statements) > 1:
            second = len(statements[0].query) + query_start(statements[1].query)
            raise QueryError(f"one query at a time: this is {len(statements)}", query=sql, offset=second)
        kind = self._kind_of(statements[0])
        if kind != "SELECT":
            raise QueryError(f"recordings are read-only: {kind} is not a SELECT", query=sql, offset=query_start(sql))

    def _kind_of(self, statement: Any) -> str:
        """A statement's kind in words."""
        try:
            return str(statement.type).rpartition(".")[2].replace("_", " ")
        except ValueError:  # a kind without a name in DuckDB's Python API
            return "this statement"

    def stream(self, sql: str) -> Iterator[Any]:
        """The record batches of a SELECT, at least one. Raises QueryError, RecordingError, Unavailable."""
        with self._reading():
            reader = self._call(lambda: self._reader(sql), sql)
            is_first = True
            while (batch := self._call(lambda: next(reader, None), sql)) is not None:
                yield batch
                is_first = False
            if is_first:
                yield _empty(reader.schema)

    def read(self, sql: str) -> Any:
        """The rows of a SELECT of kvmscope's own as an Arrow table. Raises as ``stream`` does.

        DuckDB plans a relation once for its columns and again to run it, which takes a quarter of a second for the
        query of all rules. A statement is planned once, but its rows are copied once more, so this is for small
        results.
        """

        def run() -> Any:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Arrow output on a DB-API result")
                return self._connection.execute(sql).to_arrow_table()

        with self._reading():
            return self._call(run, sql)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """A read-only transaction."""
        self.do("BEGIN TRANSACTION READ ONLY")
        try:
            yield
        finally:
            with suppress(Exception):  # keep the earlier error
                self.do("ROLLBACK")

    def _reader(self, sql: str) -> Any:
        try:
            return self._connection.sql(sql).to_arrow_reader(_ROWS_PER_BATCH)
        except (self._duckdb.BinderException, self._duckdb.CatalogException):
            self._connection.execute(sql)  # fails too, and says where
            raise

    def close(self) -> None:
        self._worker.shutdown(wait=True)
        self._connection.close()
        self._clean_up()

    def _clean_up(self) -> None:
        if self._temporary is not None:
            self._temporary.close()

    def _call(self, call: Callable[[], T], sql: str) -> T:
        """Run a call in the worker. An exception in this thread during the call (such as Ctrl-C) interrupts it."""
        future = self._worker.submit(call)
        try:
            return future.result()
        except (self._duckdb.Error, pa.ArrowException, OSError) as error:  # the last two: while a result is read
            raise _translated(error, sql) from None
        except BaseException:
            self._connection.interrupt()
            raise


def _translated(error: Exception, sql: str) -> QueryError | RecordingError | Unavailable:
    """DuckDB's error by cause. Its text begins with the kind of error, also when Arrow passes it on."""
    said = _Said.of(error)
    kind = str(error).partition(" Error")[0].rpartition(": ")[2]
    if kind in _OF_FILES:
        return RecordingError(f"it cannot be read: {said.reason}", path="recording")
    if kind == "Out of Memory":
        return Unavailable(
            f"the query needs more memory than it may take: {said.reason}",
            remedy="--memory 4G, or a TMPDIR with more room",
        )
    return QueryError(said.reason, query=sql, offset=said.offset(sql))


_OF_FILES = ("IO", "HTTP")


class _Said:
    """DuckDB's details of an error: JSON after its kind. ``position``: in bytes."""

    def __init__(self, reason: str, position: int | None) -> None:
        self.reason = " ".join(reason.split())[:_MOST_SAID]
        self._position = position

    @classmethod
    def of(cls, error: Exception) -> _Said:
        text = str(error)
        try:
            found = json.loads(text[text.index("{") :])
            position = found.get("position")
            return cls(found["exception_message"], None if position is None else int(position))
        except (ValueError, KeyError):
            return cls(text.partition("\n\nLINE ")[0], None)

    def offset(self, sql: str) -> int | None:
        """The position in characters."""
        if self._position is None:
            return None
        return len(sql.encode()[: self._position].decode("utf-8", "ignore"))


def _empty(schema: Any) -> Any:
    """A table without rows. Not built from Python values, since the first such array imports pandas if installed."""
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


def text(value: str) -> str:
    """A string literal of SQL."""
    return "'" + value.replace("'", "''") + "'"


def text_list(values: Sequence[str]) -> str:
    """A list of string literals in DuckDB's SQL."""
    return f"[{', '.join(map(text, values))}]"
