"""Recordings thinned to the ends of windows, as tables in the memory of DuckDB.

A query over a fleet reads a few scenes of each host and a few of hundreds of columns. Both are chosen here: files or
ClickHouse are read once, and each later query reads a small table. Scenes are chosen as a ring thins them: the first in
each period of CLOCK_BOOTTIME, and the last one of a series. A thinned recording has the relations of ``tables`` under
another schema, so any query over raw relations works on it too.
Rule: counts are cumulative from the start of a VM, so a thinned recording has the same increases over longer windows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from ..analysis.apicv.facts import INHIBIT, PROVIDER
from ..analysis.apicv.hosts import HOST_PROVIDER
from ..analysis.exit_reasons import PROVIDER as EXITS
from ..analysis.exit_reasons import judged_reason
from ..catalog.findings import load_findings
from ..catalog.metrics import formulas, load_metrics
from ..formula.check import Formula, walk_with_metrics
from ..formula.tree import Expression, FactTerm, Leaf, StatName, StatTerm
from ..schema import Descriptor, Schema, Scope
from ..store.names import column_names, schema_column
from .columns import BlockSet
from .engine import SqlStore
from .raw_columns import FIXED
from .recorded_documents import RecordedDocuments
from .spelling import quote
from .stat_columns import COUNTS, RecordedSchema
from .tables import RAW, SUBJECTS, RawTable

THIN: Final = "thin"
"""The schema of the thinned scenes and documents. The names of the schemas of subjects begin with it."""
WINDOWS: Final = 3
"""Default number of windows of a recording: enough for rules that need two in a row."""

_ACTIVE: Final = "apicv_active"
_MOST_LISTED: Final = 2000
"""Up to this number of VMs, rows are selected by VM; beyond it, reading all rows of their hosts takes no longer."""
_BY_FACTS: Final = ("settings", HOST_PROVIDER)
"""Providers all of whose statistics the facts of rules read."""
_KVM: Final = "kvm"
_COSTLIEST_EXIT: Final = "costliest_exit"
_FOR_FACTS: Final = frozenset(StatName(_KVM, name) for name in ("exits", "sum_exits", "irq_injections"))


@dataclass(frozen=True, slots=True)
class NeededStats:
    """The statistics that formulas and the facts of rules read. ``has_counts``: every count of KVM too.
    ``has_exit_times``: the times of all reasons of exits that the fact ``costliest_exit`` compares."""

    names: frozenset[StatName] = frozenset()
    has_counts: bool = False
    has_exit_times: bool = False

    @classmethod
    def of(cls, asked: Iterable[Formula], metrics: Mapping[str, Formula]) -> NeededStats:
        """The statistics of formulas, of the metrics that they refer to, and of facts."""
        parts = [part for formula in asked for part, _ in walk_with_metrics(formula.expression, formula.scope, metrics)]
        names = frozenset(part.stat for part in parts if isinstance(part, Leaf))
        asks_for_times = any(isinstance(part, FactTerm) and part.name == _COSTLIEST_EXIT for part in parts)
        return cls(names | _FOR_FACTS, has_exit_times=asks_for_times)

    def has(self, schema: Schema, stat: Descriptor) -> bool:
        """Whether a statistic is read. Of the provider apicv, states are read and times are not."""
        if schema.provider == PROVIDER:
            return stat.is_boolean and (stat.name.startswith(INHIBIT) or stat.name == _ACTIVE)
        if self.has_counts and schema.provider == _KVM and stat.kind in COUNTS:
            return True
        if self.has_exit_times and schema.provider == EXITS and judged_reason(stat.name) is not None:
            return True
        return schema.provider in _BY_FACTS or StatName(schema.provider, stat.name) in self.names

    def narrowed(self, blocks: BlockSet) -> BlockSet:
        """The same blocks with these statistics only."""
        return BlockSet(tuple(replace(block, schema=self._of_schema(block.schema)) for block in blocks.blocks))

    def _of_schema(self, schema: Schema) -> Schema:
        kept = tuple(stat for stat in schema.descriptors if self.has(schema, stat))
        return Schema(schema.provider, schema.scope, kept, schema.data_size)


def histograms_of(
    expression: Expression, metrics: Mapping[str, Formula], histograms: frozenset[StatName]
) -> Iterator[StatName]:
    """The histograms whose buckets are read by an expression or a metric that it refers to, even if only to count
    values."""
    for part, _ in walk_with_metrics(expression, Scope.VM, metrics):
        if isinstance(part, Leaf) and (not isinstance(part, StatTerm) or part.stat in histograms):
            yield part.stat


@dataclass(frozen=True, slots=True)
class RecordedSpan:
    """The length of the longest series of scenes, and the mean distance of its scenes."""

    lasts_s: float
    step_s: float

    def window_s(self, asked_s: float | None) -> float:
        """The length of a window: the requested one, else a third of the span, but at least the distance of scenes."""
        length_s = self.lasts_s / WINDOWS if asked_s is None else asked_s
        return max(1.0, math.ceil(max(length_s, self.step_s)))


def read_span(store: SqlStore) -> RecordedSpan:
    """The span of the recordings of a store."""
    found = store.query(f"""
        SELECT max(lasts_ns), max(lasts_ns / greatest(scenes - 1, 1)) FROM (
            SELECT max(boottime_ns) - min(boottime_ns) AS lasts_ns, count(*) AS scenes
            FROM {RAW}.scenes GROUP BY {_SERIES}
        )""")
    [(lasts_ns, step_ns)] = found.rows()
    return RecordedSpan((lasts_ns or 0) / 1e9, (step_ns or 0) / 1e9)


class ThinnableStore(SqlStore, Protocol):
    """Recordings whose rows can be kept as tables of DuckDB. ``recorded``: schema of their relations."""

    recorded: str

    def make(self, sql: str) -> None:
        """Run a statement of kvmscope's own in DuckDB."""
        ...

    def keep(self, name: str, query: str) -> None:
        """Keep the rows of a query over the recordings as a table. The recordings may be in another engine."""
        ...

    def rows_of(self, table: RawTable, hosts: Sequence[str]) -> str:
        """A query over the recordings for the rows of a relation on these hosts."""
        ...


