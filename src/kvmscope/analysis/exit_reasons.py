"""The exit reasons that take most time, from the stats of group ``exits``; for reasons without a rule of their own.

Pure. Rule: not judged here are reasons that a rule of findings.toml judges by a metric, instructions of a nested
hypervisor, and reasons in which the vCPU idles or its thread may be preempted: HLT, MWAIT, host interrupts.
Source: the names of catalog/exit_reasons.toml.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..sample import Sample
from ..schema import Scope
from .window import F64Array, Window

PROVIDER: Final = "exits"
_TIME: Final = re.compile(r"exit_(\w+)_ns")
_OF_OTHER_RULES: Final = frozenset(
    """
    pause pause_instruction ac_excp exception_nmi bus_lock buslock cpuid wbinvd invd
    io io_instruction msr msr_read msr_write msr_read_imm msr_write_imm sys64
    apic_write apic_access eoi_induced tpr_below_threshold avic_incomplete_ipi avic_unaccelerated_access
    npf ept_violation ept_misconfig dabt_low iabt_low
    """.split()
)
OF_HYPERVISORS: Final = frozenset(
    """
    vmrun vmload vmsave stgi clgi invlpga
    vmlaunch vmresume vmread vmwrite vmptrld vmptrst vmclear vmon vmoff invept invvpid
    """.split()
)
"""Instructions of a guest that is a hypervisor. Rule nested-cost judges them, by the nested guests that it enters."""
RESTING: Final = frozenset("hlt idle_halt mwait mwait_instruction umwait tpause wfx vmgexit_ap_hlt_loop".split())
"""Reasons in which a vCPU may be idle."""
OF_THE_HOST: Final = frozenset("external_interrupt interrupt nmi smi init irq exception_irq preemption_timer".split())
"""Reasons after which the vCPU thread may be preempted."""
_SHARE_SHOWN: Final = 0.05


@dataclass(frozen=True, slots=True)
class CostlyReason:
    """An exit reason, and the wall time that it takes, in vCPUs."""

    name: str
    vcpus: float


def judged_reason(stat: str) -> str | None:
    """The exit reason whose time ``stat`` of group ``exits`` counts; None if it is not judged here."""
    found = _TIME.fullmatch(stat)
    reason = found[1] if found else None
    return None if reason in _OF_OTHER_RULES | OF_HYPERVISORS | RESTING | OF_THE_HOST else reason


def costliest_exit(window: Window) -> F64Array:
    """The share of each vCPU's time that its costliest reason takes; NaN where exits are not counted."""
    costliest = np.full(len(window.current.vcpus), np.nan)
    for stat, _ in _judged_stats(window.current):
        costliest = np.fmax(costliest, window.rate(PROVIDER, Scope.VCPU, stat) / 1e9)
    return costliest


def costly_reasons(window: Window, vm_row: int) -> Iterable[CostlyReason]:
    """The reasons that take much of the time of a VM's vCPUs, the costliest first."""
    rows = window.current.vcpus_of_vm[vm_row]
    found = []
    for stat, reason in _judged_stats(window.current):
        shares = np.nan_to_num(window.rate(PROVIDER, Scope.VCPU, stat)[rows] / 1e9)
        if shares.max(initial=0.0) >= _SHARE_SHOWN:
            found.append(CostlyReason(reason, float(shares.sum())))
    return sorted(found, key=lambda each: -each.vcpus)


def _judged_stats(sample: Sample) -> Iterator[tuple[str, str]]:
    names = dict.fromkeys(name for block in sample.blocks_from(PROVIDER, Scope.VCPU) for name in block.schema.names)
    for name in names:
        reason = judged_reason(name)
        if reason is not None:
            yield name, reason
