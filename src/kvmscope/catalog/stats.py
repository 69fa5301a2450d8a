"""What each statistic counts, since which kernel, and how stable it is, from stats.toml.

Not here: the schema of the running kernel (in its descriptors), and which caveats hold here (``analysis.caveats``). A
stat that is not in the catalogue is still shown.
Source: see the head of stats.toml.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache, cached_property
from types import MappingProxyType
from typing import TypeVar

from ..schema import Descriptor, Kind, Scope, Shape, Tier, Unit
from .caveats import Caveat, load_caveats
from .data import read_toml
from .tomlfile import TomlEntry, read_root, root_tables, shown
from .words import KINDS, UNITS, Measure

FILE = "stats.toml"
HISTOGRAM_BUCKETS = 32
"""The number of buckets of every log histogram so far (HALT_POLL_HIST_COUNT)."""


class ChangedPart(Enum):
    """Which property a change concerns."""

    KIND = "kind"
    UNIT = "unit"
    MEANING = "meaning"


@dataclass(frozen=True, slots=True)
class Change:
    """``since``: the kernel of the change. ``text``: describes the state before. ``architectures``: those concerned.

    ``was``: the previous kind or unit, whichever changed; None if only the meaning did.
    """

    since: str
    what: ChangedPart
    text: str
    architectures: tuple[str, ...]
    was: Kind | Measure | None = None


@dataclass(frozen=True, slots=True)
class StatEntry:
    """One stat, or all stats whose names match ``template``.

    ``since``: the first kernel by architecture; for providers other than ``kvm`` the oldest on which it was tested.
    ``until``: the first kernel without it. ``compare``: names of the same provider, or ``provider.name``.
    ``caveats``: slugs, those of its sort included. ``template``: as ``exit_{reason}_ns``; None for a stat of its own.
    """

    provider: str
    scope: Scope
    name: str
    since: Mapping[str, str]
    until: str | None
    replaced_by: tuple[str, ...]
    kind: Kind
    unit: Unit
    exponent: int
    size: int
    tier: Tier
    meaning: str
    compare: tuple[str, ...]
    caveats: tuple[str, ...]
    changed: tuple[Change, ...]
    template: str | None = None

    @property
    def shape(self) -> Shape:
        """Its kind, unit and size in the newest kernel."""
        return Shape(self.kind, self.unit, exponent=self.exponent, size=self.size)

    @property
    def architectures(self) -> tuple[str, ...]:
        return tuple(self.since)

    def had_by(self, architecture: str, kernel: str) -> bool:
        """Whether the kernel of this release (``6.1``) has it, by the catalogue; stable kernels may have more."""
        first = self.since.get(architecture)
        if first is None or release(kernel) < release(first):
            return False
        return self.until is None or release(kernel) < release(self.until)

    def shape_in(self, kernel: str) -> Shape:
        """Its kind, unit and size in the kernel of this release."""
        shape = self.shape
        for change in sorted(self.changed, key=lambda change: release(change.since), reverse=True):
            if release(kernel) < release(change.since):
                shape = _before(shape, change)
        return shape

    def agrees_with(self, descriptor: Descriptor) -> bool:
        """Whether a descriptor agrees with the catalogue on kind, unit and size."""
        return self.shape == descriptor.shape


@dataclass(frozen=True)
class StatCatalog:
    """The catalogue; iterates over its entries in the order of the file."""

    entries: tuple[StatEntry, ...]

    @cached_property
    def _exact(self) -> Mapping[tuple[str, Scope, str], StatEntry]:
        return {(e.provider, e.scope, e.name): e for e in self.entries if e.template is None}

    @cached_property
    def _templates(self) -> tuple[tuple[re.Pattern[str], StatEntry], ...]:
        """The patterns of the templates, the longest fixed part first: exit_{reason}_ns before exit_{reason}."""
        templates = [(_pattern(e.template), e) for e in self.entries if e.template is not None]
        templates.sort(key=lambda pair: len(_HOLE.sub("", pair[1].name)), reverse=True)
        return tuple(templates)

    def __iter__(self) -> Iterator[StatEntry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def find(self, provider: str, scope: Scope, name: str) -> StatEntry | None:
        """The entry of a stat, or one made from the template that matches; None if the catalogue lacks it."""
        found = self._exact.get((provider, scope, name))
        if found is not None:
            return found
        for pattern, entry in self._templates:
            if (entry.provider, entry.scope) == (provider, scope) and (match := pattern.fullmatch(name)):
                return _filled(entry, name, match.groupdict())
        return None

    def named(self, name: str) -> tuple[StatEntry, ...]:
        """The entries of this name, whatever their provider and scope."""
        places = dict.fromkeys((entry.provider, entry.scope) for entry in self.entries)
        found = (self.find(provider, scope, name) for provider, scope in places)
        return tuple(entry for entry in found if entry is not None)

    def of_kernel(self, architecture: str, kernel: str, *, provider: str = "kvm") -> tuple[StatEntry, ...]:
        """The stats that a kernel of this release has, by the catalogue."""
        return tuple(e for e in self.entries if e.provider == provider and e.had_by(architecture, kernel))


def release(kernel: str) -> tuple[int, int]:
    """``6.12`` -> (6, 12), for the order of releases. ValueError if it is not one."""
    match = re.fullmatch(r"([0-9]{1,9})\.([0-9]{1,9})", kernel)
    if match is None:
        raise ValueError(f"not a kernel release: {kernel!r}")
    return int(match[1]), int(match[2])


@cache
def load_stats() -> StatCatalog:
    """Every stat of the catalogue."""
    return parse_stats(read_toml(FILE))


def parse_stats(text: str, file: str = FILE, *, caveats: Mapping[str, Caveat] | None = None) -> StatCatalog:
    """Stats from TOML. Raises CatalogError if a key is missing, unknown or out of range, if a stat is not unique, or if
    it names a caveat, an architecture or a stat that does not exist.
    """
    caveats = load_caveats() if caveats is None else caveats
    root = read_root(text, file)
    entries = root_tables(root, "stat", beside=("architectures",))
    firsts = _parse_architectures(root.table("architectures"))
    found = [_parse_stat(entry, firsts, caveats) for entry in entries]
    _check_twice(entries, found)
    _check_names(entries, found)
    return StatCatalog(tuple(found))


_T = TypeVar("_T")

_REQUIRED = ("name", "scope", "since", "tier", "meaning")
_OPTIONAL = ("provider", "until", "replaced_by", "kind", "unit", "compare", "caveats", "changed")
_NO_UNIT = Measure(Unit.NONE, 0)
_HOLE = re.compile(r"\{(\w+)\}")
_NAME = re.compile(r"(?:\w|\{\w+\})+")


def _parse_architectures(entry: TomlEntry) -> Mapping[str, str]:
    return {name: _parse_release(entry, name) for name in entry}


def _parse_stat(entry: TomlEntry, firsts: Mapping[str, str], caveats: Mapping[str, Caveat]) -> StatEntry:
    entry.check_keys(_REQUIRED, _OPTIONAL)
    name = entry.string("name")
    if not _NAME.fullmatch(name):
        raise entry.error("name", "letters, digits, _ and {part}", shown(name))
    provider = entry.string("provider", "kvm")
    scope = entry.choice("scope", Scope)
    kind = _parse_word(entry, "kind", KINDS, Kind.CUMULATIVE)
    measure = _parse_word(entry, "unit", UNITS, _NO_UNIT)
    return StatEntry(
        provider=provider,
        scope=scope,
        name=name,
        since=_parse_since(entry, firsts),
        until=_parse_release(entry, "until") if "until" in entry else None,
        replaced_by=entry.strings("replaced_by"),
        kind=kind,
        unit=measure.unit,
        exponent=measure.exponent,
        size=HISTOGRAM_BUCKETS if kind.is_histogram else 1,
        tier=entry.choice("tier", Tier),
        meaning=entry.string("meaning"),
        compare=entry.strings("compare"),
        caveats=(*_parse_caveats(entry, caveats), *_common(caveats, provider, scope, kind)),
        changed=tuple(_parse_change(part, firsts) for part in entry.tables("changed")),
        template=name if _HOLE.search(name) else None,
    )


def _parse_word(entry: TomlEntry, key: str, words: Mapping[str, _T], default: _T) -> _T:
    if key not in entry:
        return default
    word = entry.string(key)
    if word not in words:
        raise entry.error(key, f"one of {', '.join(words)}", shown(word))
    return words[word]


def _parse_since(entry: TomlEntry, firsts: Mapping[str, str]) -> Mapping[str, str]:
    if isinstance(entry["since"], str):
        everywhere = _parse_release(entry, "since")
        return MappingProxyType({name: max(everywhere, first, key=release) for name, first in firsts.items()})
    table = entry.table("since")
    for name in table:
        _check_architecture(table, name, name, firsts)
    if not table:
        raise entry.error("since", "a kernel, or one for each architecture", "nothing")
    return MappingProxyType({name: _parse_release(table, name) for name in table})


def _parse_release(entry: TomlEntry, key: str) -> str:
    text = entry.string(key)
    try:
        release(text)
    except ValueError:
        raise entry.error(key, "a kernel such as 6.12", shown(text)) from None
    return text


def _check_architecture(entry: TomlEntry, key: str, name: str, firsts: Mapping[str, str]) -> None:
    if name not in firsts:
        raise entry.error(key, f"an architecture, of {', '.join(firsts)}", shown(name))


def _parse_caveats(entry: TomlEntry, caveats: Mapping[str, Caveat]) -> tuple[str, ...]:
    slugs = entry.strings("caveats")
    for slug in slugs:
        if slug not in caveats:
            raise entry.error("caveats", "slugs of caveats.toml", shown(slug))
    return slugs


def _common(caveats: Mapping[str, Caveat], provider: str, scope: Scope, kind: Kind) -> tuple[str, ...]:
    return tuple(slug for slug, c in caveats.items() if c.every is not None and c.every.covers(provider, scope, kind))


def _parse_change(entry: TomlEntry, firsts: Mapping[str, str]) -> Change:
    what = entry.choice("what", ChangedPart)
    entry.check_keys(("since", "what", "text") + (() if what is ChangedPart.MEANING else ("was",)), ("architectures",))
    architectures = entry.strings("architectures")
    for name in architectures:
        _check_architecture(entry, "architectures", name, firsts)
    return Change(
        since=_parse_release(entry, "since"),
        what=what,
        text=entry.string("text"),
        architectures=architectures or tuple(firsts),
        was=None if what is ChangedPart.MEANING else _parse_was(entry, what),
    )


def _parse_was(entry: TomlEntry, what: ChangedPart) -> Kind | Measure:
    if what is ChangedPart.KIND:
        return _parse_word(entry, "was", KINDS, Kind.CUMULATIVE)
    return _parse_word(entry, "was", UNITS, _NO_UNIT)


def _before(shape: Shape, change: Change) -> Shape:
    if isinstance(change.was, Kind):
        return replace(shape, kind=change.was)
    if isinstance(change.was, Measure):
        return replace(shape, unit=change.was.unit, exponent=change.was.exponent)
    return shape


def _check_twice(entries: list[TomlEntry], found: list[StatEntry]) -> None:
    seen: dict[tuple[str, Scope, str], TomlEntry] = {}
    for entry, stat in zip(entries, found, strict=True):
        key = (stat.provider, stat.scope, stat.name)
        if (first := seen.setdefault(key, entry)) is not entry:
            raise entry.error("name", "a stat of its own", f"{stat.name}, which line {first.line} has")


def _check_names(entries: list[TomlEntry], found: list[StatEntry]) -> None:
    known = {f"{stat.provider}.{stat.name}" for stat in found}
    for entry, stat in zip(entries, found, strict=True):
        for key, names in (("compare", stat.compare), ("replaced_by", stat.replaced_by)):
            for name in names:
                if (name if "." in name else f"{stat.provider}.{name}") not in known:
                    raise entry.error(key, "stats of this file", shown(name))


def _pattern(template: str) -> re.Pattern[str]:
    parts = _HOLE.split(template)
    text = "".join(f"(?P<{part}>\\w+?)" if place % 2 else re.escape(part) for place, part in enumerate(parts))
    return re.compile(text)


def _filled(entry: StatEntry, name: str, parts: Mapping[str, str]) -> StatEntry:
    def fill(text: str) -> str:
        return _HOLE.sub(lambda hole: parts.get(hole[1], hole[0]), text)

    return replace(entry, name=name, meaning=fill(entry.meaning), compare=tuple(map(fill, entry.compare)))
