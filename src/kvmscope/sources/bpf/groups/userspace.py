"""Group ``userspace``: per vCPU and reason the number of userspace exits, and the time until the next KVM_RUN.

An exit is an event of tracepoint kvm_userspace_exit; a KVM_RUN ended by a signal is ``intr``, a failed one ``error``.
Internal errors of KVM and failed VM entries are also counted by cause. The time is that outside KVM_RUN, including
waits of the VMM and pauses of the VM; it is counted at its end.
Programs: userspace.bpf.c. Names and numbers: catalog/exit_reasons.toml.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from ....catalog.exit_reasons import ReasonTable, reasons
from ....errors import Unavailable
from ....schema import Descriptor, Schema, Scope
from .base import TIMED_SIZE, Plan, counted, summed, timed
from .kernel import KernelFacts

NAME = "userspace"
ERROR, OTHER = "error", "other"
_REASONS = 32
_NUMBERS = 64
_DETAILS = 8
_INTERNAL_ERRORS = (OTHER, "emulation", "simul_ex", "delivery_ev", "unexpected_exit_reason")
"""Names by suberror: KVM_INTERNAL_ERROR_* of include/uapi/linux/kvm.h."""
_ENTRY_FAILURES = (OTHER, "invalid_state", "msr_load", "machine_check", "instruction")
"""Names by ``enum entry_failure`` of the program."""

_ELSEWHERE = ("s390_", "papr_", "riscv_", "loongarch_", "dcr", "epr", "osi", "watchdog")  # the unprefixed ones: PowerPC
_X86 = ("x86_", "hyperv", "xen", "tdx", "snp_", "ioapic_", "tpr_", "set_tpr", "irq_window_", "nmi")
_FOREIGN = {"x86_64": (*_ELSEWHERE, "arm_"), "aarch64": (*_ELSEWHERE, *_X86)}
"""The prefixes of reasons that each architecture does not have."""


def plan(kernel: KernelFacts) -> Plan:
    """What to load. Raises Unavailable on a kernel without the tracepoints, or of an architecture not known here."""
    if kernel.machine not in _FOREIGN:
        raise Unavailable(f"the exit reasons of KVM on {kernel.machine} are not known")
    enter = {"fpu": "kvm_fpu"} if kernel.machine == "x86_64" else {"entry": "kvm_entry"}
    kernel.need_tracepoints(*enter.values(), "kvm_userspace_exit")
    names = names_of(kernel.machine)
    return Plan(
        NAME,
        schema_of(tuple(names.values())),
        rows=1,
        programs=dict.fromkeys((*enter, "leave")),
        constants=_constants(names),
    )


def names_of(machine: str) -> Mapping[int, str]:
    """The reasons that an architecture can have, by number."""
    foreign = _FOREIGN[machine]
    return {n: name for n, name in reasons(ReasonTable.USERSPACE).items() if not name.startswith(foreign)}


def schema_of(names: tuple[str, ...]) -> Schema:
    """The stats for these reasons, ``error`` and ``other``, in this order."""
    found = [
        *timed(0, "userspace_exits", time="userspace_ns", histogram="userspace_hist"),
        *(each for place, name in enumerate((*names, ERROR, OTHER)) for each in _descriptors(place, name)),
        *_details(2 * _REASONS, "internal_error", _INTERNAL_ERRORS),
        *_details(2 * _REASONS + _DETAILS, "entry_failure", _ENTRY_FAILURES),
    ]
    return Schema(NAME, Scope.VCPU, tuple(found), TIMED_SIZE + 8 * (2 * _REASONS + 2 * _DETAILS))


def _descriptors(place: int, name: str) -> Iterator[Descriptor]:
    stat, at = f"userspace_exit_{name}", TIMED_SIZE + 8 * place
    yield counted(at, stat)
    yield summed(at + 8 * _REASONS, f"{stat}_ns")


def _details(first: int, stat: str, names: tuple[str, ...]) -> Iterator[Descriptor]:
    yield from (counted(TIMED_SIZE + 8 * place, f"{stat}_{name}") for place, name in enumerate(names, first))


def _constants(names: Mapping[int, str]) -> bytes:
    error, other = len(names), len(names) + 1
    assert other < _REASONS
    numbers = {name: number for number, name in names.items()}
    place_of = bytearray([other]) * _NUMBERS
    for place, number in enumerate(names):
        place_of[number] = place
    known = (numbers[name] for name in ("intr", "memory_fault", "internal_error", "fail_entry"))
    return struct.pack("=6I", error, other, *known) + bytes(place_of)
