"""Dumped rows as CSV and as JSON lines.

CSV has one column per word: a histogram is ``NAME.0``, ``NAME.1`` …, as in the Parquet files of a recording.
Rule: an unknown value is an empty cell, or null.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..units import rfc3339
from .csv_line import csv_line
from .dump import DumpedScene, DumpRow
from .jsonout import dump, to_value

_HEAD = ("time", "host", "id", "name", "uuid", "vcpu")


def jsonl_lines(scenes: Iterable[DumpedScene]) -> Iterator[str]:
    """A line of JSON for each row."""
    for scene in scenes:
        for row in scene.rows():
            yield dump(to_value(row), one_line=True)


class CsvText:
    """Writes rows of CSV (RFC 4180) under a header that the stats of the first scene and the metrics determine.

    ``missing``: stats that later scenes have but the header lacks.
    """

    def __init__(self, metrics: Sequence[str]) -> None:
        self._columns: dict[str, int] | None = None
        self._metrics = tuple(metrics)
        self.missing: dict[str, None] = {}

    def lines(self, scenes: Iterable[DumpedScene]) -> Iterator[str]:
        """The header, and a line for each row of each scene."""
        for scene in scenes:
            if self._columns is None:
                self._columns = {column.key: column.descriptor.size for column in scene.columns}
                yield csv_line([*_HEAD, *_column_names(self._columns), *self._metrics])
            yield from self._rows(scene, self._columns)

    def _rows(self, scene: DumpedScene, columns: Mapping[str, int]) -> Iterator[str]:
        self.missing |= {column.key: None for column in scene.columns if column.key not in columns}
        for row in scene.rows():
            metrics = (row.metrics[name] for name in self._metrics)
            yield csv_line([*_head_cells(row), *_stat_cells(row, columns), *metrics])


def _stat_cells(row: DumpRow, columns: Mapping[str, int]) -> Iterator[object]:
    for key, size in columns.items():
        value = row.stats.get(key)
        words = value if isinstance(value, list) else [value]
        yield from words if len(words) == size else [None] * size


def _column_names(columns: Mapping[str, int]) -> Iterator[str]:
    for key, size in columns.items():
        yield from [key] if size == 1 else (f"{key}.{word}" for word in range(size))


def _head_cells(row: DumpRow) -> tuple[object, ...]:
    return rfc3339(row.time.ns), row.host, str(row.id), row.name, row.uuid, row.vcpu
