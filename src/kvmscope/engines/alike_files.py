"""Parquet files grouped by schema: files with the same column names and types together.

A footer begins with the schema, so files with the same schema begin their footers with the same bytes. Most recordings
of a fleet have one of a few schemas: only the first footer of each schema is parsed; the others are compared with it
byte by byte.
Source: parquet-format, README.md (File format) and parquet.thrift: FileMetaData is a version, the schema and the number
of rows, in Thrift's compact protocol. A string is its length and its bytes. A SchemaElement ends with a byte 0, and the
number of rows begins with the byte 0x16 (the next field, of 64 bits); nothing in a SchemaElement is a field of 64 bits.
"""

from __future__ import annotations

import os
import struct
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

_END: Final = struct.Struct("<I4s")
_SCHEMA_END: Final = b"\x00\x16"
_SHORT: Final = 0x80
"""From this many bytes on, the length of a string takes more than one byte."""


def alike_files(files: Sequence[str]) -> list[list[str]]:
    """The files, grouped by columns and their order.

    A file that cannot be read forms its own group, so its reader reports the error.
    """
    known: dict[bytes, Any] = {}
    groups = defaultdict[Any, list[str]](list)
    for file in files:
        groups[_columns(file, known)].append(file)
    return list(groups.values())


def _columns(file: str, known: dict[bytes, Any]) -> Any:
    """Names and types of the columns of a file, or its name if it cannot be read. ``known``: columns of other files by
    the first bytes of their footers."""
    try:
        footer = _footer(file)
        found = next((columns for start, columns in known.items() if footer.startswith(start)), None)
        if found is None:
            found = pq.read_schema(file).remove_metadata()
            known |= dict.fromkeys(_schema_bytes(footer, found.names), found)
    except (OSError, ValueError, struct.error, pa.ArrowException):
        return file
    return found


def _footer(file: str) -> bytes:
    with Path(file).open("rb", buffering=0) as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(size - _END.size)
        length, _ = _END.unpack(opened.read(_END.size))
        opened.seek(size - _END.size - length)
        return opened.read(length)


def _schema_bytes(footer: bytes, names: Sequence[str]) -> list[bytes]:
    """The footer up to the end of the schema; empty if a column name is too long to be found."""
    end = 0
    for name in names:
        encoded = name.encode()
        at = footer.find(bytes([len(encoded)]) + encoded, end) if len(encoded) < _SHORT else -1
        if at < 0:
            return []
        end = at + 1 + len(encoded)
    at = footer.find(_SCHEMA_END, end)
    return [] if at < 0 else [footer[: at + len(_SCHEMA_END)]]
