"""Segments: the Parquet files that the scenes of a journal become.

Encodings are part of the format, since every reader has to know them: numbers are DELTA_BINARY_PACKED, texts
dictionaries, all compressed by zstd. Times of scenes recur for each subject, so they are dictionaries too.
Before the footer of each file stand 8 bytes that no reader of Parquet looks at: ``KVMC`` and the CRC-32 of all other
bytes, so that no damage is taken for numbers. A file without them is read too: version 1 of the layout had none.
Source: parquet-format, Encodings.md and README.md, File format: a reader finds the footer from the end of the file.
What pyarrow, DuckDB and ClickHouse read is held by tests/store.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import RecordingError
from ..sample import I64Array
from .columns import SegmentScenes, SegmentTables
from .layout import RecordingTable, SegmentPlace
from .storage import Storage, require_file

_SEAL = struct.Struct("<4sI")
_SEAL_MAGIC = b"KVMC"
_ENOUGH_OF_MAGIC = 2
_IS_SEALED = {"kvmscope.sealed": "1"}
"""In the footer's metadata too, or damage of the magic would make it a file without a seal."""
_END = struct.Struct("<I4s")

_ROWS_PER_GROUP = 1 << 17
_ZSTD_LEVEL = 3
_HEADS = ["time", "boottime_ns", "origin_host", "boot", "source", "simulated"]
_AS_DICTIONARY = ("time", "boottime_ns")
_WITH_STATISTICS = ("time", "vm", "name")
"""What readers choose rows by. Statistics of each counter would be a tenth of a small file."""


def write_segment(storage: Storage, place: SegmentPlace, tables: Mapping[RecordingTable, Any]) -> None:
    """Write all tables; the segment is there when the last one is. Raises OSError."""
    for table in RecordingTable:  # in their order: SCENES is the last
        storage.write(place.path(table), partial(_write, tables[table]))


def _write(table: Any, sink: Any) -> None:
    texts = [field.name for field in table.schema if _is_text(field)]
    numbers = [field.name for field in table.schema if pa.types.is_integer(field.type)]
    packed = {name: "DELTA_BINARY_PACKED" for name in numbers if name not in _AS_DICTIONARY}
    whole = pa.BufferOutputStream()
    with pq.ParquetWriter(
        whole,
        table.schema,
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        use_dictionary=[*texts, *(name for name in _AS_DICTIONARY if name in table.column_names)],
        column_encoding=packed,
        write_statistics=[name for name in _WITH_STATISTICS if name in table.column_names],
        store_schema=False,  # names of Arrow's types; they would be a fifth of a small file
    ) as writer:
        writer.write_table(table, row_group_size=_ROWS_PER_GROUP)
        writer.add_key_value_metadata(_IS_SEALED)
    data = memoryview(whole.getvalue())
    footer = _footer_start(data)
    sink.write(data[:footer])
    sink.write(_SEAL.pack(_SEAL_MAGIC, zlib.crc32(data)))
    sink.write(data[footer:])


def _footer_start(data: memoryview) -> int:
    """Where the footer of a file begins. Raises ValueError if it cannot be there."""
    length, magic = _END.unpack_from(data, max(0, len(data) - _END.size))
    start = len(data) - _END.size - int(length)
    if magic != b"PAR1" or start < len(magic):
        raise ValueError("it does not end as a Parquet file does")
    return start


def _check_seal(data: memoryview) -> bool:
    """Whether each byte is known to be as it was written; a file without a seal does not say. Raises ValueError if one
    is not."""
    if len(data) < _END.size:
        raise ValueError("it is shorter than any Parquet file")
    footer = _footer_start(data)
    start = footer - _SEAL.size
    magic, crc = _SEAL.unpack_from(data, start) if start > 0 else (b"", 0)
    is_like_it = sum(a == b for a, b in zip(magic, _SEAL_MAGIC, strict=False)) >= _ENOUGH_OF_MAGIC
    is_sealed = is_like_it or b"kvmscope.sealed" in data[footer:].tobytes()
    if is_sealed and crc != zlib.crc32(data[footer:], zlib.crc32(data[:start])):
        raise ValueError("its checksum is not that of its bytes")
    return is_sealed


def _is_text(field: Any) -> bool:
    return bool(pa.types.is_string(field.type) or pa.types.is_dictionary(field.type))


def read_segment(storage: Storage, place: SegmentPlace) -> SegmentScenes:
    """The scenes of a segment. Raises RecordingError; FileNotFoundError if a table is not there."""
    return SegmentScenes(read_tables(storage, place), storage.name(place.path(RecordingTable.SCENES)))


def read_tables(storage: Storage, place: SegmentPlace, *, of_subjects: Sequence[str] | None = None) -> SegmentTables:
    """The tables of a segment, of ``vms`` and ``vcpus`` these columns or all. Raises as ``read_segment`` does."""
    columns = {RecordingTable.VMS: of_subjects, RecordingTable.VCPUS: of_subjects}
    return SegmentTables(
        **{table.value: _read(storage, place.path(table), columns=columns.get(table)) for table in RecordingTable}
    )


def read_heads(storage: Storage, place: SegmentPlace) -> list[Mapping[str, Any]]:
    """Time, boot and source of each scene of a segment. Raises as ``read_segment`` does."""
    path = place.path(RecordingTable.SCENES)
    table = _read(storage, path, columns=_HEADS)
    try:
        heads: list[Mapping[str, Any]] = table.set_column(0, "time", table["time"].cast(pa.int64())).to_pylist()
    except (pa.ArrowException, KeyError) as error:
        raise RecordingError(f"its tables lack what a segment has: {error}", path=storage.name(path)) from None
    return heads


def check_file(path: Path) -> None:
    """Read a file of a segment whole, and nothing of what it says. Raises RecordingError if a byte is not as it was
    written, FileNotFoundError."""
    try:
        require_file(path)
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            memoryview(data) as view,
        ):
            _check_seal(view)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, struct.error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RecordingError(f"it cannot be read: {reason}", path=str(path)) from None


def last_epochs(storage: Storage, place: SegmentPlace) -> tuple[I64Array, I64Array]:
    """The epochs of the VMs and of the vCPUs of the last scene of a segment. Raises as ``read_segment`` does."""
    last = max((row["time"], row["boottime_ns"]) for row in read_heads(storage, place))
    tables = read_tables(storage, place, of_subjects=["time", "boottime_ns", "row", "epoch"])
    return _epochs_at(tables.vms, last), _epochs_at(tables.vcpus, last)


def _epochs_at(table: Any, at: tuple[int, int]) -> I64Array:
    """In the order of the rows of the scene."""
    time, boottime = table["time"].cast(pa.int64()).to_numpy(), table["boottime_ns"].to_numpy()
    there = (time == at[0]) & (boottime == at[1])
    rows: I64Array = table["row"].to_numpy()[there]
    epochs: I64Array = table["epoch"].to_numpy()[there]
    return epochs[np.argsort(rows)]


def _read(storage: Storage, path: str, *, columns: Sequence[str] | None = None) -> Any:
    """Raises MemoryError if there is no memory; sizes in a file without a seal may be what is wrong."""
    is_sealed = True
    try:
        with storage.open(path) as source:
            data = source.read_buffer()
        is_sealed = _check_seal(memoryview(data))
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
    return table
