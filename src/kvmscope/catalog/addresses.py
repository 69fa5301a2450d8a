"""Ports and MSRs by name, from addresses.toml: the ranges that group ``accesses`` counts, and their purpose.

Rule: names can be part of a stat's name, and a number belongs to the first entry whose range it is in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from types import MappingProxyType
from typing import Final

from .data import read_toml
from .tomlfile import TomlEntry, read_root, root_tables, unique

_FILE: Final = "addresses.toml"
_NAME: Final = re.compile(r"[a-z0-9_]+")


class AddressSpace(Enum):
    """The address space; its value is the prefix of the stats' names."""

    PORT = "port"
    MSR = "msr"


@dataclass(frozen=True, slots=True)
class AddressRange:
    """Ports or MSRs that count under one name; ``last`` is included. ``also``: further numbers. ``clocks``: the clocks
    to report for a guest that accesses them, by the names of ``view.added_causes.clock_causes``."""

    name: str
    first: int
    last: int
    means: str
    also: tuple[int, ...] = ()
    clocks: tuple[str, ...] = ()

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """The first and last number of each contiguous range, the last included."""
        return ((self.first, self.last), *((number, number) for number in self.also))

    @property
    def numbers(self) -> str:
        """``0x70-0x71``, or ``0x60, 0x64``."""
        return ", ".join(f"{first:#x}" if first == last else f"{first:#x}-{last:#x}" for first, last in self.spans)


@dataclass(frozen=True, slots=True)
class AddressTable:
    """``provider``: of the stats that count accesses. ``spaces``: the ranges, in search order."""

    provider: str
    spaces: Mapping[AddressSpace, tuple[AddressRange, ...]]


@cache
def load_addresses() -> AddressTable:
    """The table of the catalogue."""
    return parse_addresses(read_toml(_FILE), _FILE)


def parse_addresses(text: str, file: str) -> AddressTable:
    """The table from TOML. Raises CatalogError."""
    root, tables = read_root(text, file), tuple(space.value for space in AddressSpace)
    spaces = {AddressSpace(each): _parse(root_tables(root, each, beside=(*tables, "provider"))) for each in tables}
    return AddressTable(root.string("provider"), MappingProxyType(spaces))


def _parse(entries: list[TomlEntry]) -> tuple[AddressRange, ...]:
    unique(entries, "name")
    return tuple(_range(entry) for entry in entries)


def _range(entry: TomlEntry) -> AddressRange:
    entry.check_keys(("name", "first", "last", "means"), ("also", "clocks"))
    name, first, last = entry.string("name"), entry.integer("first"), entry.integer("last")
    if not _NAME.fullmatch(name):
        raise entry.error("name", "lower-case letters, digits and _", name)
    if last < first:
        raise entry.error("last", f"a number from {first:#x} on", f"{last:#x}")
    return AddressRange(name, first, last, entry.string("means"), entry.integers("also"), entry.strings("clocks"))
