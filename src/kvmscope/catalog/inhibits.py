"""Why KVM does without APICv or AVIC: the reasons from inhibits.toml, with their causes and remedies.

Not here: which of them holds for a VM (``analysis.apicv``), and their numbers (the kernel's BTF).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any


class Class(Enum):
    """Who brings a reason about."""

    HOST = "host"
    CONFIGURATION = "configuration"
    GUEST = "guest"
    PASSING = "passing"


class Vendor(Enum):
    """Whose virtualization KVM runs on; each knows its own set of reasons."""

    INTEL = "intel"
    AMD = "amd"


@dataclass(frozen=True, slots=True)
class Inhibit:
    """One reason. ``witness``: stats as ``provider.scope.name``; ``remedies``: by VMM, with ``any`` always there."""

    name: str
    cls: Class
    vendors: frozenset[Vendor]
    meaning: str
    set_by: str
    cleared_by: str
    witness: tuple[str, ...]
    remedies: Mapping[str, str]

    def remedy(self, *vmms: str | None) -> str:
        """The change that removes it, in the words of the first of ``vmms`` that has some."""
        return next((self.remedies[vmm] for vmm in vmms if vmm and vmm in self.remedies), self.remedies["any"])


@cache
def load_inhibits() -> Mapping[str, Inhibit]:
    """Every reason by its name as in stats (``pit_reinj``), in the order of the file."""
    text = files(__package__).joinpath("inhibits.toml").read_text(encoding="utf-8")
    return parse_inhibits(text)


def parse_inhibits(text: str) -> Mapping[str, Inhibit]:
    """Reasons from TOML. Raises ValueError if a field is missing, unknown or out of range, or a name comes twice."""
    inhibits = [_parse_inhibit(entry) for entry in tomllib.loads(text).get("reason", ())]
    by_name = {inhibit.name: inhibit for inhibit in inhibits}
    if len(by_name) != len(inhibits):
        raise ValueError("a reason's name comes twice")
    return MappingProxyType(by_name)


def unlisted(name: str) -> Inhibit:
    """A reason that a kernel has and this catalogue does not know."""
    return Inhibit(
        name=name,
        cls=Class.PASSING,
        vendors=frozenset(Vendor),
        meaning=f"KVM calls it {name}; kvmscope has no more words for it.",
        set_by="not known",
        cleared_by="not known",
        witness=(),
        remedies=MappingProxyType({"any": "Not known; see arch/x86/kvm of this kernel."}),
    )


_FIELDS = frozenset({"name", "class", "vendors", "meaning", "set_by", "cleared_by", "witness", "remedy"})


def _parse_inhibit(entry: Mapping[str, Any]) -> Inhibit:
    who = f"reason {entry.get('name', '?')}"
    if unknown := entry.keys() - _FIELDS:
        raise ValueError(f"{who}: no such field: {', '.join(sorted(unknown))}")
    if missing := _FIELDS - entry.keys():
        raise ValueError(f"{who}: missing: {', '.join(sorted(missing))}")
    if "any" not in entry["remedy"]:
        raise ValueError(f"{who}: no remedy for any VMM")
    return Inhibit(
        name=entry["name"],
        cls=Class(entry["class"]),
        vendors=frozenset(map(Vendor, entry["vendors"])),
        meaning=entry["meaning"],
        set_by=entry["set_by"],
        cleared_by=entry["cleared_by"],
        witness=tuple(entry["witness"]),
        remedies=MappingProxyType(dict(entry["remedy"])),
    )
