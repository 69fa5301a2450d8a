"""The views that a user's SQL reads: recorded data under the names that commands use, the same in every engine.

    hosts        a row a host             samples   a row a VM and a vCPU of each scene, with every statistic
    vms          a row a VM               deltas    the increase of every count from one scene to the next
    vcpus        a row a vCPU             apicv_spans  from when to when each VM's interrupts were accelerated
    episodes     a row an episode

docs/reference/sql.md describes them. Rules: each view is a query over the relations of ``tables`` only, so it is the
same in DuckDB and ClickHouse. An increase is within one epoch; the first scene of an epoch has no increase and thus no
row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from ..schema import Schema, Scope
from ..store.documents import DocumentReader
from .clickhouse_tables import ROLL_UPS_S
from .raw_columns import EPISODES
from .refusal import QueryEngine
from .spelling import SPELLINGS, Spelling, quote
from .stat_columns import RecordedSchema, ViewColumn, counts, stat_columns
from .tables import RAW, SUBJECTS

if TYPE_CHECKING:
    from .engine import SqlStore

_INHIBIT: Final = "apicv.apicv_inhibit_"


@dataclass(frozen=True)
class Vocabulary:
    """The statistics of recordings. ``schemas``: all schemas of their scenes."""

    schemas: tuple[RecordedSchema, ...]

    @cached_property
    def columns(self) -> Mapping[Scope, Mapping[str, ViewColumn]]:
        """The statistics of each scope by their names in the views."""
        return {scope: stat_columns(self.schemas, scope) for scope in Scope}


def vocabulary_of(store: SqlStore) -> Vocabulary:
    """The vocabulary of a store. Raises RecordingError if a schema is damaged."""
    blocks = store.query(_BLOCKS[store.dialect]).columns[0].values
    found = [match for block in blocks if (match := re.fullmatch(r"([0-9a-f]{16})~(\d{1,3})", str(block)))]
    if not found:
        return Vocabulary(())
    keys = ", ".join(sorted({f"'{match[1]}'" for match in found}))
    texts = store.query(f"SELECT DISTINCT key, text FROM {RAW}.documents WHERE key IN ({keys})")
    reader = DocumentReader(dict(texts.rows()), "documents")
    lanes = sorted({(match[1], int(match[2])) for match in found})
    return Vocabulary(tuple(RecordedSchema(key, reader.get(Schema, key), lane) for key, lane in lanes))


_BLOCKS: Final = {
    QueryEngine.DUCKDB: f"SELECT DISTINCT unnest(blocks) AS block FROM {RAW}.scenes",
    QueryEngine.CLICKHOUSE: f"SELECT DISTINCT arrayJoin(blocks) AS block FROM {RAW}.scenes",
}


def _hosts(_vocabulary: Vocabulary, spelling: Spelling) -> str:
    return f"""
        SELECT s.host AS host,
            {spelling.field("d.text", "hostname", "value")} AS name,
            {spelling.field("d.text", "kernel_release", "value")} AS kernel,
            {spelling.field("d.text", "architecture", "value")} AS architecture,
            {spelling.field("d.text", "kvm_vendor", "value", "name")} AS kvm_module,
            {spelling.field("d.text", "cpu", "value", "model")} AS cpu,
            s.source AS source, s.simulated AS simulated,
            s.first_seen AS first_seen, s.last_seen AS last_seen, s.scenes AS scenes, s.boots AS boots,
            coalesce(m.vms, 0) AS vms, coalesce(c.vcpus, 0) AS vcpus
        FROM (
            SELECT host, {spelling.last}(machine, time) AS machine, {spelling.last}(source, time) AS source,
                {spelling.last}(simulated, time) AS simulated, min(time) AS first_seen, max(time) AS last_seen,
                count(*) AS scenes, count(DISTINCT boot) AS boots
            FROM {RAW}.scenes GROUP BY host
        ) AS s
        LEFT JOIN (
            SELECT host, key, {spelling.any_of}(text) AS text FROM {RAW}.documents GROUP BY host, key
        ) AS d ON d.host = s.host AND d.key = s.machine
        LEFT JOIN (SELECT host, count(DISTINCT vm) AS vms FROM {RAW}.vms GROUP BY host) AS m ON m.host = s.host
        LEFT JOIN (
            SELECT host, count(*) AS vcpus FROM (SELECT DISTINCT host, vm, vcpu FROM {RAW}.vcpus) AS v GROUP BY host
        ) AS c ON c.host = s.host"""


def _vms(_vocabulary: Vocabulary, spelling: Spelling) -> str:
    return f"""
        SELECT m.host AS host, m.boot AS boot, {spelling.vm_id("m.vm")} AS vm, m.name AS name, m.uuid AS uuid,
            m.vmm AS vmm, m.pid AS pid, m.first_seen AS first_seen, m.last_seen AS last_seen, m.scenes AS scenes,
            coalesce(c.vcpus, 0) AS vcpus
        FROM (
            SELECT host, boot, vm, {_lasts(spelling, "name", "uuid", "vmm", "pid")}, {_SEEN}
            FROM {RAW}.vms AS r GROUP BY host, boot, vm
        ) AS m
        LEFT JOIN (
            SELECT host, boot, vm, count(DISTINCT vcpu) AS vcpus FROM {RAW}.vcpus GROUP BY host, boot, vm
        ) AS c ON c.host = m.host AND c.boot = m.boot AND c.vm = m.vm"""


def _vcpus(_vocabulary: Vocabulary, spelling: Spelling) -> str:
    return f"""
        SELECT host, boot, {spelling.vm_id("vm")} AS vm, name, vcpu, tid, first_seen, last_seen, scenes
        FROM (
            SELECT host, boot, vm, vcpu, {_lasts(spelling, "name", "tid")}, {_SEEN}
            FROM {RAW}.vcpus AS r GROUP BY host, boot, vm, vcpu
        ) AS c"""


_SEEN: Final = "min(r.time) AS first_seen, max(r.time) AS last_seen, count(*) AS scenes"


def _lasts(spelling: Spelling, *names: str) -> str:
    return ", ".join(f"{spelling.last}(r.{name}, r.time) AS {name}" for name in names)


def _samples(vocabulary: Vocabulary, spelling: Spelling) -> str:
    names = _stat_names(vocabulary, is_count=False)
    return _of_both_scopes(
        lambda scope: (
            f"SELECT {_subject(scope, spelling)}, {_listed(names, vocabulary, scope, spelling)}"
            f" FROM {RAW}.{SUBJECTS[scope].value}"
        )
    )


def _deltas(vocabulary: Vocabulary, spelling: Spelling, raw: str = RAW) -> str:
    names = _stat_names(vocabulary, is_count=True)
    return _of_both_scopes(lambda scope: _delta(names, vocabulary, scope, spelling, raw))


def _delta(names: Sequence[str], vocabulary: Vocabulary, scope: Scope, spelling: Spelling, raw: str) -> str:
    """The rows of one scope. A count never falls within an epoch, but a file may be wrong."""
    columns = {column.name: column.raw or "" for column in counts(vocabulary.columns[scope].values())}
    befores = "".join(f", first_value({quote(raw)}) OVER w AS {quote(_BEFORE + raw)}" for raw in columns.values())
    increases = ", ".join(_increase(name, columns.get(name)) for name in names)
    key = "host, boot, vm" if scope is Scope.VM else "host, boot, vm, vcpu"
    inner = f"""
        SELECT *, count(*) OVER w AS {_BEFORE}scenes, first_value(boottime_ns) OVER w AS {_BEFORE}ns{befores}
        FROM {raw}.{SUBJECTS[scope].value}
        WINDOW w AS (PARTITION BY {key}, epoch ORDER BY boottime_ns ROWS BETWEEN 1 PRECEDING AND 1 PRECEDING)"""
    return f"""
        SELECT {_subject(scope, spelling)}, {spelling.seconds(f"boottime_ns - {_BEFORE}ns")} AS seconds, {increases}
        FROM ({inner}) AS r WHERE {_BEFORE}scenes = 1"""


_BEFORE: Final = "_before_"


def _increase(name: str, raw: str | None) -> str:
    if raw is None:
        return f"NULL AS {quote(name)}"
    now, before = quote(raw), quote(_BEFORE + raw)
    return f"CASE WHEN {now} >= {before} THEN {now} - {before} END AS {quote(name)}"


def _subject(scope: Scope, spelling: Spelling) -> str:
    """The columns that identify a row's subject and time."""
    vcpu = "NULL" if scope is Scope.VM else "vcpu"
    vm = spelling.vm_id("vm")
    return f"host, boot, {vm} AS vm, name, {vcpu} AS vcpu, time, boottime_ns, epoch"


