"""The kernels whose KVM statistics the catalogue has: 5.14 to 7.3, of every architecture, from ``kernels/``.

One file per architecture has each distinct table once, and each kernel names its two tables. A kernel is ``captured``
if its descriptors were read while it ran, otherwise derived from its source, as ``how`` says. A series such as 5.15
stands for its first releases; a stable release with other stats has its own entry (5.15.100).
tools/kernel_stats.py writes the files and compares them with kernel sources.

Rule: an unknown kernel is a ``UsageError`` that names the nearest ones.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from ..errors import CatalogError, UsageError
from ..schema import Base, KernelTables, Kind, Scope, Shape, Table, Unit
from .data import FOLDER

PROVIDER = "kvm"

_MACHINES = {"x86_64": "x86", "aarch64": "arm64", "s390x": "s390", "loongarch64": "loongarch"}
_FAMILIES = {"riscv": "riscv", "ppc": "powerpc", "mips": "mips", r"i[3-6]86": "x86"}
_STAT = re.compile(
    r"(?P<name>\S+)(?: (?P<kind>[a-z_]+)(?: (?P<unit>[a-z]+)(?:@(?P<base>2|10)\^(?P<exponent>-?\d+))?)?"
    r"(?: x(?P<size>\d+)(?:/(?P<bucket>\d+))?)?)?"
)


@cache
def known_kernels() -> tuple[KernelTables, ...]:
    """Every known kernel, by architecture and then from the oldest to the newest."""
    folder = FOLDER / "kernels"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".json"))
    return tuple(kernel for name in names for kernel in read_kernels((folder / name).read_text("utf-8"), name))


def find_kernel(name: str, architecture: str = "x86") -> KernelTables:
    """The kernel called ``arm64-7.3``, or ``7.3`` for that of ``architecture``; UsageError if it is not known."""
    known = {kernel.name: kernel for kernel in known_kernels()}
    wanted = name if name in known else f"{architecture}-{name}"
    if wanted not in known:
        near = tuple(difflib.get_close_matches(wanted, known, n=3))
        raise UsageError(f"no kernel called {name!r} is known", nearest=near)
    return known[wanted]


def architecture_of(machine: str) -> str:
    """The kernel's name for the architecture of ``uname -m``: ``x86`` for ``x86_64``."""
    if machine in _MACHINES:
        return _MACHINES[machine]
    return next((word for start, word in _FAMILIES.items() if re.match(start, machine)), machine)


def version_of(kernel: KernelTables) -> tuple[int, ...] | None:
    """``(6, 1)`` for a known ``x86-6.1``, ``(6, 18, 44)`` for a release ``6.18.44-cloud``; None if it is not known."""
    named = re.fullmatch(r"[a-z]\S*-(\d+(?:\.\d+)+)", kernel.name)
    found = named or re.match(r"(\d+(?:\.\d+)+)", kernel.release or "")
    return tuple(map(int, found[1].split("."))) if found else None


def read_kernels(text: str, file: str) -> tuple[KernelTables, ...]:
    """The kernels of one file. CatalogError if it is invalid."""
    try:
        root = json.loads(text)
        tables = {scope: [_read_table(table) for table in root["tables"][scope.value]] for scope in Scope}
        return tuple(_read_kernel(file.removesuffix(".json"), root, tables, kernel) for kernel in root["kernels"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        found = f"{type(error).__name__}: {error}"
        raise CatalogError("", file=file, line=1, expected="the kernels of an architecture", found=found) from error


def _read_kernel(
    stem: str, root: Mapping[str, Any], tables: Mapping[Scope, list[Mapping[str, Shape]]], kernel: Mapping[str, Any]
) -> KernelTables:
    sizes = kernel.get("data_size", {})
    return KernelTables(
        name=f"{stem}-{kernel['version']}",
        release=kernel["release"],
        architecture=root["architecture"],
        captured=kernel["captured"],
        how=kernel["how"],
        tables=tuple(
            Table(PROVIDER, scope, tables[scope][kernel[scope.value]], sizes.get(scope.value)) for scope in Scope
        ),
    )


def _read_table(stats: list[str]) -> Mapping[str, Shape]:
    return MappingProxyType(dict(map(read_stat, stats)))


def read_stat(text: str) -> tuple[str, Shape]:
    """A name and its shape from ``exits``, ``mmu_unsync instant``, ``halt_wait_hist log_histogram seconds@10^-9 x32``.

    ValueError if it is not of that form.
    """
    found = _STAT.fullmatch(text)
    if found is None:
        raise ValueError(f"not a stat: {text!r}")
    base = {"2": Base.POW2}.get(found["base"], Base.POW10)
    return found["name"], Shape(
        Kind[(found["kind"] or "cumulative").upper()],
        Unit[(found["unit"] or "none").upper()],
        base,
        int(found["exponent"] or 0),
        int(found["size"] or 1),
        int(found["bucket"] or 0),
    )
