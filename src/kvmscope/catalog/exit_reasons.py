"""Names of exit reasons by number, for the vendors whose KVM tells them, and of exits to the VMM.

Not here: which of them a VM has (a source), and what each means (stats.toml). Rule: a number that is not here has no
name, and is counted among the others; the names are fit to be part of a stat's name.
Source: exit_reasons.toml, which tools/exit_reasons.py takes out of kernel headers. The same tables stand in the print
format of the kernel's kvm_exit event, by which the tests check them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from enum import Enum
from functools import cache
from importlib.resources import files
from types import MappingProxyType


class ReasonTable(Enum):
    """Whose numbers they are."""

    VMX = "vmx"
    SVM = "svm"
    ARM64 = "arm64"
    """Exception classes (ESR_EL2.EC), which tell of an exit whose exception is ``trap``."""
    ARM64_EXCEPTION = "arm64_exception"
    USERSPACE = "userspace"
    """``exit_reason`` of struct kvm_run."""


@cache
def reasons(table: ReasonTable) -> Mapping[int, str]:
    """Name by number, in the order of the numbers; these are the low 32 bits of what the CPU or the kernel says."""
    text = files(__package__).joinpath("exit_reasons.toml").read_text(encoding="utf-8")
    names: dict[str, str] = tomllib.loads(text)[table.value]
    return MappingProxyType({int(number, 16): name for number, name in names.items()})
