"""Differences of stats between two kernels: new, removed, or counted differently.

Pure: the two kernels' tables and the catalogue of stats go in, differences come out. The tables show changes of the
descriptors; a change of meaning is in no descriptor, so it comes from the catalogue.

Rule: stats are the same if provider, scope and name are equal; their places in the data do not matter. A provider that
only one of the kernels reports is not compared, since it may be off rather than removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from ..catalog.kernels import version_of
from ..catalog.stats import Change, ChangedPart, StatCatalog, StatEntry, release
from ..schema import Base, KernelTables, Kind, Scope, Shape, Table, Tier, Unit, Unknown

_SECONDS = {-3: "milliseconds", -6: "microseconds", -9: "nanoseconds"}


class ChangeKind(Enum):
    """What became of a stat."""

    REMOVED = "removed"
    RENAMED = "renamed"
    KIND = "kind"
    UNIT = "unit"
    SCALE = "scale"
    SIZE = "size"
    MEANING = "meaning"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of one stat.

    ``before`` and ``after`` describe the change in words: the names of a renamed stat, the shape of one that was added
    or removed. ``tier`` is None for a stat that the catalogue lacks; ``replaced_by``: the new kernel's replacements for
    a removed stat; ``text``: the catalogue's description of the change, or empty.
    """

    provider: str
    scope: Scope
    name: str
    turn: ChangeKind
    before: str | None
    after: str | None
    tier: Tier | None
    replaced_by: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class SchemaDiff:
    """``not_compared``: the providers that only one of the kernels reports."""

    before: KernelTables
    after: KernelTables
    differences: tuple[Difference, ...]
    not_compared: tuple[str, ...]


def compare(before: KernelTables, after: KernelTables, stats: StatCatalog) -> SchemaDiff:
    """Every difference between two kernels, ordered by provider and scope, then by kind of change."""
    old, new = ({(table.provider, table.scope): table for table in kernel.tables} for kernel in (before, after))
    old_providers, new_providers = ({provider for provider, _ in tables} for tables in (old, new))
    span = _Span.between(before, after)
    found: list[Difference] = []
    for provider in sorted(old_providers & new_providers):
        for scope in Scope:
            nothing = Table(provider, scope, {})
            pair = _Pair(old.get((provider, scope), nothing), new.get((provider, scope), nothing), stats, span)
            found += sorted(pair.differences(), key=_order)
    return SchemaDiff(before, after, tuple(found), tuple(sorted(old_providers ^ new_providers)))


def shape_words(shape: Shape) -> str:
    """A shape in words: ``cumulative``, ``instant, boolean``, ``log histogram, 32 buckets, nanoseconds``."""
    size = "" if _size(shape) == "1 value" else _size(shape)
    return ", ".join(filter(None, (_word(shape.kind), size, _unit_words(shape))))


def _order(difference: Difference) -> tuple[int, str]:
    return list(ChangeKind).index(difference.turn), difference.name


