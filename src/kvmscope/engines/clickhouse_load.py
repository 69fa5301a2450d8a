"""Load recordings into ClickHouse: each scene once, however often and from wherever it is loaded.

An embedded ClickHouse reads the Parquet files itself, those of new hosts together (``clickhouse_bulk``); a server
receives their columns from this process, which can also read object stores and journals. Rules: columns that the tables
lack are added first; a scene that is already loaded is skipped; the table of scenes is filled last.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import RecordingError
from ..store.layout import RecordingTable, SegmentPlace
from ..store.relations import LooseScenes, RecordingParts, find_all_parts
from .alike_files import alike_files
from .clickhouse import ClickHouseStore
from .clickhouse_bulk import bulk_inserts, file_of, fresh_segments
from .clickhouse_tables import (
    ROLL_UPS_S,
    Retention,
    additions,
    database,
    definitions,
    in_one_file,
    retentions,
    roll_ups,
    without_fills,
)
from .judged_views import JUDGED_VIEWS
from .raw_columns import EPISODES, FIXED, ColumnType
from .recordings import episodes_table
from .spelling import literal, quote
from .tables import RAW, RawTable
from .views import view_query
from .vocabulary import RECORDED_VIEWS, ROLL_UPS, roll_up_query

_ORDER: Final = (RawTable.DOCUMENTS, RawTable.VMS, RawTable.VCPUS, RawTable.SCENES)
_PARTITION: Final = "date"
_ONE_BLOCK: Final = "SETTINGS max_insert_block_size = 16777216, min_insert_block_size_rows = 0"
"""A segment is added whole or not at all, so an interrupted load can be repeated."""


_FILLED: Final = f"SELECT name FROM system.tables WHERE database = '{database(ROLL_UPS_S[-1])}'"


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The result of a load. ``scenes``: number of new scenes. ``damage``: what could not be read."""

    recordings: int
    scenes: int
    damage: tuple[RecordingError, ...]


def load_recordings(store: ClickHouseStore, places: Sequence[str], *, retention: Retention | None = None) -> LoadReport:
    """Add the recordings at these places, or in these directories. Raises RecordingError, Unavailable."""
    loader = _Loader(store)
    for statement in retentions(retention or Retention()):
        store.make(statement)
    before, found = loader.scenes(), find_all_parts(places)
    loader.add(found)
    loader.make_views()
    damage = tuple(error for parts in found for error in parts.damage)
    return LoadReport(len(found), loader.scenes() - before, damage)


