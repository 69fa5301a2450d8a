"""Why KVM inhibits APICv/AVIC: the reasons from inhibits.toml, with their causes and remedies.

Not here: which reasons are set for a VM (``analysis.apicv``), and their numbers (the kernel's BTF).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from types import MappingProxyType
from typing import Final

from .data import read_toml
from .settings import load_settings, setting_names, ways_of
from .tomlfile import TomlEntry, read_tables, shown, unique

_FILE: Final = "inhibits.toml"


class InhibitClass(Enum):
    """The cause of a reason."""

    HOST = "host"
    CONFIGURATION = "configuration"
    GUEST = "guest"
    PASSING = "passing"


class Vendor(Enum):
    """The CPU vendor; each has its own set of reasons."""

    INTEL = "intel"
    AMD = "amd"


@dataclass(frozen=True, slots=True)
class Inhibit:
    """One reason. ``witness``: stats as ``provider.scope.name``. ``settings``: those that ``change`` changes."""

    name: str
    cls: InhibitClass
    vendors: frozenset[Vendor]
    meaning: str
    set_by: str
    cleared_by: str
    witness: tuple[str, ...]
    change: str
    settings: tuple[str, ...] = ()

    def remedy(self, parties: Sequence[str]) -> str:
        """The change that removes it, in the syntax of the VM's parties (``settings.parties_of``)."""
        return " ".join((self.change, *(f"{way}." for way in ways_of(self.settings, parties))))

    @property
    def remedies(self) -> Mapping[str, str]:
        """``any``: the change; for each party, its syntax, or why it has none."""
        found = {"any": self.remedy(())}
        for name in self.settings:
            setting = load_settings()[name]
            found |= {party: text for party, text in {**setting.by, **setting.cannot}.items() if party != "any"}
        return MappingProxyType(found)


@cache
def load_inhibits() -> Mapping[str, Inhibit]:
    """Every reason by its name as in stats (``pit_reinj``), in the order of the file."""
    return parse_inhibits(read_toml(_FILE), _FILE)


def parse_inhibits(text: str, file: str) -> Mapping[str, Inhibit]:
    """Reasons from TOML. Raises CatalogError if a field is missing or invalid, or a name is not unique."""
    entries = read_tables(text, file, "reason")
    inhibits = [_parse_inhibit(entry) for entry in entries]
    unique(entries, "name")
    return MappingProxyType({inhibit.name: inhibit for inhibit in inhibits})


def unlisted(name: str) -> Inhibit:
    """An entry for a reason that the kernel has and the catalogue does not."""
    return Inhibit(
        name=name,
        cls=InhibitClass.PASSING,
        vendors=frozenset(Vendor),
        meaning=f"KVM calls it {name}. It is not in kvmscope's catalogue.",
        set_by="unknown",
        cleared_by="unknown",
        witness=(),
        change="Unknown; see arch/x86/kvm of this kernel.",
    )


_FIELDS: Final = ("name", "class", "vendors", "meaning", "set_by", "cleared_by", "witness", "remedy")


def _parse_inhibit(entry: TomlEntry) -> Inhibit:
    entry.check_keys(_FIELDS, ("settings",))
    return Inhibit(
        name=entry.string("name"),
        cls=entry.choice("class", InhibitClass),
        vendors=frozenset(_vendor(entry, name) for name in entry.strings("vendors")),
        meaning=entry.string("meaning"),
        set_by=entry.string("set_by"),
        cleared_by=entry.string("cleared_by"),
        witness=entry.strings("witness"),
        change=entry.string("remedy"),
        settings=setting_names(entry, "settings"),
    )


def _vendor(entry: TomlEntry, name: str) -> Vendor:
    try:
        return Vendor(name)
    except ValueError:
        known = ", ".join(vendor.value for vendor in Vendor)
        raise entry.error("vendors", f"some of {known}", shown(name)) from None
