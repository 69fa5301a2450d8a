"""A stat set as its author proposes it, the input of ``review``.

Not here: judgements. A proposal may break every rule of style and of the format; only an unreadable one is an error.
A class of ``Stats`` is a proposal too: ``of_declarations``.

The file is TOML: ``title``, ``provider`` and one ``[[stat]]`` per stat with name, scope (vm, vcpu), kind (cumulative,
instant, peak, linear-histogram, log-histogram), and if they apply unit (none, bytes, seconds, cycles, boolean,
bit), exponent, size, bucket_size, tier, group, meaning, and ``moved_in``: the functions that update it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from ..catalog.tomlfile import TomlEntry, read_root, shown, unique
from ..catalog.words import KINDS
from ..schema import Descriptor, Kind, Scope, Unit

_T = TypeVar("_T")

_KERNEL_LOG_BUCKETS = 32

UNITS = {unit.name.lower(): unit for unit in Unit}


@dataclass(frozen=True, slots=True)
class ProposedStat:
    """One stat; ``tier``, ``group`` and ``meaning`` are empty if its author gave none."""

    scope: Scope
    descriptor: Descriptor
    meaning: str = ""
    tier: str = ""
    group: str = ""
    moved_in: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.descriptor.name

    @property
    def words(self) -> frozenset[str]:
        """The parts of its name, in lower case."""
        return frozenset(filter(None, self.name.lower().split("_")))


@dataclass(frozen=True, slots=True)
class Proposal:
    """Stats that an author wants to add."""

    title: str
    provider: str
    stats: tuple[ProposedStat, ...]


def parse_proposal(text: str, file: str) -> Proposal:
    """A proposal from TOML. Raises CatalogError with the file, the line and the expected syntax."""
    root = read_root(text, file)
    root.check_keys(("stat",), ("title", "provider"))
    entries = root.tables("stat")
    if not entries:
        raise root.error("stat", "at least one [[stat]]", "none")
    stats = tuple(_parse_stat(entry) for entry in entries)
    for scope in Scope:
        unique([entry for entry in entries if entry["scope"] == scope.value], "name")
    return Proposal(root.string("title", file), root.string("provider", "kvm"), stats)


_REQUIRED = ("name", "scope", "kind")
_OPTIONAL = ("unit", "exponent", "size", "bucket_size", "tier", "group", "meaning", "moved_in")


def _parse_stat(entry: TomlEntry) -> ProposedStat:
    entry.check_keys(_REQUIRED, _OPTIONAL)
    kind = _one_of(entry, "kind", KINDS)
    unit = _one_of(entry, "unit", UNITS) if "unit" in entry else Unit.NONE
    descriptor = Descriptor(
        name=entry.string("name"),
        kind=kind,
        unit=unit,
        exponent=entry.integer("exponent", 0),
        size=entry.integer("size", _KERNEL_LOG_BUCKETS if kind is Kind.LOG_HISTOGRAM else 1),
        bucket_size=entry.integer("bucket_size", 0),
    )
    texts = {key: entry.string(key, "") if entry.get(key) != "" else "" for key in ("meaning", "tier", "group")}
    return ProposedStat(entry.choice("scope", Scope), descriptor, moved_in=entry.strings("moved_in"), **texts)


def _one_of(entry: TomlEntry, key: str, choices: Mapping[str, _T]) -> _T:
    value = entry.string(key)
    if value not in choices:
        raise entry.error(key, f"one of {', '.join(choices)}", shown(value))
    return choices[value]
