"""The views ``metrics`` and ``findings``: what the catalogue says of every window of the recordings, as queries.

A window is from one scene to the next. The formulas and rules are those of the live host, resolved for the statistics
that each scene has (``queries``, ``rules``). Rules that need more than a query can say are left out
(``rules.refused_rules``; docs/reference/engines.md lists them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from ..analysis.caveats import Facts, TruthValue, judge_all
from ..catalog.caveats import load_caveats
from ..catalog.findings import Rule, load_findings
from ..catalog.metrics import formulas, load_metrics
from ..formula.tree import HOST, Level
from ..host.facts import Machine
from ..schema import Scope
from ..store.documents import DocumentReader
from .columns import BlockSet, read_block_sets
from .engine import SqlStore
from .facts import DocumentFacts, RecordedFacts, read_document_facts
from .printing import print_query
from .queries import FormulaSet, formula_query
from .refusal import QueryEngine
from .rules import RuleSet, refused_rules, rule_query
from .spelling import SPELLINGS, literal, quote
from .tables import RAW
from .windows import WindowPlan

_LEVELS: Final[Sequence[Level]] = (Scope.VCPU, Scope.VM, HOST)
_LEVEL_NAMES: Final[Mapping[Level, str]] = {Scope.VCPU: "vcpu", Scope.VM: "vm", HOST: "host"}


def metrics_sql(store: SqlStore) -> str:
    """A row for each vCPU, VM and host in each window, with every metric. RecordingError for a damaged document."""
    blocks = _block_sets(store)
    if not blocks:
        return _nothing(_metric_columns())
    return " UNION ALL ".join(_level(level, blocks, store.dialect) for level in _LEVELS)


def findings_sql(store: SqlStore) -> str:
    """A row for each time in which a rule held of a VM. RecordingError for a damaged document."""
    blocks = _block_sets(store)
    if not blocks:
        return _nothing(_FINDING_COLUMNS)
    machines = _machines(store)
    refused = {refusal.subject for refusal in refused_rules(load_findings(), store.dialect)}
    rules = [rule for rule in load_findings() if rule.slug not in refused]
    asked = RuleSet(rules, formulas(load_metrics()), _silent(rules, machines))
    query = print_query(rule_query(asked, blocks, WindowPlan(), _document_facts(store, machines)), store.dialect)
    spelling = SPELLINGS[store.dialect]
    cases = " ".join(f"WHEN {literal(rule.slug)} THEN {literal(rule.severity.value)}" for rule in rules)
    titles = " ".join(f"WHEN {literal(rule.slug)} THEN {literal(rule.title)}" for rule in rules)
    return f"""
        SELECT f.rule AS rule, CASE f.rule {cases} END AS severity, CASE f.rule {titles} END AS title,
            f.host AS host, f.boot AS boot, {spelling.vm_id("f.vm")} AS vm, {spelling.any_of}(f.name) AS name,
            min(f.begin_time) AS since, max(f.end_time) AS until,
            {spelling.seconds("max(f.end_ns) - min(f.begin_ns)")} AS seconds, count(*) AS windows,
            max(f.stands) = 1 AS stands, avg(f.cost_cpus) AS cost_cpus, avg(f.lost_vcpus) AS lost_vcpus
        FROM ({query}) AS f
        GROUP BY f.rule, f.host, f.boot, f.source, f.simulated, f.vm, f.began_ns"""


_SUBJECT_COLUMNS: Final = ("level", "host", "boot", "vm", "name", "vcpu", "time", "seconds")
_FINDING_COLUMNS: Final = (
    "rule severity title host boot vm name since until seconds windows stands cost_cpus lost_vcpus".split()
)


JUDGED_VIEWS: Final[Mapping[str, Callable[[SqlStore], str]]] = {"metrics": metrics_sql, "findings": findings_sql}
"""What reads each of these views."""


def _metric_columns() -> list[str]:
    return [*_SUBJECT_COLUMNS, *(metric.name for metric in load_metrics())]


def _nothing(columns: Iterable[str]) -> str:
    """No rows, with these columns."""
    return f"SELECT {', '.join(f'NULL AS {quote(name)}' for name in columns)} WHERE 1 = 0"


def _level(level: Level, blocks: Sequence[BlockSet], dialect: QueryEngine) -> str:
    """The rows of one level. A metric of VMs is NULL in rows of vCPUs."""
    asked = {name: formula for name, formula in formulas(load_metrics()).items() if _is_of(formula.scope, level)}
    facts = RecordedFacts(DocumentFacts())  # no metric asks for any
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


# --- what the recordings say of themselves ----------------------------------------------------------------------------


def _block_sets(store: SqlStore) -> tuple[BlockSet, ...]:
    found = store.query(f"SELECT DISTINCT blocks FROM {RAW}.scenes").columns[0].values
    keys = sorted({block.partition("~")[0] for blocks in found for block in blocks})
    return read_block_sets(found, _texts(store, keys), "recordings")


def _machines(store: SqlStore) -> Mapping[str, Machine]:
    keys = _keys(store, "machine", "scenes")
    reader = DocumentReader(_texts(store, keys), "recordings")
    return {key: reader.get(Machine, key) for key in keys}


def _document_facts(store: SqlStore, machines: Mapping[str, Machine]) -> DocumentFacts:
    identities = _keys(store, "identity", "vms")
    reader = DocumentReader(_texts(store, [*machines, *identities]), "recordings")
    return read_document_facts(machines, identities, reader)


def _keys(store: SqlStore, column: str, table: str) -> list[str]:
    found = store.query(f"SELECT DISTINCT {column} FROM {RAW}.{table}").columns[0].values
    return sorted(str(key) for key in found if key is not None)


def _texts(store: SqlStore, keys: Iterable[str]) -> dict[str, str]:
    """The documents of these keys."""
    listed = ", ".join(map(literal, keys))
    if not listed:
        return {}
    return dict(store.query(f"SELECT DISTINCT key, text FROM {RAW}.documents WHERE key IN ({listed})").rows())


def _silent(rules: Iterable[Rule], machines: Mapping[str, Machine]) -> Mapping[str, Sequence[str]]:
    """By rule the machines on which its statistics mean something else."""
    return {rule.slug: list(_silencing(rule, machines)) for rule in rules if rule.silent_if}


def _silencing(rule: Rule, machines: Mapping[str, Machine]) -> Iterator[str]:
    for key, machine in machines.items():
        truths = judge_all(load_caveats(), rule.silent_if, Facts(machine)).values()
        if any(truth.verdict is TruthValue.HOLDS for truth in truths):
            yield key
