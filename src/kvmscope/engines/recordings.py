"""Recordings as relations of DuckDB: ``open_recordings``.

DuckDB reads the files of a directory, Arrow those of an object store, and scenes that are in no segment yet are tables
in memory. Rule: each scene of each recording appears once; damaged parts are left out and reported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from ..closing import Closable
from ..console.limits import limited_memory
from ..errors import RecordingError
from ..store.episodes import Episode
from ..store.fleet_index import SEGMENT, FleetIndexes, IndexRows
from ..store.layout import RecordingTable
from ..store.relations import RecordingParts, find_all_parts
from .alike_files import alike_files
from .duckdb_store import DEFAULT_MEMORY_BYTES, DuckDbConnection, text, text_list
from .engine import QueryResult
from .guard import check_query
from .raw_columns import EPISODE_COLUMNS, EPISODES, ColumnType, known_columns
from .refusal import QueryEngine
from .results import plain_table
from .tables import RAW, RawTable
from .views import RELATIONS, view_query
from .vocabulary import Vocabulary, vocabulary_of

TYPES: Mapping[ColumnType, str] = {
    ColumnType.TIME: "TIMESTAMPTZ_NS",
    ColumnType.INTEGER: "BIGINT",
    ColumnType.WORD: "UBIGINT",
    ColumnType.FLOAT: "DOUBLE",
    ColumnType.BOOLEAN: "BOOLEAN",
    ColumnType.TEXT: "VARCHAR",
    ColumnType.TEXTS: "VARCHAR[]",
}
_ARROW_TYPES = {
    ColumnType.TIME: pa.timestamp("ns", "UTC"),
    ColumnType.INTEGER: pa.int64(),
    ColumnType.TEXT: pa.string(),
    ColumnType.TEXTS: pa.list_(pa.string()),
}


_BESIDE_BYTES: Final = 1 << 30
"""Memory of a query's result, threads and files that DuckDB does not count."""


def open_recordings(
    places: Sequence[str],
    *,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    keeps_order: bool = True,
    uses_index: bool = False,
) -> RecordingStore:
    """The recordings at these places, or in these directories, as one store.

    ``memory_bytes``: the engine's memory limit; what does not fit spills to a temporary directory. ``keeps_order``: as
    for ``DuckDbConnection``. ``uses_index``: read indexed segments from a directory's index, which has subjects at its
    own resolution only. Raises RecordingError if nothing can be read, UsageError, Unavailable without DuckDB.
    """
    with ExitStack() as opened:
        indexes = opened.enter_context(FleetIndexes(places if uses_index else ()))
        parts = find_all_parts(places, indexes.known)
        for part in parts:
            indexes.read_from(part.storage, part.segments_indexed)
        damage = [error for part in parts for error in part.damage]
        if damage and not any(part.segments or part.loose for part in parts):
            raise damage[0]
        connection = DuckDbConnection(memory_bytes=memory_bytes, keeps_order=keeps_order)
        opened.callback(connection.close)
        store = RecordingStore(connection, parts, indexes, memory_bytes=memory_bytes)
        opened.pop_all()
    return store


