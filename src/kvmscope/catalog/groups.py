"""The opt-in groups of counters, their meaning and cost, from groups.toml. ``sources.bpf.groups`` counts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from types import MappingProxyType
from typing import Final

from .data import read_toml
from .tomlfile import TomlEntry, read_tables, unique

_FILE: Final = "groups.toml"


class GroupHome(Enum):
    """ITERATOR: in the program that reads the host. OBJECT: in a separate BPF object, named after the group."""

    ITERATOR = "iterator"
    OBJECT = "object"


@dataclass(frozen=True, slots=True)
class GroupEntry:
    """One group. ``ns_per_event``: as measured for bench/RESULTS.md; None if it does not count events.

    ``home``: where it is counted. ``rate``: a metric that approximates its events per second, or "".
    """

    name: str
    title: str
    meaning: str
    needs: str
    ns_per_event: int | None
    home: GroupHome
    rate: str = ""

    @property
    def can_be_pinned(self) -> bool:
        """Whether ``attach`` can keep it counting; state that the iterator reads without counting is pinned with it."""
        return self.home is GroupHome.OBJECT or self.ns_per_event is None


@cache
def load_groups() -> Mapping[str, GroupEntry]:
    """Every group by name, in the order of the file."""
    return parse_groups(read_toml(_FILE), _FILE)


@cache
def kernel_providers() -> frozenset[str]:
    """Providers whose stats come from the kernel. A published file may use their names only if it is simulated."""
    return frozenset({"kvm", "cgroup", "pressure", "sched", "settings", *load_groups()})


def parse_groups(text: str, file: str) -> Mapping[str, GroupEntry]:
    """Groups from TOML. Raises CatalogError."""
    entries = read_tables(text, file, "group")
    found = {entry.string("name"): _parse(entry) for entry in entries}
    unique(entries, "name")
    return MappingProxyType(found)


def _parse(entry: TomlEntry) -> GroupEntry:
    entry.check_keys(("name", "title", "meaning", "needs"), ("ns_per_event", "home", "rate"))
    cost = entry.integer("ns_per_event") if "ns_per_event" in entry else None
    name, title, meaning, needs = (entry.string(key) for key in ("name", "title", "meaning", "needs"))
    home = entry.choice("home", GroupHome) if "home" in entry else GroupHome.OBJECT
    return GroupEntry(name, title, meaning, needs, cost, home, entry.string("rate", ""))
