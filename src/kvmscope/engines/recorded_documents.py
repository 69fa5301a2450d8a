"""Facts from a store's documents for queries over scenes: blocks, machines, facts of rules.

Rule: a document is read once, and only when needed. Raises RecordingError for a damaged document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from ..analysis.caveats import Facts, TruthValue, judge_all
from ..catalog.caveats import load_caveats
from ..catalog.findings import Rule
from ..formula.tree import StatName
from ..host.facts import Machine
from ..schema import Scope
from ..store.documents import DocumentReader
from ..store.names import schema_column
from .columns import BlockSet, read_block_sets
from .engine import SqlStore
from .facts import DocumentFacts, read_document_facts
from .spelling import literal, quote
from .stat_columns import RecordedSchema
from .tables import RAW, RawTable

_FEW: Final = 1000
"""Up to this number of documents a query lists their keys; beyond it, all documents are read."""
_SETTINGS: Final = "settings"
"""The provider that makes reading command lines unnecessary."""


class RecordedDocuments:
    """The documents of the scenes of one schema of relations. ``place``: its name in errors."""

    def __init__(self, store: SqlStore, schema: str = RAW, *, place: str = "recordings") -> None:
        self._store = store
        self._schema = schema
        self._documents = f"{schema}.{RawTable.DOCUMENTS.value}"
        self._place = place
        self._texts: dict[str, str] = {}

    def reader(self, keys: Iterable[str]) -> DocumentReader:
        """A reader of these documents."""
        missing = sorted(set(keys) - self._texts.keys())
        if missing:
            chosen = f" WHERE key IN ({', '.join(map(literal, missing))})" if len(missing) <= _FEW else ""
            found = self._store.query(f"SELECT DISTINCT key, text FROM {self._documents}{chosen}")
            self._texts |= {str(key): str(text) for key, text in found.rows()}
        return DocumentReader(self._texts, self._place)

    @cached_property
    def block_sets(self) -> tuple[BlockSet, ...]:
        """The distinct sets of blocks of the scenes."""
        found = self._distinct("blocks", "scenes")
        self.reader({block.partition("~")[0] for blocks in found for block in blocks})
        return read_block_sets(found, self._texts, self._place)

    @cached_property
    def schemas(self) -> tuple[RecordedSchema, ...]:
        """The schemas of these blocks."""
        placed = {(block.key, block.lane): block for blocks in self.block_sets for block in blocks.blocks}
        return tuple(RecordedSchema(block.key, block.schema, block.lane) for block in placed.values())

    @cached_property
    def histograms(self) -> frozenset[StatName]:
        """The statistics of these blocks that are histograms."""
        return frozenset(
            StatName(provider, name)
            for blocks in self.block_sets
            for (provider, _, name), descriptor in blocks.descriptors.items()
            if descriptor.is_histogram
        )

    @cached_property
    def machines(self) -> Mapping[str, Machine]:
        """The machines by their keys."""
        keys = self._keys("machine", "scenes")
        reader = self.reader(keys)
        return {key: reader.get(Machine, key) for key in keys}

    @cached_property
    def facts(self) -> DocumentFacts:
        """The facts that rules read from documents. Command lines are used where KVM's settings were not read."""
        identities = self._keys("identity", "vms", where=self._lacks_settings)
        return read_document_facts(self.machines, identities, self.reader([*self.machines, *identities]))

    def silent(self, rules: Iterable[Rule]) -> Mapping[str, Sequence[str]]:
        """For each rule, the keys of the machines on which its statistics have another meaning."""
        return {rule.slug: list(self._silencing(rule)) for rule in rules if rule.silent_if}

    def _silencing(self, rule: Rule) -> Iterator[str]:
        for key, machine in self.machines.items():
            truths = judge_all(load_caveats(), rule.silent_if, Facts(machine)).values()
            if any(truth.verdict is TruthValue.HOLDS for truth in truths):
                yield key

    @property
    def _lacks_settings(self) -> str:
        """The condition for rows of VMs without settings in at least one lane."""
        lanes = {its.lane for its in self.schemas if (its.schema.provider, its.schema.scope) == (_SETTINGS, Scope.VM)}
        columns = (quote(schema_column(_SETTINGS, lane)) for lane in sorted(lanes))
        return " OR ".join(f"{column} IS NULL" for column in columns) or "1 = 1"

    def _keys(self, column: str, table: str, *, where: str = "1 = 1") -> list[str]:
        return sorted(str(key) for key in self._distinct(column, table, where=where) if key is not None)

    def _distinct(self, column: str, table: str, *, where: str = "1 = 1") -> Sequence[Any]:
        found = self._store.query(f"SELECT DISTINCT {column} FROM {self._schema}.{table} WHERE {where}")
        return found.columns[0].values