class RecordingStore(Closable):
    """Recordings behind DuckDB. A ``SqlStore``. Views are made when a query first reads them, since binding one with
    hundreds of columns takes a tenth of a second."""

    dialect = QueryEngine.DUCKDB
    recorded = RAW

    def __init__(
        self,
        connection: DuckDbConnection,
        parts: Sequence[RecordingParts],
        indexes: FleetIndexes,
        *,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
    ) -> None:
        """Takes over ``connection`` and ``indexes`` and closes them. ``memory_bytes``: memory limit of a user's
        query."""
        self._memory_bytes = memory_bytes
        self.damage: Sequence[RecordingError] = [error for part in parts for error in part.damage]
        self._connection = connection
        self._indexes = indexes
        self.is_indexed = any(part.segments_indexed for part in parts)
        self._vocabulary: Vocabulary | None = None
        self._made: set[str] = set()
        self._relations = {table: _find_relation(connection, table, parts, indexes) for table in RawTable}
        connection.do(f"CREATE SCHEMA {RAW}")
        for table, relation in self._relations.items():
            connection.do(f"CREATE VIEW {RAW}.{table.value} AS {relation.sql()}")
        _create_episodes(connection, parts)
        connection.close_doors([file for relation in self._relations.values() for file in relation.files])

    @property
    def vocabulary(self) -> Vocabulary:
        """The statistics of the recordings."""
        if self._vocabulary is None:
            self._vocabulary = vocabulary_of(self)
        return self._vocabulary

    def query(self, sql: str) -> QueryResult:
        """The result of a query of kvmscope's own. Raises QueryError, RecordingError, Unavailable."""
        return plain_table(self.read(sql))

    def read(self, sql: str) -> pa.Table:
        """The result of such a query as an Arrow table. Raises as ``query`` does."""
        return self._connection.read(sql)

    def make(self, sql: str) -> None:
        """Run a statement of kvmscope's own that creates something in the engine's memory. Raises as ``query`` does."""
        self._connection.do(sql)

    def keep(self, name: str, query: str) -> None:
        """Keep the result of a query of kvmscope's own as a table in memory. Raises as ``query`` does."""
        self.make(f"CREATE TABLE {name} AS {query}")

    def rows_of(self, table: RawTable, hosts: Sequence[str]) -> str:
        """A query for the rows of a relation of ``RAW`` on these hosts. It reads no rows of other hosts."""
        listed = ", ".join(map(text, hosts)) or "NULL"
        return f"SELECT * FROM ({self._relations[table].sql(hosts)}) AS r WHERE host IN ({listed})"

    def ask(self, sql: str) -> Iterator[pa.RecordBatch]:
        """The result of a query that a user typed. Raises as ``SqlStore.ask`` does."""
        self._connection.check(sql)
        for view in sorted(check_query(sql, self.dialect, RELATIONS) - self._made):
            self._connection.do(f"CREATE VIEW {view} AS {view_query(view, self)}")
            self._made.add(view)
        return self._within_memory(sql)

    def _within_memory(self, sql: str) -> Iterator[pa.RecordBatch]:
        """Limit the process, as DuckDB's own limit does not cover single values and lists, such as repeat('x',
        1000000000)."""
        with limited_memory(self._memory_bytes + _BESIDE_BYTES):
            yield from self._connection.stream(sql)

    def close(self) -> None:
        self._connection.close()
        self._indexes.close()


@dataclass(frozen=True)
class _Relation:
    """A table of all recordings. ``nothing``: a query with its known columns and no rows. ``alike``: groups of files
    with the same columns. ``indexed``: rows of an index. ``others``: queries for rows that are in no file of a
    directory."""

    nothing: str
    alike: Sequence[Sequence[str]]
    indexed: Sequence[IndexRows]
    others: Sequence[str]

    @property
    def files(self) -> list[str]:
        return [file for files in self.alike for file in files] + [rows.file for rows in self.indexed]

    def sql(self, hosts: Sequence[str] | None = None) -> str:
        """A query for its rows, of all hosts or at least of these. The columns do not depend on the hosts."""
        folders = None if hosts is None else {f"/host={host}/" for host in hosts}
        files = (_of_alike(files, folders) for files in self.alike)
        indexed = (_of_index(rows, hosts) for rows in self.indexed)
        return " UNION ALL BY NAME ".join([self.nothing, *files, *indexed, *self.others])


def _of_index(rows: IndexRows, hosts: Sequence[str] | None) -> str:
    """A query for rows of an index, of all hosts or of these."""
    is_its = "true" if rows.segments is None else f"{SEGMENT} IN ({', '.join(map(str, sorted(rows.segments)))})"
    is_wanted = "true" if hosts is None else f"host IN ({', '.join(map(text, hosts)) or 'NULL'})"
    read = f"read_parquet({text(rows.file)}, hive_partitioning = false)"
    return f"SELECT * EXCLUDE ({SEGMENT}) FROM {read} WHERE {is_its} AND {is_wanted}"


