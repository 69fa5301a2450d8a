"""ClickHouse behind the same protocol as DuckDB: a server over HTTP, or chdb in this process, with one client.

``http://USER:PASSWORD@HOST:8123/DATABASE`` and ``https://`` are servers, ``chdb:///DIR`` is an embedded one with its
data in that directory. The views are in DATABASE (``default``), the tables in the databases of ``clickhouse_tables``.
Rule: a user's query runs read-only, and ``guard`` limits what a read-only query can read.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import pyarrow as pa

from ..closing import Closable
from ..console.interrupts import ended_at_once
from ..errors import QueryError, RecordingError, Unavailable, UsageError
from .duckdb_store import DEFAULT_MEMORY_BYTES
from .engine import QueryResult
from .guard import call_place, check_function, check_query
from .judged_views import JUDGED_VIEWS
from .printing import CLICKHOUSE_SESSION
from .raw_columns import ColumnType, known_columns
from .refusal import QueryEngine
from .results import plain_result
from .tables import RAW, RawTable
from .views import CLICKHOUSE_RELATIONS, view_query
from .vocabulary import Vocabulary, vocabulary_of

_SCHEMES: Final = ("http", "https", "chdb")
_TIMEOUT_S: Final = 10
_MOST_SAID: Final = 400
_ARROW: Final = {"output_format_arrow_string_as_string": 1, "max_query_size": 1 << 24}
"""The query of all rules of the catalogue has a few hundred KiB."""


logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())  # it raises these errors as well


def open_clickhouse(url: str, *, memory_bytes: int = DEFAULT_MEMORY_BYTES) -> ClickHouseStore:
    """The ClickHouse at a URL. ``memory_bytes``: memory limit of a user's query. Raises UsageError for another kind of
    URL, Unavailable if there is no answer."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or (parts.scheme == "chdb" and not parts.netloc + parts.path):
        raise UsageError(f"{shown_url(url)!r} is not a ClickHouse: expected http://HOST:8123, https://… or chdb:///DIR")
    return ClickHouseStore(_connect(parts, url), shown_url(url), memory_bytes=memory_bytes)


def shown_url(url: str) -> str:
    """A URL without its password."""
    return re.sub(r"//[^/@]*@", "//", url)


def _connect(parts: SplitResult, url: str) -> Any:
    try:
        import clickhouse_connect
    except ModuleNotFoundError:
        raise Unavailable("ClickHouse needs clickhouse-connect", remedy="pip install 'kvmscope[clickhouse]'") from None
    try:
        if parts.scheme == "chdb":
            with ended_at_once():  # loads a library of half a gigabyte
                importlib.import_module("chdb")
            return clickhouse_connect.get_client(interface="chdb", path=unquote(parts.netloc + parts.path))
        return clickhouse_connect.get_client(
            interface=parts.scheme,
            host=parts.hostname or "localhost",
            port=parts.port or (8443 if parts.scheme == "https" else 8123),
            username=unquote(parts.username or "default"),
            password=unquote(parts.password or ""),
            database=parts.path.strip("/") or "default",
            connect_timeout=_TIMEOUT_S,
            query_retries=0,
        )
    except Exception as error:  # raised by the client, urllib3 or chdb
        raise Unavailable(f"{shown_url(url)} does not answer: {_why(error)}", remedy=_remedy(parts)) from None


def _remedy(parts: SplitResult) -> str:
    if parts.scheme == "chdb":
        return "a directory that no other process uses, and pip install 'kvmscope[clickhouse]'"
    return "curl " + f"{parts.scheme}://{parts.hostname}:{parts.port or 8123}/ping; look at its user and password"


