"""The facts of each VM as a case: numbers in a fixed order, so VMs with equal facts are judged once.

Rule: a verdict depends on nothing of a sample but its case, so a case is all that the judging code may know.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from ...sample import I64Array, Sample
from ...schema import Kind, Scope
from ..window import BoolArray, Window, find_column
from ..words import StatWords, words_of
from .facts import INHIBIT, PROVIDER, VcpuFacts, VmFacts, reasons_of

CASES_KEPT: Final = 4096
"""How many cases are cached with their verdicts, which take a few KiB each."""

_NOT_SAID: Final = -1
_NUMBER = np.dtype(np.int64)


class Case(NamedTuple):
    """The facts of one VM as numbers, with one row for each vCPU. ``reasons``: their names, in the numbers' order."""

    reasons: tuple[str, ...]
    vm: bytes
    vcpus: bytes


def read_cases(sample: Sample, window: Window | None = None, *, irq_windows_always: bool = False) -> Iterator[Case]:
    """The case of each VM of ``sample``, which is the current sample of ``window`` if there is one.

    ``irq_windows_always``: include the number of interrupt windows also for VMs whose ``irqwin`` is not set. The number
    differs from VM to VM, and is evidence for no other reason.
    """
    stats = reasons_of(sample)
    reasons = tuple(name.removeprefix(INHIBIT) for name in stats)
    inhibits = flags_of(sample, Scope.VM, PROVIDER, stats)
    is_asked = np.ones(len(sample.vms), dtype=np.bool_)
    if not irq_windows_always:
        is_asked = inhibits[reasons.index("irqwin")] > 0 if "irqwin" in reasons else ~is_asked
    irq_windows = np.where(is_asked[sample.vcpus.vm], _irq_windows(sample, window), _NOT_SAID)
    vms = [inhibits, *_before(stats, window, len(sample.vms)), flags_of(sample, Scope.VM, PROVIDER, _VM_FLAGS)]
    vcpus = [
        sample.vcpus.id[np.newaxis],
        flags_of(sample, Scope.VCPU, PROVIDER, _VCPU_FLAGS),
        flags_of(sample, Scope.VCPU, "kvm", _VCPU_KVM_FLAGS),
        _numbers(sample, Scope.VCPU, PROVIDER, _VCPU_NUMBERS),
        irq_windows[np.newaxis],
    ]
    of_vms, of_vcpus = _rows(vms), _rows(vcpus)
    vm_size, vcpu_size = (sum(map(len, rows)) * _NUMBER.itemsize for rows in (vms, vcpus))
    return (
        Case(reasons, of_vms[at : at + vm_size], of_vcpus[own.start * vcpu_size : own.stop * vcpu_size])
        for at, own in zip(range(0, len(of_vms), vm_size), sample.vcpus_of_vm, strict=True)
    )


def facts_of(case: Case) -> VmFacts:
    """The facts that a case encodes."""
    vm = np.frombuffer(case.vm, dtype=_NUMBER).tolist()
    count = len(case.reasons)
    now, is_old, before, flags = vm[:count], vm[count], vm[count + 1 : 2 * count + 1], vm[2 * count + 1 :]
    inhibits = {name: bool(value) for name, value in zip(case.reasons, now, strict=True) if value >= 0}
    held = {name: bool(value) for name, value in zip(case.reasons, before, strict=True) if value >= 0}
    rows = np.frombuffer(case.vcpus, dtype=_NUMBER).reshape(-1, _VCPU_SIZE).tolist()
    kernel, split, pit, reinject, wide_ids, auto_eoi, sev = map(_flag, flags)
    return VmFacts(
        inhibits=inhibits or None,
        irqchip_kernel=kernel,
        irqchip_split=split,
        pit_in_kernel=pit,
        pit_reinject=reinject,
        x2apic_32bit_ids=wide_ids,
        synic_auto_eoi=auto_eoi,
        sev=sev,
        vcpus=tuple(_vcpu_facts(row, numbers, is_read=bool(inhibits)) for row, numbers in enumerate(rows)),
        before=held if is_old else None,
    )