def _of_alike(files: Sequence[str], folders: set[str] | None) -> str:
    """A query for files with the same columns in these folders of hosts; without such files it has the columns and no
    rows."""
    wanted = files if folders is None else [file for file in files if _host_folder(file) in folders]
    return _of_files(wanted) if wanted else f"(SELECT * FROM ({_of_files(files[:1])}) WHERE false)"


def _host_folder(file: str) -> str:
    """The part of the path of a segment that names its host, as in ``store.layout``."""
    return f"/{file.split('/')[-3]}/"


def _find_relation(
    connection: DuckDbConnection, table: RawTable, parts: Sequence[RecordingParts], indexes: FleetIndexes
) -> _Relation:
    """The relation of a table over all these parts."""
    its = RecordingTable(table.value)
    nothing = ", ".join(f'NULL::{TYPES[kind]} AS "{name}"' for name, kind in known_columns(table).items())
    files = [
        os.path.realpath(part.storage.local(path)) for part in parts if _is_local(part) for path in part.files(its)
    ]
    others: list[str] = []
    for number, part in enumerate(parts):
        if not _is_local(part) and part.segments:  # no index has these
            name = f"stored_{table.value}_{number}"
            connection.add_view(name, part.storage.dataset(part.files(its)))
            others.append(f"SELECT * EXCLUDE (date) FROM {name}")
        for place, loose in enumerate(part.loose):
            name = f"loose_{table.value}_{number}_{place}"
            connection.add_table(name, loose.tables[its])
            others.append(f"SELECT *, {text(loose.host)} AS host FROM {name}")
    indexed = list(indexes.rows(its))
    return _Relation(f"SELECT {nothing} WHERE false", alike_files(files), indexed, others)


def _of_files(files: Sequence[str]) -> str:
    """The table function that reads files with the same columns. With ``union_by_name``, DuckDB would read every footer
    again for each query and match the columns of each file with those of all files."""
    return (
        f"SELECT * EXCLUDE (date) FROM read_parquet({text_list(files)}, hive_partitioning = true, "
        "hive_types = {'host': VARCHAR, 'date': VARCHAR})"
    )


def _is_local(part: RecordingParts) -> bool:
    return part.storage.directory is not None


def _create_episodes(connection: DuckDbConnection, parts: Sequence[RecordingParts]) -> None:
    name = f"{RAW}.{EPISODES}"
    if any(part.episodes for part in parts):
        connection.add_table(name, episodes_table(parts))
    else:  # the first Arrow table built from Python values imports pandas, if installed
        columns = ", ".join(f"{column} {TYPES[kind]}" for column, kind in EPISODE_COLUMNS.items())
        connection.do(f"CREATE TABLE {name} ({columns})")


def episodes_table(parts: Sequence[RecordingParts]) -> Any:
    """The episodes of recordings, with the columns of ``EPISODE_COLUMNS``."""
    rows = [_episode_row(part, episode) for part in parts for episode in part.episodes]
    return pa.Table.from_pylist(rows, pa.schema([(name, _ARROW_TYPES[kind]) for name, kind in EPISODE_COLUMNS.items()]))


def _episode_row(part: RecordingParts, episode: Episode) -> Mapping[str, object]:
    note = episode.note
    return {
        "recording": part.storage.place,
        "number": episode.number,
        "place": episode.place,
        "since": note.since_ns,
        "began": note.began_ns,
        "ended": note.ended_ns,
        "why_ended": note.why_ended.value if note.why_ended else None,
        "focus": note.focus_ns,
        "rules": list(dict.fromkeys(finding.rule for finding in note.findings)),
        "vms": list(dict.fromkeys(finding.name for finding in note.findings)),
        "size_bytes": episode.size_bytes,
    }
