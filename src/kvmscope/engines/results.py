"""Arrow's record batches as plain values: for front ends, and for computations in Python.

Rule: a number that is not finite is unknown, and integers of any width stay integers.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import OutputError, UsageError
from .engine import ColumnKind, QueryResult, ResultColumn

_NS_OF = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def plain_result(batches: Iterable[pa.RecordBatch]) -> QueryResult:
    """A whole result. The batches have the same columns; there is at least one."""
    return plain_table(pa.Table.from_batches(list(batches)))


def plain_table(table: pa.Table) -> QueryResult:
    """A complete result."""
    names = _unlike(table.column_names)
    return QueryResult(tuple(map(plain_column, names, table.columns)))


def csv_results(batches: Iterable[pa.RecordBatch]) -> Iterator[QueryResult]:
    """A result batch by batch, as it arrives."""
    return (plain_result([batch]) for batch in batches)


def write_parquet(batches: Iterable[pa.RecordBatch], path: Path) -> int:
    """Write a result to a new file as it arrives. Returns the number of rows. An error leaves no file.

    Raises UsageError if the file exists, OutputError if it cannot be written.
    """
    rows, new = 0, path.with_name(path.name + _NEW)
    if path.exists():
        raise UsageError(f"{path} already exists; name a new file")
    writer = None
    try:
        for batch in batches:
            named = batch.rename_columns(_unlike(batch.schema.names))
            writer = writer or pq.ParquetWriter(new, named.schema, compression="zstd")
            writer.write_batch(named)
            rows += len(batch)
        if writer is not None:
            writer.close()
            new.rename(path)
    except (OSError, pa.ArrowException) as error:
        raise OutputError(str(error).partition("\n")[0], getattr(error, "errno", None) or errno.EIO) from None
    finally:
        new.unlink(missing_ok=True)
    return rows


_NEW = ".new"


def plain_column(name: str, column: Any) -> ResultColumn:
    """One column of a result."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return plain_column(name, column.cast(kind.value_type))
    if pa.types.is_timestamp(kind):
        factor = _NS_OF[kind.unit]
        numbers = column.cast(pa.int64()).to_pylist()
        return ResultColumn(name, ColumnKind.TIME, [None if n is None else n * factor for n in numbers])
    for is_it, its, write in _WRITERS:
        if is_it(kind):
            return ResultColumn(name, its, [None if value is None else write(value) for value in column.to_pylist()])
    return ResultColumn(name, ColumnKind.OTHER, [None if value is None else str(value) for value in _values(column)])


def _values(column: Any) -> list[Any]:
    """The values of a column of a rare type. Python has no type for nanoseconds, so these become Arrow's own text."""
    return [value.as_py() if not pa.types.is_temporal(column.type) else value for value in column]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: Decimal) -> int | float | None:
    return int(value) if value == value.to_integral_value() else _finite(float(value))


def _nested(value: Any) -> Any:
    """A list or a structure of plain values."""
    if isinstance(value, dict):
        return {str(key): _nested(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_nested(each) for each in value]
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, Decimal):
        return _number(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


_WRITERS: Sequence[tuple[Callable[[Any], bool], ColumnKind, Callable[[Any], Any]]] = (
    (pa.types.is_boolean, ColumnKind.BOOLEAN, bool),
    (pa.types.is_integer, ColumnKind.NUMBER, int),
    (pa.types.is_floating, ColumnKind.NUMBER, _finite),
    (pa.types.is_decimal, ColumnKind.NUMBER, _number),
    (pa.types.is_string, ColumnKind.TEXT, str),
    (pa.types.is_large_string, ColumnKind.TEXT, str),
    (pa.types.is_string_view, ColumnKind.TEXT, str),
    (pa.types.is_binary, ColumnKind.TEXT, lambda value: value.decode("utf-8", "replace")),
    (pa.types.is_large_binary, ColumnKind.TEXT, lambda value: value.decode("utf-8", "replace")),
    (pa.types.is_nested, ColumnKind.OTHER, _nested),
    (pa.types.is_null, ColumnKind.TEXT, str),
)


def _unlike(names: Sequence[str]) -> list[str]:
    """Unique names: repeated names get a number appended, since JSON and Parquet need each name once."""
    found: list[str] = []
    for name in names:
        number = 2
        new = name
        while new in found:
            new, number = f"{name}_{number}", number + 1
        found.append(new)
    return found
