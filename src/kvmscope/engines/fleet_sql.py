"""A fleet behind SQL: recordings in files or in ClickHouse, thinned in DuckDB. A ``FleetStore``.

Windows are long, since a query over a fleet covers hours of many hosts: each is from one thinned scene to the next.
Rule: rules and metrics are those of ``rules`` and ``queries``; nothing is judged here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

from ..catalog.findings import Rule, find_rule, load_findings
from ..catalog.metrics import formulas, load_metrics
from ..closing import Closable
from ..errors import KvmscopeError
from ..formula.check import Formula
from ..formula.tree import HOST, Level
from ..schema import Schema, Scope
from .columns import BlockSet
from .engine import SqlStore
from .facts import FACT_NAMES, RecordedFacts
from .fleet import (
    FleetAcceleration,
    FleetFinding,
    FleetFindings,
    FleetHost,
    FleetMetric,
    FleetSchema,
    FleetVm,
)
from .fleet_hosts import SeenHost, read_hosts, read_interrupts, read_vms
from .printing import print_query
from .queries import FormulaSet, formula_query
from .recorded_documents import RecordedDocuments
from .refusal import EngineRefusal, QueryEngine
from .relational import Query
from .rules import RuleSet, refused_rules, rule_query
from .screens import Row, ScreenedRules, asks_for_every_count
from .spelling import literal
from .tables import RAW
from .thinning import THIN, NeededStats, ThinnedRecordings
from .windows import WindowPlan

_PART: Final = "kvmscope: a part of the hosts"
"""Placeholder for the hosts of a part in the text of a query, which is printed once."""
_PART_ROWS: Final = 700_000
"""Approximate number of vCPU rows in one query, for which DuckDB needs a few hundred MiB."""
_DIGITS: Final = 12
"""Significant digits of a mean: the last ones depend on the order in which an engine's threads sum."""
_INTERRUPTS_COST: Final = "apicv-inhibited"
"""The rule that gives the cost of interrupts that are not accelerated."""