def _stat_names(vocabulary: Vocabulary, *, is_count: bool) -> list[str]:
    """The statistics of both scopes in a single order."""
    found: dict[str, None] = {}
    for scope in reversed(Scope):
        columns = vocabulary.columns[scope].values()
        found |= dict.fromkeys(column.name for column in (counts(columns) if is_count else columns))
    return list(found)


def _listed(names: Sequence[str], vocabulary: Vocabulary, scope: Scope, spelling: Spelling) -> str:
    columns = vocabulary.columns[scope]
    values = (columns[name].expression(spelling) if name in columns else "NULL" for name in names)
    return ", ".join(f"{value} AS {quote(name)}" for name, value in zip(names, values, strict=True))


def _of_both_scopes(query: Callable[[Scope], str]) -> str:
    return f"{query(Scope.VCPU)} UNION ALL {query(Scope.VM)}"


def _apicv_spans(vocabulary: Vocabulary, spelling: Spelling) -> str:
    """Runs of scenes in which a VM's state and reasons were the same; a run lasts until the VM's next scene."""
    reasons = [
        (f"{column.expression(spelling)}", name.removeprefix(_INHIBIT))
        for name, column in vocabulary.columns[Scope.VM].items()
        if name.startswith(_INHIBIT) and column.is_boolean
    ]
    active = vocabulary.columns[Scope.VCPU]["apicv.apicv_active"].expression(spelling)
    known = " OR ".join(f"({test}) IS NOT NULL" for test, _ in reasons) or "false"
    states = f"""
        SELECT m.host AS host, m.boot AS boot, m.vm AS vm, m.name AS name, m.time AS time,
            m.boottime_ns AS boottime_ns, m.reasons AS reasons, c.active_vcpus AS active_vcpus, c.vcpus AS vcpus,
            CASE WHEN m.is_known = 0 THEN 'unknown' WHEN m.reasons <> '' THEN 'inhibited'
                WHEN c.active_vcpus IS NULL THEN 'unknown' WHEN c.active_vcpus = c.vcpus THEN 'active'
                WHEN c.active_vcpus = 0 THEN 'inhibited' ELSE 'in part' END AS state
        FROM (
            SELECT host, boot, vm, name, time, boottime_ns, {spelling.joined(reasons)} AS reasons,
                CASE WHEN {known} THEN 1 ELSE 0 END AS is_known
            FROM {RAW}.vms
        ) AS m
        LEFT JOIN (
            SELECT host, boot, vm, boottime_ns, count({active}) AS vcpus,
                sum(CASE WHEN {active} THEN 1 WHEN NOT ({active}) THEN 0 END) AS active_vcpus
            FROM {RAW}.vcpus GROUP BY host, boot, vm, boottime_ns
        ) AS c ON c.host = m.host AND c.boot = m.boot AND c.vm = m.vm AND c.boottime_ns = m.boottime_ns"""
    return f"""
        SELECT host, boot, {spelling.vm_id("vm")} AS vm, {spelling.last}(name, s.time) AS name, state, reasons,
            {spelling.first}(s.time, s.boottime_ns) AS since, {spelling.last}(s.until, s.until_ns) AS until,
            {spelling.seconds("max(s.until_ns) - min(s.boottime_ns)")} AS seconds, count(*) AS scenes,
            min(s.active_vcpus) AS active_vcpus, max(s.vcpus) AS vcpus
        FROM (
            SELECT r.*, row_number() OVER (PARTITION BY host, boot, vm ORDER BY boottime_ns)
                - row_number() OVER (PARTITION BY host, boot, vm, state, reasons ORDER BY boottime_ns) AS run,
                last_value(r.time) OVER w AS until, last_value(r.boottime_ns) OVER w AS until_ns
            FROM ({states}) AS r
            WINDOW w AS (PARTITION BY host, boot, vm ORDER BY boottime_ns ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING)
        ) AS s
        GROUP BY host, boot, s.vm, state, reasons, run"""


def _episodes(_vocabulary: Vocabulary, spelling: Spelling) -> str:
    return f"SELECT * FROM {RAW}.{EPISODES}{spelling.merged}"


RECORDED_VIEWS: Final[Mapping[str, Callable[[Vocabulary, Spelling], str]]] = {
    "hosts": _hosts,
    "vms": _vms,
    "vcpus": _vcpus,
    "samples": _samples,
    "deltas": _deltas,
    "apicv_spans": _apicv_spans,
    "episodes": _episodes,
}
"""The function that makes the query of each of these views."""

ROLL_UPS: Final = {f"deltas_{resolution_s}s": f"{RAW}_{resolution_s}s" for resolution_s in ROLL_UPS_S}
"""The views of increases over ClickHouse's roll-ups: names, with the database of each."""


def roll_up_query(name: str, vocabulary: Vocabulary) -> str:
    """The query of a view of ``ROLL_UPS``."""
    return _deltas(vocabulary, SPELLINGS[QueryEngine.CLICKHOUSE], ROLL_UPS[name])