def _vcpu_facts(row: int, numbers: list[int], *, is_read: bool) -> VcpuFacts:
    vcpu, active, enabled, x2apic, base_moved, blockirq, has_run, guest_mode, apic_id, ldr, dfr, irq_windows = numbers
    return VcpuFacts(
        row=row,
        id=vcpu,
        # If the state was not read at all, its absence is not evidence.
        has_apic=True if active >= 0 else False if is_read else None,
        has_run=_flag(has_run),
        active=_flag(active),
        enabled=_flag(enabled),
        x2apic=_flag(x2apic),
        base_moved=_flag(base_moved),
        blockirq=_flag(blockirq),
        apic_id=_number(apic_id),
        ldr=_number(ldr),
        dfr=_number(dfr),
        guest_mode=_flag(guest_mode),
        irq_windows=_number(irq_windows),
    )


_VM_FLAGS: Final = (
    "irqchip_kernel",
    "irqchip_split",
    "pit_in_kernel",
    "pit_reinject_mode",
    "x2apic_32bit_ids",
    "synic_auto_eoi_used",
    "sev_active",
)
_VCPU_FLAGS: Final = ("apicv_active", "apic_enabled", "apic_x2apic", "apic_base_moved", "guest_debug_blockirq")
_VCPU_KVM_FLAGS: Final = ("exits", "guest_mode")
_VCPU_NUMBERS: Final = ("apic_id", "apic_ldr", "apic_dfr")
_VCPU_SIZE: Final = 1 + len(_VCPU_FLAGS) + len(_VCPU_KVM_FLAGS) + len(_VCPU_NUMBERS) + 1


def flags_of(sample: Sample, scope: Scope, provider: str, names: tuple[str, ...]) -> I64Array:
    """One row per stat, one column per subject: 1 if nonzero, 0 if zero, negative if the sample lacks the stat."""
    found = words_of(sample, provider, scope, names)
    return _where_known(found, (found.words != 0).astype(np.int64))


def _numbers(sample: Sample, scope: Scope, provider: str, names: tuple[str, ...]) -> I64Array:
    """One row per stat, one column per subject."""
    found = words_of(sample, provider, scope, names)
    return _where_known(found, found.words.astype(np.int64))


def _where_known(found: StatWords, numbers: I64Array) -> I64Array:
    if found.known is not None:
        numbers[~found.known] = _NOT_SAID
    return numbers


def _before(stats: tuple[str, ...], window: Window | None, count: int) -> Iterator[I64Array]:
    """Whether each VM existed when the window began, and the reasons that held then."""
    if window is None:
        yield np.zeros((1, count), dtype=np.int64)
        yield np.full((len(stats), count), _NOT_SAID)
        return
    rows = window.previous_rows(Scope.VM)
    was_there: BoolArray = np.asarray(rows >= 0)
    yield was_there.astype(np.int64)[np.newaxis]
    flags = flags_of(window.previous, Scope.VM, PROVIDER, stats)
    yield np.where(was_there, flags[:, rows], _NOT_SAID) if flags.shape[1] else np.full((len(stats), count), _NOT_SAID)


def _irq_windows(sample: Sample, window: Window | None) -> I64Array:
    column = find_column(sample, "kvm", Scope.VCPU, "irq_window_exits")
    if window is None or column is None or column.descriptor.kind is not Kind.CUMULATIVE or column.words.ndim != 1:
        return _nothing(len(sample.vcpus))
    moved = window.movement("kvm", Scope.VCPU, "irq_window_exits")
    assert moved is not None
    return np.where(moved.known, moved.words.astype(np.int64), _NOT_SAID)


def _nothing(count: int) -> I64Array:
    return np.full(count, _NOT_SAID, dtype=np.int64)


def _rows(parts: list[I64Array]) -> bytes:
    """The numbers as bytes, subject by subject."""
    return np.concatenate(parts).T.astype(_NUMBER, copy=False).tobytes()


def _flag(number: int) -> bool | None:
    return None if number < 0 else bool(number)


def _number(number: int) -> int | None:
    return None if number < 0 else number
