"""The views ``metrics`` and ``findings``: the catalogue's metrics and rules in every window of the recordings.

A window is from one scene to the next. The formulas and rules are those of the live host, resolved for the statistics
that each scene has (``queries``, ``rules``). Rules that a query cannot express are left out (``rules.refused_rules``;
docs/reference/engines.md lists them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from ..catalog.findings import load_findings
from ..catalog.metrics import formulas, load_metrics
from ..formula.tree import HOST, Level
from ..schema import Scope
from .columns import BlockSet
from .engine import SqlStore
from .facts import DocumentFacts, RecordedFacts
from .printing import print_query
from .queries import FormulaSet, formula_query
from .recorded_documents import RecordedDocuments
from .refusal import QueryEngine
from .rules import RuleSet, refused_rules, rule_query
from .spelling import SPELLINGS, literal, quote
from .tables import RAW
from .windows import WindowPlan

_LEVELS: Final[Sequence[Level]] = (Scope.VCPU, Scope.VM, HOST)
_LEVEL_NAMES: Final[Mapping[Level, str]] = {Scope.VCPU: "vcpu", Scope.VM: "vm", HOST: "host"}


def metrics_sql(store: SqlStore) -> str:
    """The query for a row for each vCPU, VM and host in each window, with every metric. Raises RecordingError for a
    damaged document."""
    blocks = RecordedDocuments(store).block_sets
    if not blocks:
        return _nothing(_metric_columns())
    return " UNION ALL ".join(_level(level, blocks, store.dialect) for level in _LEVELS)


def findings_sql(store: SqlStore) -> str:
    """The query for a row for each period in which a rule held for a VM. Raises RecordingError for a damaged
    document."""
    documents = RecordedDocuments(store)
    if not documents.block_sets:
        return _nothing(_FINDING_COLUMNS)
    refused = {refusal.subject for refusal in refused_rules(load_findings(), store.dialect)}
    rules = [rule for rule in load_findings() if rule.slug not in refused]
    asked = RuleSet(rules, formulas(load_metrics()), documents.silent(rules))
    query = print_query(rule_query(asked, documents.block_sets, WindowPlan(), documents.facts), store.dialect)
    spelling = SPELLINGS[store.dialect]
    cases = " ".join(f"WHEN {literal(rule.slug)} THEN {literal(rule.severity.value)}" for rule in rules)
    titles = " ".join(f"WHEN {literal(rule.slug)} THEN {literal(rule.title)}" for rule in rules)
    return f"""
        SELECT f.rule AS rule, CASE f.rule {cases} END AS severity, CASE f.rule {titles} END AS title,
            f.host AS host, f.boot AS boot, {spelling.vm_id("f.vm")} AS vm, {spelling.any_of}(f.name) AS name,
            {spelling.first}(f.begin_time, f.begin_ns) AS since, {spelling.last}(f.end_time, f.end_ns) AS until,
            {spelling.seconds("max(f.end_ns) - min(f.begin_ns)")} AS seconds, count(*) AS windows,
            max(f.stands) = 1 AS stands, avg(f.cost_cpus) AS cost_cpus, avg(f.lost_vcpus) AS lost_vcpus
        FROM ({query}) AS f
        GROUP BY f.rule, f.host, f.boot, f.source, f.simulated, f.vm, f.began_ns"""


_SUBJECT_COLUMNS: Final = ("level", "host", "boot", "vm", "name", "vcpu", "time", "seconds")
_FINDING_COLUMNS: Final = (
    "rule severity title host boot vm name since until seconds windows stands cost_cpus lost_vcpus".split()
)


JUDGED_VIEWS: Final[Mapping[str, Callable[[SqlStore], str]]] = {"metrics": metrics_sql, "findings": findings_sql}
"""The function that makes the query of each of these views."""


def _metric_columns() -> list[str]:
    return [*_SUBJECT_COLUMNS, *(metric.name for metric in load_metrics())]


def _nothing(columns: Iterable[str]) -> str:
    """A query with these columns and no rows."""
    return f"SELECT {', '.join(f'NULL AS {quote(name)}' for name in columns)} WHERE 1 = 0"


def _level(level: Level, blocks: Sequence[BlockSet], dialect: QueryEngine) -> str:
    """The rows of one level. A metric of VMs is NULL in rows of vCPUs."""
    asked = {name: formula for name, formula in formulas(load_metrics()).items() if _is_of(formula.scope, level)}
    facts = RecordedFacts(DocumentFacts())  # no metric reads any
    query = formula_query(FormulaSet(asked, formulas(load_metrics()), facts, ()), level, blocks, WindowPlan())
    spelling = SPELLINGS[dialect]
    values = ", ".join(
        f"m.{quote(metric.name)} AS {quote(metric.name)}" if metric.name in asked else f"NULL AS {quote(metric.name)}"
        for metric in load_metrics()
    )
    names = f"(SELECT r.host AS host, r.boot AS boot, r.vm AS vm, {spelling.last}(r.name, r.time) AS name"
    names += f" FROM {RAW}.vms AS r GROUP BY r.host, r.boot, r.vm) AS n"
    is_host = level is HOST
    join = "" if is_host else f"LEFT JOIN {names} ON n.host = m.host AND n.boot = m.boot AND n.vm = m.vm"
    return f"""
        SELECT '{_LEVEL_NAMES[level]}' AS level, m.host AS host, m.boot AS boot,
            {"NULL" if is_host else spelling.vm_id("m.vm")} AS vm, {"NULL" if is_host else "n.name"} AS name,
            {"m.vcpu" if level is Scope.VCPU else "NULL"} AS vcpu, m.end_time AS time, m.interval_s AS seconds, {values}
        FROM ({print_query(query, dialect)}) AS m {join}"""


def _is_of(scope: Scope, level: Level) -> bool:
    return level is not Scope.VCPU or scope is Scope.VCPU
