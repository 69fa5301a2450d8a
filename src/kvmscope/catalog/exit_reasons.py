"""Names of exit reasons by number: VM exits of the vendors whose KVM reports them, and userspace exits.

Not here: the exits of a VM (a source), and the meaning of each reason (stats.toml). Rule: a number without a name here
is counted as ``other``; the names can be part of a stat's name.
Source: exit_reasons.toml, which tools/exit_reasons.py generates from kernel headers. The print format of the kernel's
kvm_exit event has the same tables, and the tests compare the two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from functools import cache
from types import MappingProxyType

from .data import read_toml
from .tomlfile import TomlEntry, read_root, shown

_FILE = "exit_reasons.toml"
_NUMBER = re.compile(r"0x[0-9a-f]{1,8}")
_NAME = re.compile(r"[a-z0-9_]+")


class ReasonTable(Enum):
    """The table to which the numbers belong: a vendor, or userspace exits."""

    VMX = "vmx"
    SVM = "svm"
    ARM64 = "arm64"
    """Exception classes (ESR_EL2.EC): the reason of an exit whose exception is ``trap``."""
    ARM64_EXCEPTION = "arm64_exception"
    USERSPACE = "userspace"
    """``exit_reason`` of struct kvm_run."""


def reasons(table: ReasonTable) -> Mapping[int, str]:
    """Names by number, sorted by number: the low 32 bits of the reason that the CPU or the kernel reports."""
    return load_reasons()[table]


@cache
def load_reasons() -> Mapping[ReasonTable, Mapping[int, str]]:
    """Every table of the catalogue."""
    return parse_reasons(read_toml(_FILE), _FILE)


def parse_reasons(text: str, file: str) -> Mapping[ReasonTable, Mapping[int, str]]:
    """The tables from TOML. Raises CatalogError if one is missing or a number or a name is not of its form."""
    root = read_root(text, file)
    root.check_keys(tuple(table.value for table in ReasonTable))
    return MappingProxyType({table: _parse_table(root.table(table.value)) for table in ReasonTable})


def _parse_table(table: TomlEntry) -> Mapping[int, str]:
    names = {}
    for number in table:
        if not _NUMBER.fullmatch(number):
            raise table.error(number, "a number of 32 bits such as 0x1f", shown(number))
        name = table.string(number)
        if not _NAME.fullmatch(name):
            raise table.error(number, "lower-case letters, digits and _", shown(name))
        names[int(number, 16)] = name
    return MappingProxyType(names)
