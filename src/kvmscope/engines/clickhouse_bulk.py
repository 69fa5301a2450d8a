"""Load the files of many hosts into an embedded ClickHouse with few statements.

Adding one file makes a part with hundreds of columns in each of three tables, and each roll-up receives every row twice
and sorts them: four seconds of CPU time for a host with 160 vCPUs and 60 scenes. So files with the same columns are
added together, and each roll-up receives only the rows that it keeps, in less than half of that time. This is for hosts
that the tables do not have yet, so no scene can be duplicated.
Rule: a file is added whole or not at all (a row group is a block, and blocks are not split), to the roll-ups before the
raw table. So an interrupted load can be repeated: whatever a raw table has, its roll-ups have too.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from ..store.layout import RecordingTable, SegmentPlace
from ..store.relations import RecordingParts
from .clickhouse import ClickHouseStore
from .clickhouse_tables import ROLL_UPS_S, edges
from .spelling import literal, quote
from .tables import RAW, RawTable

_FILES: Final = 64
"""Approximate number of files of one statement."""
_PLAIN_PATH: Final = re.compile(r"[\w/=.:@+-]+")
"""A path without glob characters."""
_HOST: Final = ".*/host=([^/]+)/date="
"""The position of the host in a path."""
_WHOLE_BLOCKS: Final = (
    "SETTINGS input_format_parquet_max_block_size = 1048576, max_insert_block_size = 16777216,"
    " min_insert_block_size_rows = 1048576, min_insert_block_size_bytes = 67108864, max_insert_threads = 1,"
    " use_hive_partitioning = 0, optimize_on_insert = 0, transform_null_in = 1"
)
"""``optimize_on_insert``: rows of one statement do not replace one another. ``transform_null_in``: an unknown boot is
equal to itself."""


def fresh_segments(store: ClickHouseStore, found: Sequence[RecordingParts]) -> dict[SegmentPlace, RecordingParts]:
    """The segments that can be added together: of hosts in exactly one recording and not yet in the tables."""
    if not store.is_embedded:
        return {}
    hosts = " UNION DISTINCT ".join(f"SELECT host FROM {RAW}.{table.value}" for table in RawTable)
    there = set(store.query(hosts).columns[0].values)
    owners = Counter(host for parts in found for host in {segment.host for segment in parts.segments})
    return {
        segment: parts
        for parts in found
        for segment in parts.segments
        if segment.host not in there and owners[segment.host] == 1 and _are_plain(segment, parts)
    }


def _are_plain(segment: SegmentPlace, parts: RecordingParts) -> bool:
    """Whether ClickHouse reads each file of a segment from its path as one block."""
    if parts.storage.directory is None:
        return False
    for table in RecordingTable:
        path = file_of(segment, parts, RawTable(table.value))
        try:
            if not _PLAIN_PATH.fullmatch(path) or pq.read_metadata(path).num_row_groups > 1:
                return False
        except (OSError, pa.ArrowException):  # reported when the file is added alone
            return False
    return True


def file_of(segment: SegmentPlace, parts: RecordingParts, table: RawTable) -> str:
    """The path of a file in a directory, with symbolic links resolved."""
    return str(parts.storage.local(segment.path(RecordingTable(table.value))).resolve())


def bulk_inserts(table: RawTable, files: Sequence[str], columns: Sequence[str]) -> Iterator[str]:
    """The statements that add files with these columns to a table and to its roll-ups."""
    listed = ", ".join(map(quote, columns))
    for first in range(0, len(files), _FILES):
        paths = literal(_pattern(files[first : first + _FILES]))
        rows = f"(SELECT extract(_path, {literal(_HOST)}) AS host, {listed} FROM file({paths}, Parquet))"
        if table is not RawTable.DOCUMENTS:
            for resolution_s in ROLL_UPS_S:
                yield f"{edges(table, resolution_s, columns, rows)} {_WHOLE_BLOCKS}"
        yield f"INSERT INTO {RAW}.{table.value} (host, {listed}) SELECT * FROM {rows} {_WHOLE_BLOCKS}"
    if table is RawTable.DOCUMENTS:
        yield f"OPTIMIZE TABLE {RAW}.{table.value} FINAL"  # files of one host share documents


def _pattern(files: Sequence[str]) -> str:
    """One glob pattern for all these paths."""
    if len(files) == 1:
        return files[0]
    root = os.path.commonpath(files)
    return f"{root}/{{{','.join(os.path.relpath(file, root) for file in files)}}}"
