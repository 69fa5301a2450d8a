"""Recordings thinned to the ends of windows, as tables in the memory of DuckDB.

A question over a fleet reads a few scenes of each host and few of hundreds of columns. Here both are chosen once: the
files are read once, and each query after that reads a small table. Scenes are chosen as a ring thins them: the first of
each so many seconds of CLOCK_BOOTTIME, and the last one of a series. What is thinned has the relations of ``tables``,
under another schema, so a query over raw relations is one over these too.
Rule: counts are since a VM began, so a thinned recording has the same increases over longer windows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ..analysis.apicv.facts import PROVIDER
from ..analysis.apicv.hosts import HOST_PROVIDER
from ..formula.check import Formula
from ..formula.tree import QuantileTerm, ShareTerm, StatName, StatTerm, walk
from ..schema import Descriptor, Schema, Scope
from ..store.names import column_names, schema_column
from .engine import SqlStore
from .raw_columns import FIXED
from .recordings import RecordingStore
from .spelling import quote
from .stat_columns import RecordedSchema
from .tables import RAW, SUBJECTS, RawTable

THIN: Final = "thin"
"""The schema of the thinned relations."""
WINDOWS: Final = 3
"""Windows of a recording, where nobody asked for a length: enough for rules that need two in a row."""

_BY_FACTS: Final = ("settings", HOST_PROVIDER)
"""Providers all of whose statistics the facts of rules read."""


@dataclass(frozen=True, slots=True)
class NeededStats:
    """The statistics that rules, metrics and the facts of rules read."""

    names: frozenset[StatName]

    @classmethod
    def of(cls, asked: Iterable[Formula]) -> NeededStats:
        """Those of formulas, with those of facts."""
        names = {
            part.stat
            for formula in asked
            for part, _ in walk(formula.expression, formula.scope)
            if isinstance(part, StatTerm | QuantileTerm | ShareTerm)
        }
        return cls(frozenset(names | {StatName("kvm", "exits"), StatName("kvm", "sum_exits")}))

    def has(self, schema: Schema, stat: Descriptor) -> bool:
        """Whether a statistic is read. Of the provider apicv, states are and times are not."""
        if schema.provider == PROVIDER:
            return stat.is_boolean
        return schema.provider in _BY_FACTS or StatName(schema.provider, stat.name) in self.names


@dataclass(frozen=True, slots=True)
class RecordedSpan:
    """How long the longest series of scenes lasts, and how far apart its scenes are in the mean."""

    lasts_s: float
    step_s: float

    def window_s(self, asked_s: float | None) -> float:
        """The length of a window: what was asked for, else a third of the time, at least from scene to scene."""
        length_s = self.lasts_s / WINDOWS if asked_s is None else asked_s
        return max(1.0, math.ceil(max(length_s, self.step_s)))


def read_span(store: SqlStore) -> RecordedSpan:
    """That of the recordings of a store."""
    found = store.query(f"""
        SELECT max(lasts_ns), max(lasts_ns / greatest(scenes - 1, 1)) FROM (
            SELECT max(boottime_ns) - min(boottime_ns) AS lasts_ns, count(*) AS scenes
            FROM {RAW}.scenes GROUP BY {_SERIES}
        )""")
    [(lasts_ns, step_ns)] = found.rows()
    return RecordedSpan((lasts_ns or 0) / 1e9, (step_ns or 0) / 1e9)


def thin_recordings(store: RecordingStore, window_s: float, stats: NeededStats) -> None:
    """Make the relations of ``THIN``: scenes ``window_s`` apart, with these statistics."""
    schemas = store.vocabulary.schemas
    store.make(f"CREATE SCHEMA {THIN}")
    store.make(f"CREATE TABLE {THIN}.scenes AS {_scenes(round(window_s * 1e9))}")
    store.make(f"CREATE TABLE {THIN}.documents AS SELECT * FROM {RAW}.documents")
    moments = store.query(f"SELECT DISTINCT boottime_ns FROM {THIN}.scenes").columns[0].values
    at_them = f"boottime_ns IN ({', '.join(map(str, moments))})" if moments else "false"
    for scope, table in SUBJECTS.items():
        names = ", ".join(map(quote, _columns(table, scope, schemas, stats)))
        store.make(f"CREATE TABLE {THIN}.{table.value} AS SELECT {names} FROM {RAW}.{table.value} WHERE {at_them}")


_SERIES: Final = "host, coalesce(boot, ''), source, simulated"


def _scenes(window_ns: int) -> str:
    """The first scene of each window of each series, and the last scene: what a ``WindowPlan`` of this length reads."""
    return f"""
        SELECT * FROM {RAW}.scenes
        QUALIFY boottime_ns = max(boottime_ns) OVER (PARTITION BY {_SERIES})
            OR boottime_ns = min(boottime_ns) OVER (PARTITION BY {_SERIES}, boottime_ns // {window_ns})"""


_LEFT_OUT: Final = {
    Scope.VM: frozenset({"row", "uuid", "label"}),
    Scope.VCPU: frozenset({"row", "time", "name", "tid"}),
}
"""What no question over a fleet asks for."""


def _columns(table: RawTable, scope: Scope, schemas: Sequence[RecordedSchema], stats: NeededStats) -> Sequence[str]:
    """Those that say who and when, and those of the statistics."""
    found: dict[str, None] = dict.fromkeys(name for name in FIXED[table] if name not in _LEFT_OUT[scope])
    for its in schemas:
        if its.schema.scope is scope:
            found.update(dict.fromkeys(_stat_columns(its, stats)))
    return list(found)


def _stat_columns(its: RecordedSchema, stats: NeededStats) -> Iterator[str]:
    schema = its.schema
    yield schema_column(schema.provider, its.lane)
    words = {
        word
        for stat in schema.descriptors
        if stats.has(schema, stat)
        for word in range(stat.offset // 8, stat.offset // 8 + stat.size)
    }
    yield from (column for column, word in column_names(schema, its.lane) if word in words)