class ClickHouseStore(Closable):
    """Recordings in ClickHouse. A ``SqlStore``."""

    dialect = QueryEngine.CLICKHOUSE
    damage: Sequence[RecordingError] = ()

    def __init__(self, client: Any, name: str, *, memory_bytes: int = DEFAULT_MEMORY_BYTES) -> None:
        """``name``: the URL without a password."""
        self._client = client
        self.name = name
        self._memory_bytes = memory_bytes
        self._may_set: bool | None = None
        self._vocabulary: Vocabulary | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether the engine is in this process and can read the same files."""
        return self.name.startswith("chdb:")

    @property
    def vocabulary(self) -> Vocabulary:
        """The statistics of the recordings."""
        if self._vocabulary is None:
            self._vocabulary = vocabulary_of(self)
        return self._vocabulary

    def forget_vocabulary(self) -> None:
        """Call after adding recordings, which may have other statistics."""
        self._vocabulary = None

    def query(self, sql: str) -> QueryResult:
        """The result of a query of kvmscope's own. Raises QueryError, Unavailable."""
        return plain_result(self._stream(sql))

    def read(self, sql: str) -> pa.Table:
        """The result of a query of kvmscope's own, as Arrow. Raises as ``query`` does."""
        return pa.Table.from_batches(list(self._stream(sql)))

    def ask(self, sql: str) -> Iterator[pa.RecordBatch]:
        """The result of a query that a user typed. Raises as ``SqlStore.ask`` does."""
        if not sql.strip():
            raise QueryError("the query is empty")
        views = check_query(sql, self.dialect, CLICKHOUSE_RELATIONS)
        self._check(sql)
        self._make_judged(views)
        return self._stream(f"{sql.rstrip().removesuffix(';')}\n{self._limits()}")

    def make(self, sql: str) -> None:
        """Run a statement of kvmscope's own. Raises as ``query`` does."""
        self._call(lambda: self._client.command(sql, settings=dict(CLICKHOUSE_SESSION)), sql)

    def insert(self, table: str, rows: pa.Table) -> None:
        """Add rows. The table must have all their columns. Raises as ``query`` does."""
        self._call(lambda: self._client.insert_arrow(table, rows), "")

    @contextmanager
    def without_merges(self) -> Iterator[None]:
        """Stop merges of an embedded ClickHouse inside this context: a process that only reads would start merges that
        it never finishes, at several times the cost of the query."""
        if self.is_embedded:
            self.make("SYSTEM STOP MERGES")
        try:
            yield
        finally:
            if self.is_embedded:
                self.make("SYSTEM START MERGES")

    def columns(self, table: RawTable) -> Mapping[str, ColumnType | None]:
        """The columns of a relation; the type is None for columns that a recording may lack."""
        known = known_columns(table)
        found = self.query(f"SELECT name FROM system.columns WHERE database = '{RAW}' AND table = '{table.value}'")
        return {name: known.get(name) for name in found.columns[0].values}

    def close(self) -> None:
        self._client.close()

    def _check(self, sql: str) -> None:
        """Raises QueryError unless ClickHouse's own parser finds one SELECT with allowed functions only."""
        asked = f"{_EXPLAIN} {sql}"
        tree = self._call(lambda: self._client.raw_query(asked, fmt="TabSeparated"), asked)
        if not tree.startswith(b"SelectWithUnionQuery"):
            raise QueryError("recordings are read-only: this is not a SELECT", query=sql, offset=0)
        for name in dict.fromkeys(_CALLED.findall(tree.decode("utf-8", "replace"))):
            check_function(name, sql, _word(name, sql))

    def _make_judged(self, views: Collection[str]) -> None:
        """Create those of these views that are created on first read, since their text is long."""
        missing = [view for view in JUDGED_VIEWS if view in views]
        if missing:
            there = self.query("SELECT name FROM system.tables WHERE database = currentDatabase()").columns[0].values
            for view in missing:
                if view not in there:
                    self.make(f"CREATE VIEW {view} AS {view_query(view, self)}")

    def _limits(self) -> str:
        """The settings of one query: read-only, with a memory limit. A read-only user cannot change them."""
        if self._may_set is None:
            [(read_only,)] = self.query("SELECT toUInt8(getSetting('readonly'))").rows()
            self._may_set = not read_only
        return f"SETTINGS readonly = 1, max_memory_usage = {self._memory_bytes}" if self._may_set else ""

    def _stream(self, sql: str) -> Iterator[pa.RecordBatch]:
        """At least one batch. The client's own ``query_arrow`` looks for LIMIT in the text and gets it wrong."""
        data = self._call(
            lambda: self._client.raw_query(sql, fmt="ArrowStream", settings={**CLICKHOUSE_SESSION, **_ARROW}), sql
        )
        table = pa.ipc.open_stream(data).read_all()
        yield from table.to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]

    def _call(self, call: Any, sql: str) -> Any:
        from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

        try:
            return call()
        except (ClickHouseError, OSError) as error:
            if isinstance(error, DatabaseError) and _CODE.search(str(error)):  # raised by ClickHouse, not by its client
                raise _translated(error, sql) from None
            remedy = "try again" if self.is_embedded else f"curl {self.name.rstrip('/')}/ping; is it still running?"
            raise Unavailable(f"{self.name} does not answer: {_why(error)}", remedy=remedy) from None