@dataclass(frozen=True, slots=True)
class _Pair:
    """The same table of two kernels."""

    old: Table
    new: Table
    stats: StatCatalog
    span: _Span

    def differences(self) -> Iterator[Difference]:
        renamed: set[str] = set()
        for name in self.old.stats.keys() - self.new.stats.keys():
            difference = self._gone(name)
            if difference.turn is ChangeKind.RENAMED:
                renamed.update(difference.replaced_by)
            yield difference
        for name in self.new.stats.keys() - self.old.stats.keys() - renamed:
            yield self._difference(name, ChangeKind.ADDED, None, shape_words(self.new.stats[name]))
        for name in self.old.stats.keys() & self.new.stats.keys():
            yield from self._changed(name)

    def _entry(self, name: str) -> StatEntry | None:
        return self.stats.find(self.old.provider, self.old.scope, name)

    def _difference(
        self,
        name: str,
        turn: ChangeKind,
        before: str | None,
        after: str | None,
        *,
        replaced_by: tuple[str, ...] = (),
        text: str = "",
    ) -> Difference:
        entry = self._entry(name)
        tier = entry.tier if entry else None
        return Difference(self.old.provider, self.old.scope, name, turn, before, after, tier, replaced_by, text)

    def _gone(self, name: str) -> Difference:
        entry, shape = self._entry(name), self.old.stats[name]
        instead = tuple(other for other in (entry.replaced_by if entry else ()) if other in self.new.stats)
        if len(instead) == 1 and instead[0] not in self.old.stats and self.new.stats[instead[0]] == shape:
            return self._difference(name, ChangeKind.RENAMED, name, instead[0], replaced_by=instead)
        return self._difference(name, ChangeKind.REMOVED, shape_words(shape), None, replaced_by=instead)

    def _changed(self, name: str) -> Iterator[Difference]:
        old, new, entry = self.old.stats[name], self.new.stats[name], self._entry(name)
        told = [change for change in (entry.changed if entry else ()) if self.span.covers(change)]
        texts = {what: " ".join(change.text.strip() for change in told if change.what is what) for what in ChangedPart}
        for turn, before, after, text in (
            (ChangeKind.KIND, _word(old.kind), _word(new.kind), texts[ChangedPart.KIND]),
            (ChangeKind.UNIT, _word(old.unit), _word(new.unit), texts[ChangedPart.UNIT]),
            (ChangeKind.SCALE, _scale(old), _scale(new), ""),
            (ChangeKind.SIZE, _size(old), _size(new), ""),
        ):
            if before != after:
                yield self._difference(name, turn, before, after, text=text)
        for change in told:
            if change.what is ChangedPart.MEANING:
                yield self._difference(
                    name, ChangeKind.MEANING, None, f"since {change.since}", text=change.text.strip()
                )


@dataclass(frozen=True, slots=True)
class _Span:
    """The range of versions between two kernels, in either order; empty if a version is not known."""

    first: tuple[int, ...] | None
    last: tuple[int, ...] | None
    architectures: frozenset[str | None]

    @classmethod
    def between(cls, before: KernelTables, after: KernelTables) -> _Span:
        versions = [version[:2] for kernel in (before, after) if (version := version_of(kernel))]
        ends = sorted(versions) if len(versions) == 2 else [None, None]
        return cls(ends[0], ends[1], frozenset({before.architecture, after.architecture}))

    def covers(self, change: Change) -> bool:
        """Whether a change is newer than the older kernel, not newer than the newer one, and of their architecture."""
        if self.first is None or self.last is None or self.architectures.isdisjoint(change.architectures):
            return False
        return self.first < release(change.since) <= self.last


def _word(part: Kind | Unit | Unknown) -> str:
    return f"code {part.code}" if isinstance(part, Unknown) else part.name.lower().replace("_", " ")


def _scale(shape: Shape) -> str:
    base = f"code {shape.base.code}" if isinstance(shape.base, Unknown) else str(shape.base.number)
    return f"{base}^{shape.exponent}" if shape.exponent or not isinstance(shape.base, Base) else "1"


def _size(shape: Shape) -> str:
    if shape.unit is Unit.BIT:
        return f"bit {shape.bucket_size}"
    if shape.kind is Kind.LINEAR_HISTOGRAM:
        return f"{shape.size} buckets of {shape.bucket_size}"
    if shape.kind is Kind.LOG_HISTOGRAM:
        return f"{shape.size} buckets"
    return "1 value" if shape.size == 1 else f"{shape.size} values"


def _unit_words(shape: Shape) -> str:
    if shape.unit in (Unit.BOOLEAN, Unit.BIT):
        return "boolean"
    if shape.unit is Unit.SECONDS and shape.base is Base.POW10 and shape.exponent in _SECONDS:
        return _SECONDS[shape.exponent]
    unit = "" if shape.unit is Unit.NONE else _word(shape.unit)
    scale = _scale(shape)
    return unit if scale == "1" else f"{scale} {unit}".rstrip()
