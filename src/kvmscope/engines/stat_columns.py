"""The statistics of recordings as columns of the users' views: the raw column of each, and what it holds.

A stat of KVM keeps its name (``exits``), any other has its provider as a prefix (``apicv.apicv_active``); a bucket of a
histogram has its number as a suffix (``halt_wait_hist.17``). Rules: a boolean stat is a boolean column, also if it is a
bit of a word; a word that no stat describes is in the raw relations only. Where two kernels describe a stat
differently, it is a count, or a boolean, only if both say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..catalog.stats import load_stats
from ..schema import Descriptor, Kind, Schema, Scope, Unit
from ..store.names import column_names, schema_column
from .raw_columns import EPISODE_COLUMNS, FIXED
from .spelling import Spelling, quote

COUNTS: Final = (Kind.CUMULATIVE, Kind.LINEAR_HISTOGRAM, Kind.LOG_HISTOGRAM)
_TAKEN: Final = {name for its in FIXED.values() for name in its} | {*EPISODE_COLUMNS, "seconds"}


@dataclass(frozen=True, slots=True)
class RecordedSchema:
    """A schema by its document key, and the lane of its columns."""

    key: str
    schema: Schema
    lane: int = 0


@dataclass
class ViewColumn:
    """A column of a view. ``raw``: the column of the relation, None for bits. ``bits``: for each schema, the word and
    the bit in it."""

    name: str
    scope: Scope
    raw: str | None
    is_count: bool = True
    is_boolean: bool = True
    bits: list[tuple[RecordedSchema, str, int]] = field(default_factory=list)

    def expression(self, spelling: Spelling) -> str:
        """Its value in a row of the relation."""
        if self.raw is not None:
            return spelling.is_set(quote(self.raw)) if self.is_boolean else quote(self.raw)
        cases = (
            f"WHEN {quote(schema_column(its.schema.provider, its.lane))} = '{its.key}'"
            f" THEN {spelling.bit(quote(word), bit)}"
            for its, word, bit in self.bits
        )
        return f"CASE {' '.join(cases)} END"


def stat_columns(schemas: Sequence[RecordedSchema], scope: Scope) -> dict[str, ViewColumn]:
    """The columns of one scope by name, those in the recordings first."""
    found: dict[str, ViewColumn] = {}
    for its in schemas:
        if its.schema.scope is scope:
            for column, descriptor in _of_words(its):
                _add(found, column, descriptor, scope)
            for descriptor, word in _of_bits(its):
                name = _name(f"{its.schema.provider}.{descriptor.name}")
                column_ = found.setdefault(name, ViewColumn(name, scope, None, is_count=False))
                column_.bits.append((its, word, descriptor.bit or 0))
    names = set(found)
    for column, descriptor in _of_the_catalogue(scope):
        if _name(column) not in names:
            _add(found, column, descriptor, scope)
    return found


def _add(found: dict[str, ViewColumn], column: str, descriptor: Descriptor, scope: Scope) -> None:
    name = _name(column)
    its = found.setdefault(name, ViewColumn(name, scope, column))
    its.is_count &= descriptor.kind in COUNTS
    its.is_boolean &= descriptor.is_boolean


def _name(column: str) -> str:
    bare = column.removeprefix("kvm.")
    return column if bare in _TAKEN else bare


def _of_words(its: RecordedSchema) -> Iterator[tuple[str, Descriptor]]:
    """The columns whose words a descriptor describes."""
    by_word = {
        word: stat
        for stat in its.schema.descriptors
        if stat.bit is None
        for word in range(stat.offset // 8, stat.offset // 8 + stat.size)
    }
    for column, word in column_names(its.schema, its.lane):
        if word in by_word and f".{by_word[word].name}" in column:
            yield column, by_word[word]


def _of_bits(its: RecordedSchema) -> Iterator[tuple[Descriptor, str]]:
    words = {word: column for column, word in column_names(its.schema, its.lane)}
    for stat in its.schema.descriptors:
        if stat.bit is not None and stat.offset // 8 in words:
            yield stat, words[stat.offset // 8]


def _of_the_catalogue(scope: Scope) -> Iterator[tuple[str, Descriptor]]:
    for entry in load_stats().entries:
        if entry.scope is scope and entry.template is None and entry.unit is not Unit.BIT:
            descriptor = Descriptor(entry.name, entry.kind, entry.unit, size=entry.size)
            schema = Schema(entry.provider, scope, (descriptor,), 8 * entry.size)
            yield from ((column, descriptor) for column, _ in column_names(schema))


def counts(columns: Iterable[ViewColumn]) -> list[ViewColumn]:
    """The columns whose increase is a number of events."""
    return [column for column in columns if column.is_count and column.raw is not None]
