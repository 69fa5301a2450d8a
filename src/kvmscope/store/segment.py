"""Segments: the Parquet files that the scenes of a journal become.

Encodings are part of the format, since every reader has to support them: numbers are DELTA_BINARY_PACKED, strings
dictionaries, all compressed by zstd. Times of scenes recur for each subject, so they are dictionaries too.
Before the footer of each file are 8 bytes that Parquet readers ignore: ``KVMC`` and the CRC-32 of all other bytes, so
damage is not read as numbers. A file without them is read too: version 1 of the layout had none. The metadata in the
footer names the table and segment of a file, so mixed-up files are detected.
Source: parquet-format, Encodings.md and README.md, File format: a reader finds the footer from the end of the file.
tests/store checks that pyarrow, DuckDB and ClickHouse can read the files.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import RecordingError
from ..sample import I64Array
from .columns import SegmentScenes, SegmentTables
from .copies import SceneKey
from .layout import RecordingTable, SegmentPlace
from .storage import Storage, require_file

_SEAL = struct.Struct("<4sI")
_SEAL_MAGIC = b"KVMC"
_ENOUGH_OF_MAGIC = 2
_BLOCK_BYTES = 1 << 20
_SEALED, _TABLE, _SEGMENT = "kvmscope.sealed", "kvmscope.table", "kvmscope.segment"
"""Keys of the footer's metadata. It mentions the seal too; otherwise, damage of the seal's magic would go unnoticed."""
_OWN_COLUMN: Final = {
    RecordingTable.DOCUMENTS: b"text",
    RecordingTable.VMS: b"label",
    RecordingTable.VCPUS: b"tid",
    RecordingTable.SCENES: b"blocks",
}
"""A column that only this table has, to identify files without the metadata."""
_END = struct.Struct("<I4s")
_MAGIC = b"PAR1"

_ROWS_PER_GROUP = 1 << 17
_ZSTD_LEVEL = 3
_KEYS = ["time", "boottime_ns", "origin_host", "boot"]
_HEADS = [*_KEYS, "source", "simulated"]
_AS_DICTIONARY = ("time", "boottime_ns")
_WITH_STATISTICS = ("time", "vm", "name")
"""Columns by which readers select rows. Statistics of all counters would be a tenth of a small file."""


def write_segment(storage: Storage, place: SegmentPlace, tables: Mapping[RecordingTable, Any]) -> None:
    """Write all tables. The segment exists once the last one does. Raises OSError."""
    segment = _segment_id(tables[RecordingTable.SCENES])
    for table in RecordingTable:  # in order: SCENES is last
        marks = {_SEALED: "1", _TABLE: table.value, _SEGMENT: segment}
        storage.write(place.path(table), partial(_write, tables[table], marks))


def _segment_id(scenes: Any) -> str:
    """An id of a segment, made from its scenes."""
    rows = scenes.select(_KEYS).set_column(0, "time", scenes["time"].cast(pa.int64())).to_pylist()
    text = json.dumps([list(row.values()) for row in rows])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def open_writer(sink: Any, schema: Any, *, with_statistics: Sequence[str] = _WITH_STATISTICS) -> Any:
    """A writer of Parquet with the encodings of segments. ``with_statistics``: columns by which readers select rows."""
    texts = [field.name for field in schema if _is_text(field)]
    numbers = [field.name for field in schema if pa.types.is_integer(field.type)]
    packed = {name: "DELTA_BINARY_PACKED" for name in numbers if name not in _AS_DICTIONARY}
    return pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        use_dictionary=[*texts, *(name for name in _AS_DICTIONARY if name in schema.names)],
        column_encoding=packed,
        write_statistics=[name for name in with_statistics if name in schema.names],
        store_schema=False,  # names of Arrow's types, a fifth of a small file
    )


def _write(table: Any, marks: Mapping[str, str], sink: Any) -> None:
    whole = pa.BufferOutputStream()
    with open_writer(whole, table.schema) as writer:
        writer.write_table(table, row_group_size=_ROWS_PER_GROUP)
        writer.add_key_value_metadata(marks)
    data = memoryview(whole.getvalue())
    footer = len(data) - _END.size - len(_checked_end(pa.BufferReader(data)))
    sink.write(data[:footer])
    sink.write(_SEAL.pack(_SEAL_MAGIC, zlib.crc32(data)))
    sink.write(data[footer:])


def _segment_of(footer: bytes, table: RecordingTable) -> str | None:
    """The segment of a file with this footer; None if it names none. Raises ValueError for another table."""
    marked = _mark(footer, _TABLE)
    own = _OWN_COLUMN[table]
    if marked is None and bytes([len(own)]) + own not in footer:
        raise ValueError(f"it is not a table {table.value} of a segment: files were mixed up")
    if marked not in (None, table.value):
        raise ValueError(f"it is the table {marked!r:.20} of a segment, and not {table.value}: files were mixed up")
    return _mark(footer, _SEGMENT)


def _mark(footer: bytes, key: str) -> str | None:
    """A value of the footer's metadata: key and value are strings in Thrift's compact protocol, each after its
    length."""
    start = b"\x18" + bytes([len(key)]) + key.encode() + b"\x18"
    at = footer.rfind(start) + len(start)
    if at < len(start) or at >= len(footer):
        return None
    return footer[at + 1 : at + 1 + footer[at]].decode("ascii", "replace")


def _is_text(field: Any) -> bool:
    return bool(pa.types.is_string(field.type) or pa.types.is_dictionary(field.type))


def read_segment(storage: Storage, place: SegmentPlace) -> SegmentScenes:
    """The scenes of a segment. Raises RecordingError, FileNotFoundError if a table is missing."""
    return SegmentScenes(read_tables(storage, place), storage.name(place.path(RecordingTable.SCENES)))


def read_tables(storage: Storage, place: SegmentPlace, *, of_subjects: Sequence[str] | None = None) -> SegmentTables:
    """The tables of a segment. ``of_subjects``: columns to read of ``vms`` and ``vcpus``; None: all. Raises as
    ``read_segment`` does."""
    columns = {RecordingTable.VMS: of_subjects, RecordingTable.VCPUS: of_subjects}
    found = {table: _read(storage, place, table, columns=columns.get(table)) for table in RecordingTable}
    _check_same(storage, place, {table: segment for table, (_, segment) in found.items()})
    return SegmentTables(**{table.value: rows for table, (rows, _) in found.items()})


def read_heads(storage: Storage, place: SegmentPlace) -> list[Mapping[str, Any]]:
    """Time, boot and source of each scene of a segment. Raises as ``read_segment`` does."""
    path = place.path(RecordingTable.SCENES)
    table, _ = _read(storage, place, RecordingTable.SCENES, columns=_HEADS)
    try:
        heads: list[Mapping[str, Any]] = table.set_column(0, "time", table["time"].cast(pa.int64())).to_pylist()
    except (pa.ArrowException, KeyError) as error:
        raise RecordingError(f"its tables lack what a segment has: {error}", path=storage.name(path)) from None
    return heads


def scene_keys(storage: Storage, place: SegmentPlace) -> list[SceneKey]:
    """The keys of the scenes of a segment. Raises as ``read_segment`` does."""
    rows = read_heads(storage, place)
    return [(row["origin_host"], row["boot"], row["boottime_ns"], row["time"]) for row in rows]


def read_span(storage: Storage, place: SegmentPlace) -> tuple[int, int]:
    """CLOCK_REALTIME of the first and the last scene of a segment. Raises as ``read_segment`` does."""
    path = place.path(RecordingTable.SCENES)
    try:
        with storage.open(path) as source:
            footer = pq.read_metadata(source)
        groups = [footer.row_group(number).column(0).statistics for number in range(footer.num_row_groups)]
        ends = [each for group in groups for each in (group.min_raw, group.max_raw)]
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, AttributeError):  # no statistics
        ends = [row["time"] for row in read_heads(storage, place)]
    return min(ends, default=0), max(ends, default=0)


def check_segment(storage: Storage, place: SegmentPlace, *, is_whole: bool) -> None:
    """Check that the files of a segment in a directory are its tables. ``is_whole``: check all bytes too, which takes
    as long as reading them. Raises RecordingError, FileNotFoundError."""
    segments: dict[RecordingTable, str | None] = {}
    for table in RecordingTable:
        path = storage.local(place.path(table))
        try:
            require_file(path)
            with path.open("rb") as file:
                footer = _checked_whole(file)[0] if is_whole else _checked_end(file)
            segments[table] = _segment_of(footer, table)
        except FileNotFoundError:
            raise
        except (OSError, ValueError, struct.error) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise RecordingError(f"it cannot be read: {reason}", path=str(path)) from None
    _check_same(storage, place, segments)


def _checked_whole(file: BinaryIO) -> tuple[bytes, bool]:
    """The footer of a file, after a check of all its bytes, and whether a checksum proves that they are as written; a
    file without a seal has none. Raises ValueError if the checksum differs.

    The bytes are read and not mapped: if the disk cannot read a mapped page, or the file is truncated, the kernel sends
    SIGBUS. Source: mmap(2).
    """
    footer = _checked_end(file)
    before = file.seek(0, os.SEEK_END) - _END.size - len(footer) - _SEAL.size
    file.seek(0)
    crc = crc_of(file, max(0, before))
    magic, expected = _SEAL.unpack(file.read(_SEAL.size)) if before > 0 else (b"", 0)
    is_like_it = sum(a == b for a, b in zip(magic, _SEAL_MAGIC, strict=False)) >= _ENOUGH_OF_MAGIC
    is_sealed = is_like_it or _SEALED.encode() in footer
    if is_sealed and expected != zlib.crc32(file.read(), crc):
        raise ValueError("its checksum is not that of its bytes")
    return footer, is_sealed


def crc_of(file: BinaryIO, length: int) -> int:
    """The CRC-32 of the next bytes of a file. Raises ValueError if it has fewer."""
    crc = 0
    while length > 0:
        block = file.read(min(length, _BLOCK_BYTES))
        if not block:
            raise ValueError("it was truncated while it was read")
        crc = zlib.crc32(block, crc)
        length -= len(block)
    return crc


def _checked_end(file: BinaryIO) -> bytes:
    """The footer of a file, without reading the other bytes. Raises ValueError if it has none."""
    size = file.seek(0, os.SEEK_END)
    if size < _END.size:
        raise ValueError("it is shorter than any Parquet file")
    file.seek(size - _END.size)
    length, magic = _END.unpack(file.read(_END.size))
    start = size - _END.size - int(length)
    if magic != _MAGIC or start < len(_MAGIC):
        raise ValueError("it does not end as a Parquet file does")
    file.seek(start)
    return file.read(length)


def _check_same(storage: Storage, place: SegmentPlace, segments: Mapping[RecordingTable, str | None]) -> None:
    """Raises RecordingError if the tables at one place are of different segments."""
    [(most, count)] = Counter(segments.values()).most_common(1)
    if count == len(segments):
        return
    odd = next(table for table, segment in segments.items() if segment != most)
    like = next(table for table, segment in segments.items() if segment == most)
    reason = f"it is of another segment than {storage.name(place.path(like))}: files were mixed up"
    raise RecordingError(reason, path=storage.name(place.path(odd)))


def last_epochs(storage: Storage, place: SegmentPlace) -> tuple[I64Array, I64Array]:
    """The epochs of the VMs and of the vCPUs of the last scene of a segment. Raises as ``read_segment`` does."""
    last = max((row["time"], row["boottime_ns"]) for row in read_heads(storage, place))
    tables = read_tables(storage, place, of_subjects=["time", "boottime_ns", "row", "epoch"])
    return _epochs_at(tables.vms, last), _epochs_at(tables.vcpus, last)


def _epochs_at(table: Any, at: tuple[int, int]) -> I64Array:
    """The epochs in the order of the scene's rows."""
    time, boottime = table["time"].cast(pa.int64()).to_numpy(), table["boottime_ns"].to_numpy()
    there = (time == at[0]) & (boottime == at[1])
    rows: I64Array = table["row"].to_numpy()[there]
    epochs: I64Array = table["epoch"].to_numpy()[there]
    return epochs[np.argsort(rows)]


def _read(
    storage: Storage, place: SegmentPlace, which: RecordingTable, *, columns: Sequence[str] | None = None
) -> tuple[Any, str | None]:
    """A table, and the segment that it names. Raises MemoryError if memory is exhausted, which may be due to damaged
    sizes in a file without a seal."""
    is_sealed = True
    path = place.path(which)
    try:
        with storage.open(path) as source:
            data = source.read_buffer()
        footer, is_sealed = _checked_whole(pa.BufferReader(data))
        segment = _segment_of(footer, which)
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        table = file.read(columns=None if columns is None else list(columns))
        table.validate(full=True)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
        if isinstance(error, MemoryError) and is_sealed:
            raise
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise RecordingError(f"it cannot be read: {reason}", path=storage.name(path)) from None
    return table, segment