_CODE = re.compile(r"Code: (\d+)\. DB::Exception: (?:Code: \d+\. DB::Exception: )?(.*)", re.DOTALL)
_PLACE = re.compile(r"\(line (\d+), col (\d+)\)")
_CALLED = re.compile(r"^ *Function (\S+)", re.MULTILINE)
"""A function of a query in the output of EXPLAIN AST."""
_UNKNOWN = re.compile(
    r"^(?:Unknown|Identifier|Function with name|There is no|Missing)[^`']*[`'](?:[^`']*\.)?([^`'.]+)[`']"
)
_IN_SCOPE = re.compile(r"[.:]? In scope .*", re.DOTALL)
"""The part of a message that repeats the query with its settings."""
_ILL_TYPED = re.compile(r"\bfunction '?(\w+)'?")
"""For a type mismatch, ClickHouse names the function but not its position."""
_EXPLAIN: Final = "EXPLAIN AST"
_MEMORY_CODE, _AUTH_CODES, _DISK_CODES = 241, (192, 193, 194, 516), (74, 75, 76, 243)
"""Source: ClickHouse, src/Common/ErrorCodes.cpp. For files: 74 (read), 75 (write), 76 (open), 243 (no space)."""


def _translated(error: Exception, sql: str) -> QueryError | Unavailable:
    """ClickHouse's error as QueryError if the query is at fault, else Unavailable."""
    found = _CODE.search(str(error))
    code, text = (int(found[1]), found[2]) if found else (0, str(error))
    reason = " ".join(re.sub(r"\(version [^)]*\)|FORMAT \w+", "", _IN_SCOPE.sub("", text)).split())[:_MOST_SAID]
    if code in _AUTH_CODES:
        return Unavailable(f"ClickHouse refused the user: {reason}", remedy="another user or password in the URL")
    if code == _MEMORY_CODE:
        return Unavailable(f"the query needs more memory than it may take: {reason}", remedy="a smaller query")
    if code in _DISK_CODES:
        return Unavailable(f"ClickHouse cannot use its files: {reason}", remedy="more room on its disk, or another one")
    own = len(_EXPLAIN) + 1 if sql.startswith(_EXPLAIN) else 0  # length of the text before the user's query
    offset = _offset(text, sql)
    return QueryError(reason, query=sql[own:], offset=None if offset is None else max(0, offset - own))


def _offset(text: str, sql: str) -> int | None:
    """The character of the query that the error names, or the first word that it calls unknown."""
    place = _PLACE.search(text)
    if place is None:
        unknown, function = _UNKNOWN.search(text), _ILL_TYPED.search(text)
        if unknown:
            return _word(unknown[1], sql)
        return call_place(function[1], sql, QueryEngine.CLICKHOUSE) if function else None
    line, column = int(place[1]), int(place[2])
    offset = sum(len(each) + 1 for each in sql.split("\n")[: line - 1]) + column - 1
    return min(offset, len(sql))


def _why(error: BaseException) -> str:
    """The kernel's error text if an OSError is the cause; else the first line of the error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error).partition("\n")[0][:_MOST_SAID] or type(error).__name__


def _word(name: str, sql: str) -> int | None:
    """The offset of the first occurrence of a name."""
    found = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", sql)
    return found.start() if found else None
