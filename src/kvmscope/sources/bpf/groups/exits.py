"""Group ``exits``: per vCPU and exit reason the number of exits, their total time, and a histogram of it.

An exit is an event of tracepoint kvm_exit. It lasts until the next kvm_entry of the vCPU, including time in the VMM and
asleep. Each reason with a name on this architecture has its own row; the rest count as ``other``.
Programs: exits.bpf.c. Names and numbers: catalog/exit_reasons.toml.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from ....catalog.exit_reasons import ReasonTable, reasons
from ....schema import Schema, Scope
from .base import TIMED_SIZE, Plan, timed
from .kernel import Isa, KernelFacts

NAME = "exits"
OTHER = "other"
_PLACES = 2048
_LAST_BEFORE_NEGATIVE = 2031
_ARM_EXCEPTIONS = 64
_EXCEPTION = "exception_"


def plan(kernel: KernelFacts) -> Plan:
    """What to load. Raises Unavailable on a kernel without the tracepoints."""
    kernel.need_tracepoints("kvm_exit", "kvm_entry")
    names = _names(kernel.isa)
    suffix = "arm64" if kernel.isa is Isa.ARM64 else "x86"
    return Plan(
        NAME,
        schema_of(tuple(names.values())),
        rows=len(names) + 1,
        programs={f"exit_{suffix}": None, f"entry_{suffix}": None},
        constants=_constants(kernel.isa, tuple(names)),
        silent="" if kernel.isa is not Isa.UNKNOWN else _SILENT.format(vendor=kernel.vendor),
    )


_SILENT = "no exit was seen so far: {vendor}, which runs the VMs here, may report none (tracepoint kvm_exit)"


def schema_of(names: tuple[str, ...]) -> Schema:
    """The stats for these reasons and ``other``, in this order."""
    stats = [f"exit_{name}" for name in (*names, OTHER)]
    found = [
        descriptor
        for row, stat in enumerate(stats)
        for descriptor in timed(row * TIMED_SIZE, stat, time=f"{stat}_ns", histogram=f"{stat}_hist")
    ]
    return Schema(NAME, Scope.VCPU, tuple(found), TIMED_SIZE * len(stats))


def _names(isa: Isa) -> Mapping[int, str]:
    """Reason as read by exits.bpf.c -> name, for the reasons that it can distinguish."""
    if isa is Isa.UNKNOWN:
        return {}
    if isa is Isa.ARM64:
        traps = reasons(ReasonTable.ARM64)
        others = {_ARM_EXCEPTIONS + (n & 63): name for n, name in reasons(ReasonTable.ARM64_EXCEPTION).items()}
        return {**traps, **{n: _EXCEPTION + name if name in traps.values() else name for n, name in others.items()}}
    table = reasons(ReasonTable[isa.name])
    return {number: name for number, name in table.items() if place_of_reason(number) != _LAST_BEFORE_NEGATIVE}


def place_of_reason(number: int) -> int:
    """The place of a reason in the program's table; all reasons outside it share one place."""
    number &= 0xFFFF_FFFF
    if number < _LAST_BEFORE_NEGATIVE or number > 0xFFFF_FFFF - (_PLACES - 1 - _LAST_BEFORE_NEGATIVE):
        return number & (_PLACES - 1)
    return _LAST_BEFORE_NEGATIVE


def _constants(isa: Isa, numbers: tuple[int, ...]) -> bytes:
    row_of = bytearray([len(numbers)]) * _PLACES
    for row, number in enumerate(numbers):
        row_of[place_of_reason(number)] = row
    return struct.pack("=II", isa.value, len(numbers)) + bytes(row_of)