class _Loader:
    """Loads recordings. Keeps the columns that the tables have."""

    def __init__(self, store: ClickHouseStore) -> None:
        self._store = store
        for statement in (*definitions(), *(in_one_file() if store.is_embedded else ())):
            store.make(statement)
        self._columns = {table: set(store.columns(table)) for table in RawTable}
        there = set(store.query(_FILLED).columns[0].values)
        for table in (RawTable.SCENES, RawTable.VMS, RawTable.VCPUS):
            if f"{table.value}_fill" not in there:
                self._fill_roll_ups(table)

    def scenes(self) -> int:
        [(count,)] = self._store.query(f"SELECT count() FROM {RAW}.scenes").rows()
        return int(count)

    def add(self, found: Sequence[RecordingParts]) -> None:
        """Add everything in these recordings that the tables lack."""
        fresh = fresh_segments(self._store, found)
        for table in _ORDER if fresh else ():
            self._add_together(table, [file_of(segment, parts, table) for segment, parts in fresh.items()])
        for parts in found:
            self._add_rest(parts, fresh)

    def _add_together(self, table: RawTable, files: Sequence[str]) -> None:
        """Add files of hosts that the tables do not have yet."""
        groups = [(_columns_of(alike[0]), alike) for alike in alike_files(files)]
        self._make_room(table, list(dict.fromkeys(name for names, _ in groups for name in names)))
        has_roll_ups = table is not RawTable.DOCUMENTS
        for statement in without_fills(table) if has_roll_ups else ():
            self._store.make(statement)
        try:
            for names, alike in groups:
                for statement in bulk_inserts(table, alike, names):
                    self._store.make(statement)
        finally:
            if has_roll_ups:
                self._fill_roll_ups(table)

    def _add_rest(self, parts: RecordingParts, fresh: Collection[SegmentPlace]) -> None:
        """Add the rest of a recording, without the segments that were added together."""
        for segment in parts.segments:
            for table in _ORDER if segment not in fresh else ():
                self._add_file(parts, segment, table)
        for loose in parts.loose:
            for table in _ORDER:
                self._add_rows(table, loose)
        if parts.episodes:
            self._store.insert(f"{RAW}.{EPISODES}", episodes_table([parts]))

    def make_views(self) -> None:
        """Create the users' views, which name the existing columns."""
        self._store.forget_vocabulary()
        for view in RECORDED_VIEWS:
            self._store.make(f"CREATE OR REPLACE VIEW {view} AS {view_query(view, self._store)}")
        for view in JUDGED_VIEWS:
            self._store.make(f"DROP VIEW IF EXISTS {view}")  # names earlier columns; created again on first read
        for view in ROLL_UPS:
            self._store.make(f"CREATE OR REPLACE VIEW {view} AS {roll_up_query(view, self._store.vocabulary)}")

    def _add_file(self, parts: RecordingParts, segment: SegmentPlace, table: RawTable) -> None:
        path = segment.path(RecordingTable(table.value))
        if not self._store.is_embedded or parts.storage.directory is None:
            with parts.storage.open(path) as file:
                self._insert(table, segment.host, pq.read_table(file))
            return
        real = file_of(segment, parts, table)
        names = _columns_of(real)
        self._make_room(table, names)
        listed = ", ".join(map(quote, names))
        self._store.make(
            f"INSERT INTO {RAW}.{table.value} (host, {listed}) SELECT {literal(segment.host)}, {listed}"
            f" FROM file({literal(real)}, Parquet) WHERE {_is_new(table, segment.host)} {_ONE_BLOCK}"
        )

    def _add_rows(self, table: RawTable, loose: LooseScenes) -> None:
        self._insert(table, loose.host, loose.tables[RecordingTable(table.value)])

    def _insert(self, table: RawTable, host: str, rows: Any) -> None:
        """Insert rows that this process has read."""
        self._make_room(table, rows.column_names)
        if table is not RawTable.DOCUMENTS:
            rows = rows.filter(pa.array(self._new_rows(table, host, rows)))
        if rows.num_rows:
            plain = [
                column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
                for column in rows.columns
            ]
            named = pa.table(plain, names=rows.column_names).append_column("host", pa.array([host] * rows.num_rows))
            self._store.insert(f"{RAW}.{table.value}", named)

    def _new_rows(self, table: RawTable, host: str, rows: Any) -> list[bool]:
        """For each row whether the table lacks its scene."""
        query = f"SELECT DISTINCT boot, boottime_ns FROM {RAW}.{table.value} WHERE host = {literal(host)}"
        there = set(self._store.query(query).rows())
        pairs = zip(rows["boot"].to_pylist(), rows["boottime_ns"].to_pylist(), strict=True)
        return [pair not in there for pair in pairs]

    def _make_room(self, table: RawTable, names: Sequence[str]) -> None:
        """Add the columns of statistics that the table lacks."""
        new = [name for name in names if name not in self._columns[table]]
        if new:
            for statement in additions(table, _types(new)):
                self._store.make(statement)
            self._columns[table] |= set(new)
            self._fill_roll_ups(table)

    def _fill_roll_ups(self, table: RawTable) -> None:
        for statement in roll_ups(table, [*FIXED[table], *sorted(self._columns[table] - set(FIXED[table]))]):
            self._store.make(statement)


def _columns_of(path: str) -> list[str]:
    """The columns in the file itself."""
    return [name for name in pq.read_schema(path).names if name != _PARTITION]


def _types(names: Sequence[str]) -> Mapping[str, ColumnType]:
    return {name: ColumnType.TEXT if name.endswith(".@schema") else ColumnType.WORD for name in names}


def _is_new(table: RawTable, host: str) -> str:
    """The condition for rows of a file whose scene the table lacks."""
    if table is RawTable.DOCUMENTS:
        return f"key NOT IN (SELECT key FROM {RAW}.documents WHERE host = {literal(host)})"
    there = f"SELECT boot, boottime_ns FROM {RAW}.{table.value} WHERE host = {literal(host)}"
    return f"(boot, boottime_ns) NOT IN ({there})"
