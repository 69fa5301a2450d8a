"""The columns of the raw relations with their types, as far as known without a recording.

Rule: a query of the vocabulary may name every column listed here; a column that no recording has is NULL.
docs/reference/recordings.md says what each column holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from typing import Final

from ..catalog.stats import load_stats
from ..schema import Scope
from .tables import SUBJECTS, RawTable


class ColumnType(Enum):
    """``TIME``: nanoseconds since 1970, UTC. ``WORD``: 64 bits without a sign. ``TEXTS``: a list."""

    TIME = "time"
    INTEGER = "integer"
    WORD = "word"
    FLOAT = "float"
    BOOLEAN = "boolean"
    TEXT = "text"
    TEXTS = "texts"


_TIMES: Final = {"host": ColumnType.TEXT, "time": ColumnType.TIME, "boottime_ns": ColumnType.INTEGER}

FIXED: Final[Mapping[RawTable, Mapping[str, ColumnType]]] = {
    RawTable.SCENES: {
        **_TIMES,
        "source": ColumnType.TEXT,
        "simulated": ColumnType.BOOLEAN,
        "origin_host": ColumnType.TEXT,
        "boot": ColumnType.TEXT,
        "blocks": ColumnType.TEXTS,
        "gaps": ColumnType.TEXT,
        "machine": ColumnType.TEXT,
        "why_not": ColumnType.TEXT,
    },
    RawTable.DOCUMENTS: {"host": ColumnType.TEXT, "key": ColumnType.TEXT, "text": ColumnType.TEXT},
    RawTable.VMS: {
        **_TIMES,
        "boot": ColumnType.TEXT,
        "vm": ColumnType.WORD,
        "row": ColumnType.INTEGER,
        "epoch": ColumnType.INTEGER,
        "name": ColumnType.TEXT,
        "uuid": ColumnType.TEXT,
        "vmm": ColumnType.TEXT,
        "pid": ColumnType.INTEGER,
        "created_ns": ColumnType.INTEGER,
        "label": ColumnType.TEXT,
        "identity": ColumnType.TEXT,
        "silent_s": ColumnType.FLOAT,
    },
    RawTable.VCPUS: {
        **_TIMES,
        "boot": ColumnType.TEXT,
        "vm": ColumnType.WORD,
        "vcpu": ColumnType.INTEGER,
        "row": ColumnType.INTEGER,
        "epoch": ColumnType.INTEGER,
        "name": ColumnType.TEXT,
        "tid": ColumnType.INTEGER,
    },
}
"""The columns that every recording has, in the relations of both ClickHouse and DuckDB."""

EPISODES: Final = "episodes"
"""The relation of episodes, beside those of ``RawTable``."""

EPISODE_COLUMNS: Final[Mapping[str, ColumnType]] = {
    "recording": ColumnType.TEXT,
    "number": ColumnType.INTEGER,
    "place": ColumnType.TEXT,
    "since": ColumnType.TIME,
    "began": ColumnType.TIME,
    "ended": ColumnType.TIME,
    "why_ended": ColumnType.TEXT,
    "focus": ColumnType.TIME,
    "rules": ColumnType.TEXTS,
    "vms": ColumnType.TEXTS,
    "size_bytes": ColumnType.INTEGER,
}
"""The columns of ``raw.episodes``."""


@cache
def known_columns(table: RawTable) -> Mapping[str, ColumnType]:
    """The columns of a relation, including those of every stat that the catalogue lists by name."""
    scopes = [scope for scope, its in SUBJECTS.items() if its is table]
    return {**FIXED[table], **{name: kind for scope in scopes for name, kind in _of_the_catalogue(scope)}}


def _of_the_catalogue(scope: Scope) -> Iterator[tuple[str, ColumnType]]:
    for entry in load_stats().entries:
        if entry.scope is not scope or entry.template is not None:
            continue
        yield f"{entry.provider}.@schema", ColumnType.TEXT
        name = f"{entry.provider}.{entry.name}"
        for column in [name] if entry.size == 1 else [f"{name}.{bucket}" for bucket in range(entry.size)]:
            yield column, ColumnType.WORD
