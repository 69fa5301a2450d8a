"""A fleet behind SQL: recordings in DuckDB, or ClickHouse. A ``FleetStore``.

Windows are long, since a question over a fleet is about hours of many hosts. ``FleetRelations`` says where the
relations are and how long a window is. Rule: rules and metrics are those of ``rules`` and ``queries``; nothing is
judged here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import TracebackType
from typing import Any, Final, Self

from ..analysis.caveats import Facts, TruthValue, judge_all
from ..catalog.caveats import load_caveats
from ..catalog.findings import Rule, find_rule, load_findings
from ..catalog.metrics import formulas, load_metrics
from ..errors import KvmscopeError
from ..formula.check import Formula
from ..formula.tree import HOST, Level
from ..host.facts import Machine
from ..schema import Schema, Scope
from ..store.documents import DocumentReader
from .columns import BlockSet, PlacedSchema, read_block_sets
from .engine import SqlStore
from .facts import FACT_NAMES, RecordedFacts, read_document_facts
from .fleet import (
    FleetAcceleration,
    FleetFinding,
    FleetFindings,
    FleetHost,
    FleetMetric,
    FleetSchema,
)
from .fleet_hosts import SeenHost, read_hosts, read_interrupts
from .printing import print_query
from .queries import FormulaSet, formula_query
from .refusal import EngineRefusal, QueryEngine
from .relational import Query
from .rules import RuleSet, refused_rules, rule_query
from .spelling import literal
from .stat_columns import RecordedSchema
from .tables import RAW
from .thinning import NeededStats
from .windows import WindowPlan

_PART: Final = "kvmscope: a part of the hosts"
"""Stands for them in the text of a query, which is printed once."""
_PART_VCPUS: Final = 50_000
"""Of hosts that are asked at once: what DuckDB then needs is some hundred MiB."""
_INTERRUPTS_COST: Final = "apicv-inhibited"
"""The rule whose cost is that of interrupts which are not accelerated."""


@dataclass(frozen=True, slots=True)
class FleetRelations:
    """``schema``: of the relations that are asked. ``plan``: their windows; ``window_s``: how long these are.

    ``stats``: the statistics that the relations have of subjects; None for all.
    """

    schema: str
    plan: WindowPlan
    window_s: float
    stats: NeededStats | None = None


class SqlFleet:
    """A ``FleetStore`` over a ``SqlStore``, which it closes."""

    def __init__(self, store: SqlStore, place: str, relations: FleetRelations) -> None:
        self.engine: QueryEngine = store.dialect
        self.place = place
        self.damage: Sequence[KvmscopeError] = store.damage
        self._store = store
        self.relations = relations
        self._metrics: Mapping[str, Formula] = formulas(load_metrics())

    def hosts(self) -> Sequence[FleetHost]:
        return [host.row for host in self._seen]

    def findings(self, *, rule: str | None = None, host: str | None = None) -> FleetFindings:
        rules = load_findings() if rule is None else (find_rule(rule),)
        if rule is None and host is None:  # evidence is most of the query, and nobody reads that of a whole fleet
            rules = tuple(replace(each, evidence=()) for each in rules)
        refused = refused_rules(rules, self.engine)
        judged = [each for each in rules if each.slug not in {refusal.subject for refusal in refused}]
        asked = RuleSet(judged, self._metrics, self._silent(judged))
        query = rule_query(asked, self._block_sets, self._plan, self._document_facts)
        of_slug = {each.slug: each for each in judged}
        found = defaultdict[tuple[str, str, int], list[dict[str, Any]]](list)
        for row in self._rows(query, host):
            found[row["rule"], row["host"], row["vm"]].append(row)
        return FleetFindings(
            [_finding(of_slug[slug], rows) for (slug, _, _), rows in found.items()],
            [each.slug for each in judged],
            refused,
            self.relations.window_s,
        )

    def acceleration(self) -> Sequence[FleetAcceleration]:
        cost = find_rule(_INTERRUPTS_COST).cost
        assert cost is not None
        asked = {"injections": self._metrics["injections_per_s"], "cost": cost}
        means = _Means()
        for row in self._numbers(asked, Scope.VM):
            means.add((row["host"], f"{row['vm']:016x}"), row, asked)
        return [
            FleetAcceleration(
                host=vm.host,
                vm=vm.vm,
                name=vm.name,
                vmm=vm.vmm,
                vcpus=vm.vcpus,
                state=vm.state,
                reasons=vm.reasons,
                injections_per_s=means.of((vm.host, vm.vm), "injections"),
                cost_cpus=means.of((vm.host, vm.vm), "cost"),
            )
            for vm in read_interrupts(self._store, self.relations.schema, self._schemas, self._seen)
        ]

    def metrics(self, names: Sequence[str]) -> tuple[Sequence[FleetMetric], Sequence[EngineRefusal]]:
        asked = {name: self._metrics[name] for name in names}
        means = _Means()
        for row in self._numbers(asked, HOST):
            means.add((row["host"],), row, asked)
        return [FleetMetric(host, name, value) for (host,), name, value in means.all()], ()

    def schemas(self) -> Sequence[FleetSchema]:
        reader = DocumentReader(self._texts, self.place)
        found = self._store.query(f"SELECT DISTINCT host, blocks FROM {self.relations.schema}.scenes")
        keys = {(str(host), block.partition("~")[0]) for host, blocks in found.rows() for block in blocks}
        return [FleetSchema(host, key, reader.get(Schema, key)) for host, key in sorted(keys)]

    def close(self) -> None:
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- what is read once --------------------------------------------------------------------------------------------

    @cached_property
    def _seen(self) -> tuple[SeenHost, ...]:
        return read_hosts(self._store, self.relations.schema)

    @cached_property
    def _texts(self) -> Mapping[str, str]:
        """Every document of the scenes, by its key."""
        return {str(key): str(text) for key, text in self._store.query(_DOCUMENTS).rows()}

    @cached_property
    def _block_sets(self) -> tuple[BlockSet, ...]:
        found = self._store.query(f"SELECT DISTINCT blocks FROM {self.relations.schema}.scenes")
        sets = read_block_sets(found.columns[0].values, self._texts, self.place)
        stats = self.relations.stats
        return sets if stats is None else tuple(_narrowed(blocks, stats) for blocks in sets)

    @cached_property
    def _schemas(self) -> tuple[RecordedSchema, ...]:
        placed = {(block.key, block.lane): block for blocks in self._block_sets for block in blocks.blocks}
        return tuple(RecordedSchema(block.key, block.schema, block.lane) for block in placed.values())

    @cached_property
    def _machines(self) -> Mapping[str, Machine]:
        reader = DocumentReader(self._texts, self.place)
        found = self._store.query(f"SELECT DISTINCT machine FROM {self.relations.schema}.scenes").columns[0].values
        return {str(key): reader.get(Machine, str(key)) for key in found if key is not None}

    @cached_property
    def _document_facts(self) -> Any:
        reader = DocumentReader(self._texts, self.place)
        found = self._store.query(f"SELECT DISTINCT identity FROM {self.relations.schema}.vms").columns[0].values
        return read_document_facts(self._machines, [str(key) for key in found if key is not None], reader)

    def _silent(self, rules: Iterable[Rule]) -> Mapping[str, Sequence[str]]:
        """By rule the machines on which its statistics mean something else."""
        caveats = load_caveats()
        found = defaultdict[str, list[str]](list)
        for key, machine in self._machines.items():
            for rule in rules:
                truths = judge_all(caveats, rule.silent_if, Facts(machine)).values()
                if any(truth.verdict is TruthValue.HOLDS for truth in truths):
                    found[rule.slug].append(key)
        return found

    # --- queries ------------------------------------------------------------------------------------------------------

    @property
    def _plan(self) -> WindowPlan:
        """Windows of one part of the hosts."""
        return replace(self.relations.plan, hosts=(_PART,))

    def _parts(self, host: str | None) -> Iterator[Sequence[str]]:
        """The hosts in parts of at most so many vCPUs, or a host that has more; or this one."""
        part, vcpus = list[str](), 0
        for each in self.hosts():
            if host in (None, each.host):
                if part and vcpus + each.vcpus > _PART_VCPUS:
                    yield part
                    part, vcpus = [], 0
                part.append(each.host)
                vcpus += each.vcpus
        if part:
            yield part

    def _numbers(self, asked: Mapping[str, Formula], level: Level) -> Iterator[dict[str, Any]]:
        """The numbers of formulas, a row a subject and window."""
        formula_set = FormulaSet(asked, self._metrics, RecordedFacts(self._document_facts), FACT_NAMES)
        return self._rows(formula_query(formula_set, level, self._block_sets, self._plan))

    def _rows(self, query: Query, host: str | None = None) -> Iterator[dict[str, Any]]:
        """The answers of a query, part after part of the hosts, which bounds memory."""
        text = _in_schema(print_query(query, self.engine), self.relations.schema)
        for part in self._parts(host):
            found = self._store.query(text.replace(literal(_PART), ", ".join(map(literal, part))))
            yield from (dict(zip(found.names, row, strict=True)) for row in found.rows())


_DOCUMENTS: Final = f"SELECT DISTINCT key, text FROM {RAW}.documents"


def _in_schema(text: str, schema: str) -> str:
    """The query over relations of another schema."""
    return text.replace(f'"{RAW}".', f'"{schema}".').replace(f"`{RAW}`.", f"`{schema}`.")


def _narrowed(blocks: BlockSet, stats: NeededStats) -> BlockSet:
    """The same blocks as far as the relations have their statistics."""
    return BlockSet(tuple(replace(block, schema=_of_stats(block, stats)) for block in blocks.blocks))


def _of_stats(block: PlacedSchema, stats: NeededStats) -> Schema:
    schema = block.schema
    kept = tuple(stat for stat in schema.descriptors if stats.has(schema, stat))
    return Schema(schema.provider, schema.scope, kept, schema.data_size)


def _finding(rule: Rule, rows: Sequence[Mapping[str, Any]]) -> FleetFinding:
    """One finding from the windows in which it stood."""
    dearest = max(rows, key=lambda row: row["cost_cpus"] or row["lost_vcpus"] or 0.0)
    last = max(rows, key=lambda row: row["end_time"])
    return FleetFinding(
        rule=rule.slug,
        host=last["host"],
        vm=f"{last['vm']:016x}",
        name=last["name"],
        since_ns=min(row["begin_time"] for row in rows),
        until_ns=last["end_time"],
        windows=len(rows),
        stands=bool(last["stands"]),
        cost_cpus=_mean([row["cost_cpus"] for row in rows]),
        lost_vcpus=_mean([row["lost_vcpus"] for row in rows]),
        evidence={name: dearest[f"evidence_{place}"] for place, name in enumerate(rule.evidence)},
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


class _Means:
    """Means over windows, by their length."""

    def __init__(self) -> None:
        self._sums = defaultdict[tuple[tuple[str, ...], str], list[float]](lambda: [0.0, 0.0])

    def add(self, subject: tuple[str, ...], row: Mapping[str, Any], names: Iterable[str]) -> None:
        for name in names:
            if row[name] is not None:
                sums = self._sums[subject, name]
                sums[0] += row[name] * row["interval_s"]
                sums[1] += row["interval_s"]

    def of(self, subject: tuple[str, ...], name: str) -> float | None:
        found = self._sums.get((subject, name))
        return None if found is None else found[0] / found[1]

    def all(self) -> Iterator[tuple[tuple[str, ...], str, float]]:
        for (subject, name), (total, length_s) in self._sums.items():
            yield subject, name, total / length_s
