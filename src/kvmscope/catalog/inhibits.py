"""Why KVM inhibits APICv/AVIC: the reasons from inhibits.toml, with their causes and remedies.

Not here: which of them is set for a VM (``analysis.apicv``), and their numbers (the kernel's BTF).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from types import MappingProxyType
from typing import Final

from .data import read_toml
from .tomlfile import TomlEntry, read_tables, shown, unique

_FILE: Final = "inhibits.toml"


class InhibitClass(Enum):
    """What causes a reason."""

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
    """One reason. ``witness``: stats as ``provider.scope.name``; ``remedies``: by VMM, with ``any`` always there."""

    name: str
    cls: InhibitClass
    vendors: frozenset[Vendor]
    meaning: str
    set_by: str
    cleared_by: str
    witness: tuple[str, ...]
    remedies: Mapping[str, str]

    def remedy(self, *vmms: str | None) -> str:
        """The change that removes it, as written for the first of ``vmms`` with an entry, else for any VMM."""
        return next((self.remedies[vmm] for vmm in vmms if vmm and vmm in self.remedies), self.remedies["any"])


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
        remedies=MappingProxyType({"any": "Unknown; see arch/x86/kvm of this kernel."}),
    )


_FIELDS: Final = ("name", "class", "vendors", "meaning", "set_by", "cleared_by", "witness", "remedy")


def _parse_inhibit(entry: TomlEntry) -> Inhibit:
    entry.check_keys(_FIELDS)
    remedies = entry.table("remedy")
    remedies.string("any")
    return Inhibit(
        name=entry.string("name"),
        cls=entry.choice("class", InhibitClass),
        vendors=frozenset(_vendor(entry, name) for name in entry.strings("vendors")),
        meaning=entry.string("meaning"),
        set_by=entry.string("set_by"),
        cleared_by=entry.string("cleared_by"),
        witness=entry.strings("witness"),
        remedies=MappingProxyType({vmm: remedies.string(vmm) for vmm in remedies}),
    )


def _vendor(entry: TomlEntry, name: str) -> Vendor:
    try:
        return Vendor(name)
    except ValueError:
        known = ", ".join(vendor.value for vendor in Vendor)
        raise entry.error("vendors", f"some of {known}", shown(name)) from None