class ThinnedRecordings:
    """Makes the thinned relations. VMs are few and have all statistics; vCPUs have those that a query reads."""

    def __init__(self, store: ThinnableStore, window_s: float) -> None:
        """``window_s``: distance of the scenes."""
        self._store = store
        self._made: dict[tuple[NeededStats, _ChosenVms], str] = {}
        store.make(f"CREATE SCHEMA {THIN}")
        store.keep(f"{THIN}.scenes", _scenes(store.recorded, round(window_s * 1e9)))
        store.keep(f"{THIN}.documents", f"SELECT * FROM {store.recorded}.documents")
        self._schemas = RecordedDocuments(store, THIN).schemas
        moments = store.query(f"SELECT DISTINCT boottime_ns FROM {THIN}.scenes").columns[0].values
        self._is_chosen = f"boottime_ns IN ({', '.join(map(str, moments))})" if moments else "false"
        self._add(THIN, Scope.VM, replace(_of_everything(), has_counts=True), _ChosenVms())

    def having(self, stats: NeededStats, hosts: Sequence[str] | None = None, vms: frozenset[int] | None = None) -> str:
        """The schema of relations with these statistics, for these hosts and VMs; None: all."""
        key = stats, _ChosenVms(None if hosts is None else tuple(hosts), vms)
        if key not in self._made:
            self._made[key] = self._make(*key)
        return self._made[key]

    def made(self) -> str:
        """A schema of relations of all hosts, whatever statistics they have."""
        of_all = (name for (_, choice), name in self._made.items() if choice == _ChosenVms())
        return next(of_all, None) or self.having(NeededStats())

    def _make(self, stats: NeededStats, choice: _ChosenVms) -> str:
        name = f"{THIN}_{len(self._made)}"
        self._store.make(f"CREATE SCHEMA {name}")
        self._store.make(f"CREATE VIEW {name}.scenes AS SELECT * FROM {THIN}.scenes")
        self._store.make(f"CREATE VIEW {name}.vms AS SELECT * FROM {THIN}.vms AS r WHERE {choice.condition}")
        self._add(name, Scope.VCPU, stats, choice)
        return name

    def _add(self, schema: str, scope: Scope, stats: NeededStats, choice: _ChosenVms) -> None:
        """Make the relation of a scope."""
        table = SUBJECTS[scope]
        names = ", ".join(map(quote, thinned_columns(table, scope, self._schemas, stats)))
        source = f"{self._store.recorded}.{table.value}"
        if choice.hosts is not None:
            source = f"({self._store.rows_of(table, choice.hosts)})"
        rows = f"SELECT {names} FROM {source} AS r WHERE {self._is_chosen} AND {choice.condition}"
        self._store.keep(f"{schema}.{table.value}", rows)


@dataclass(frozen=True, slots=True)
class _ChosenVms:
    """The VMs whose rows a relation has at least; None: all."""

    hosts: tuple[str, ...] | None = None
    vms: frozenset[int] | None = None

    @property
    def condition(self) -> str:
        """The condition for rows of these VMs, if they are few."""
        if self.vms is None or len(self.vms) > _MOST_LISTED:
            return "true"
        return f"r.vm IN ({', '.join(map(str, sorted(self.vms))) or 'NULL'})"


def _of_everything() -> NeededStats:
    """The statistics that any rule or metric reads."""
    metrics = formulas(load_metrics())
    parts = (part for rule in load_findings() for part in rule.formulas)
    return NeededStats.of([*metrics.values(), *parts], metrics)


_SERIES: Final = "host, coalesce(boot, ''), source, simulated"


def _scenes(schema: str, window_ns: int) -> str:
    """The first scene of each window of each series, and the last scene: what a ``WindowPlan`` of this length reads."""
    names = (name for name in FIXED[RawTable.SCENES] if name not in _LEFT_OUT_OF_SCENES)
    return f"""
        SELECT {", ".join(map(quote, names))} FROM {schema}.scenes
        QUALIFY boottime_ns = max(boottime_ns) OVER (PARTITION BY {_SERIES})
            OR boottime_ns = min(boottime_ns) OVER (PARTITION BY {_SERIES}, boottime_ns - boottime_ns % {window_ns})"""


_LEFT_OUT_OF_SCENES: Final = frozenset({"gaps", "origin_host", "why_not"})
_LEFT_OUT: Final = {
    Scope.VM: frozenset({"row", "uuid", "label"}),
    Scope.VCPU: frozenset({"row", "time", "name", "tid"}),
}
"""Columns that no query over a fleet reads."""


def thinned_columns(
    table: RawTable, scope: Scope, schemas: Sequence[RecordedSchema], stats: NeededStats
) -> Sequence[str]:
    """The columns that identify rows and times, and those of the statistics."""
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