class SqlFleet(Closable):
    """A ``FleetStore`` over a ``SqlStore``, which it closes."""

    def __init__(
        self, store: SqlStore, place: str, thinned: ThinnedRecordings, window_s: float, *, engine: QueryEngine
    ) -> None:
        """``thinned``: the recordings of the store with scenes ``window_s`` apart. ``engine``: the engine of
        ``store``."""
        self.engine = engine
        self.place = place
        self.damage: Sequence[KvmscopeError] = store.damage
        self.store = store
        self.window_s = window_s
        self._thinned = thinned
        self._metrics: Mapping[str, Formula] = formulas(load_metrics())

    def hosts(self) -> Sequence[FleetHost]:
        return [host.row for host in self._seen]

    def findings(self, *, rule: str | None = None, host: str | None = None) -> FleetFindings:
        rules = load_findings() if rule is None else (find_rule(rule),)
        if rule is None and host is None:  # evidence is most of the query, and not shown for a whole fleet
            rules = tuple(replace(each, evidence=()) for each in rules)
        refused = refused_rules(rules, self.store.dialect)
        judged = [each for each in rules if each.slug not in {refusal.subject for refusal in refused}]
        of_slug = {each.slug: each for each in judged}
        found = defaultdict[tuple[str, str, int], list[Row]](list)
        for row in self._windows_of(judged, None if host is None else [host]):
            found[row["rule"], row["host"], row["vm"]].append(row)
        return FleetFindings(
            [_finding(of_slug[slug], rows) for (slug, _, _), rows in sorted(found.items())],
            [each.slug for each in judged],
            refused,
            self.window_s,
        )

    def _windows_of(self, rules: Sequence[Rule], hosts: Sequence[str] | None) -> Iterator[Row]:
        """The windows in which rules fire. Expensive rules are evaluated only for the VMs for which they may fire."""
        screened = ScreenedRules(rules, self._metrics, self._documents.histograms)
        yield from screened.sift(self._judged(screened.first, hosts))
        yield from screened.decided()
        for those, suspects in screened.second():
            yield from self._judged(those, sorted(suspects), frozenset().union(*suspects.values()))

    def _formulas(self, rule: Rule) -> Iterator[Formula]:
        yield from rule.formulas
        yield from (self._metrics[name] for name in rule.evidence)

    def _judged(
        self, rules: Sequence[Rule], hosts: Sequence[str] | None, vms: frozenset[int] | None = None
    ) -> Iterator[dict[str, Any]]:
        """The windows in which rules fire, by one query. ``hosts``: None for all. ``vms``: ids of VMs that the answer
        must cover; it may cover others too."""
        if not rules or hosts == []:
            return
        stats = NeededStats.of((each for rule in rules for each in self._formulas(rule)), self._metrics)
        stats = replace(stats, has_counts=any(map(asks_for_every_count, rules)))
        schema = self._thinned.having(stats, hosts, vms)  # before the hosts are read, which then reads no more
        if not self._seen:
            return
        asked = RuleSet(rules, self._metrics, self._documents.silent(rules))
        query = rule_query(asked, self._block_sets(stats), self._plan, self._documents.facts)
        yield from self._rows(query, schema, hosts)

    def vms(self, chosen: Collection[tuple[str, str]]) -> Sequence[FleetVm]:
        return read_vms(self.store, self._thinned.made(), self._documents, chosen) if chosen else ()

    def acceleration(self, *, has_rates: bool = True) -> Sequence[FleetAcceleration]:
        means = self._injection_means() if has_rates else _Means()
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
            for vm in read_interrupts(self.store, self._thinned.made(), self._documents.schemas, self._seen)
        ]

    def _injection_means(self) -> _Means:
        """The mean rate of injections and their mean cost, by host and VM."""
        cost = find_rule(_INTERRUPTS_COST).cost
        assert cost is not None
        asked = {"injections": self._metrics["injections_per_s"], "cost": cost}
        means = _Means()
        for row in self._numbers(asked, Scope.VM):
            means.add((row["host"], f"{row['vm']:016x}"), row, asked)
        return means

    def metrics(self, names: Sequence[str]) -> tuple[Sequence[FleetMetric], Sequence[EngineRefusal]]:
        asked = {name: self._metrics[name] for name in names}
        means = _Means()
        for row in self._numbers(asked, HOST):
            means.add((row["host"],), row, asked)
        return [FleetMetric(host, name, value) for (host,), name, value in means.all()], ()

    def schemas(self) -> Sequence[FleetSchema]:
        found = self.store.query(f"SELECT DISTINCT host, blocks FROM {THIN}.scenes")
        keys = {(str(host), block.partition("~")[0]) for host, blocks in found.rows() for block in blocks}
        reader = self._documents.reader({key for _, key in keys})
        return [FleetSchema(host, key, reader.get(Schema, key)) for host, key in sorted(keys)]

    def close(self) -> None:
        self.store.close()

    # --- read once ----------------------------------------------------------------------------------------------------

    @cached_property
    def _seen(self) -> tuple[SeenHost, ...]:
        return read_hosts(self.store, self._thinned.made(), self._documents)

    @cached_property
    def _documents(self) -> RecordedDocuments:
        return RecordedDocuments(self.store, THIN, place=self.place)

    def _block_sets(self, stats: NeededStats) -> tuple[BlockSet, ...]:
        """The sets of blocks, restricted to these statistics."""
        return tuple(stats.narrowed(blocks) for blocks in self._documents.block_sets)

    # --- queries ------------------------------------------------------------------------------------------------------

    @property
    def _plan(self) -> WindowPlan:
        """The windows of one part of the hosts."""
        return WindowPlan(hosts=(_PART,))

    def _parts(self, hosts: Sequence[str] | None) -> Iterator[Sequence[str]]:
        """The hosts in parts of at most ``_PART_ROWS`` rows, or of a single host with more."""
        part, rows = list[str](), 0.0
        for each in self.hosts():
            if hosts is None or each.host in hosts:
                windows = (each.last_ns - each.first_ns) / 1e9 / (self.window_s or 1.0)
                its = each.vcpus * (1 + windows)
                if part and rows + its > _PART_ROWS:
                    yield part
                    part, rows = [], 0.0
                part.append(each.host)
                rows += its
        if part:
            yield part

    def _numbers(self, asked: Mapping[str, Formula], level: Level) -> Iterator[dict[str, Any]]:
        """The values of formulas: a row for each subject and window."""
        stats = NeededStats.of(asked.values(), self._metrics)
        schema = self._thinned.having(stats)
        formula_set = FormulaSet(asked, self._metrics, RecordedFacts(self._documents.facts), FACT_NAMES)
        return self._rows(formula_query(formula_set, level, self._block_sets(stats), self._plan), schema, None)

    def _rows(self, query: Query, schema: str, hosts: Sequence[str] | None) -> Iterator[dict[str, Any]]:
        """The rows of a query, for one part of the hosts after the other to bound memory."""
        text = _in_schema(print_query(query, self.store.dialect), schema)
        for part in self._parts(hosts):
            found = self.store.query(text.replace(literal(_PART), ", ".join(map(literal, part))))
            names = found.names
            yield from (dict(zip(names, row, strict=True)) for row in found.rows())


def _in_schema(text: str, schema: str) -> str:
    """The query over relations of another schema."""
    return text.replace(f'"{RAW}".', f'"{schema}".').replace(f"`{RAW}`.", f"`{schema}`.")


def _finding(rule: Rule, rows: Sequence[Mapping[str, Any]]) -> FleetFinding:
    """One finding from the windows in which it stood. They are sorted first, since floating-point sums depend on
    order."""
    rows = sorted(rows, key=lambda row: row["end_time"])
    dearest, last = max(rows, key=lambda row: row["cost_cpus"] or row["lost_vcpus"] or 0.0), rows[-1]
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
    """The mean without its last digits, which depend on the order in which an engine's threads sum."""
    known = [value for value in values if value is not None]
    return float(f"{sum(known) / len(known):.{_DIGITS}g}") if known else None


class _Means:
    """Means over windows, weighted by their length."""

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
