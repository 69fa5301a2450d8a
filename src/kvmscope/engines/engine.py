"""The SQL interface of a store of recordings: one protocol for DuckDB over files, embedded ClickHouse and its server.

``recordings.open_recordings`` and ``clickhouse.open_clickhouse`` open one. All have the relations of ``tables`` and the
views of ``vocabulary``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from ..errors import RecordingError
from .refusal import QueryEngine

if TYPE_CHECKING:
    import pyarrow as pa

    from .vocabulary import Vocabulary


class ColumnKind(Enum):
    """What a column of a result holds. ``TIME``: nanoseconds since 1970. ``OTHER``: lists, or another type as text."""

    NUMBER = "number"
    BOOLEAN = "boolean"
    TEXT = "text"
    TIME = "time"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """A column of a result: its values in order, None where NULL or not a finite number."""

    name: str
    kind: ColumnKind
    values: Sequence[Any]


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The result of a query as plain values."""

    columns: tuple[ResultColumn, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def __len__(self) -> int:
        return len(self.columns[0].values) if self.columns else 0

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """The rows in their order."""
        return zip(*(column.values for column in self.columns), strict=True)


class SqlStore(Protocol):
    """Recordings behind an engine. ``damage``: the parts that cannot be read. Close when done."""

    dialect: QueryEngine
    damage: Sequence[RecordingError]

    @property
    def vocabulary(self) -> Vocabulary:
        """The statistics that the recordings have."""
        ...

    def query(self, sql: str) -> QueryResult:
        """The result of a query of kvmscope's own. Raises QueryError, RecordingError, Unavailable."""
        ...

    def ask(self, sql: str) -> Iterator[pa.RecordBatch]:
        """The result of a query that a user typed, batch by batch. There is at least one, which may have no rows.

        Raises QueryError if the query is invalid or does more than read, RecordingError, Unavailable.
        """
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
