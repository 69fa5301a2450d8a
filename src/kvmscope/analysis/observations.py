"""Facts for rules that no stat provides: the columns behind ``fact(…)`` in findings.toml.

Pure: a window, facts of the host and the VMs' configurations in; one column per fact out, in the order of the current
sample, NaN where it is not known. ``catalog.findings.FACTS`` lists them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np

from ..catalog.caveats import load_caveats
from ..catalog.inhibits import InhibitClass, load_inhibits, unlisted
from ..formula.tree import Level
from ..host.apicv import HostApicv
from ..host.facts import Machine
from ..sample import NOT_KNOWN, Sample
from ..schema import Scope
from .apicv.facts import INHIBIT, PROVIDER, reasons_of
from .apicv.hosts import hosts_of
from .caveats import Facts as CaveatFacts
from .caveats import TruthValue, judge
from .exit_reasons import costliest_exit
from .window import BoolArray, F64Array, Window, find_column
from .words import words_of

Facts: TypeAlias = Mapping[tuple[Level, str], F64Array]

STARTED_BY_NOW_S: Final = 60.0
_BY_SETUP: Final = (InhibitClass.CONFIGURATION, InhibitClass.GUEST)


def observe(
    window: Window,
    host: HostApicv,
    *,
    hlt_exits_disabled: Sequence[bool | None] = (),
    vmm_silent_s: Sequence[float | None] = (),
    halt_poll_ns: int | None = None,
    mmio_uncached: bool = False,
) -> Facts:
    """Every fact of ``catalog.findings.FACTS``.

    ``hlt_exits_disabled``: according to the VMMs' command lines, one per VM in the order of the window's current
    sample, or empty if they were not read; KVM's own setting takes precedence. ``vmm_silent_s``: how long each VM's VMM
    has not answered a request for its identity, 0 if it has answered, None if the VMM is unknown; one per VM, or empty.
    ``halt_poll_ns``: the host's halt polling limit (kvm.halt_poll_ns), None if it is not known; the limit of a VM
    takes precedence. ``mmio_uncached``: whether the host's KVM is known not to cache MMIO addresses.
    """
    sample = window.current
    nobody_looked = [None] * len(sample.vms)
    limit_s = poll_limit_s(sample, halt_poll_ns)
    return {
        (Scope.VM, "vcpus"): _vcpus(sample),
        (Scope.VM, "stats_reset"): _stats_reset(window),
        (Scope.VM, "apicv_inhibited"): _apicv_inhibited(sample),
        (Scope.VM, "apicv_off_on_host"): _apicv_off(sample, host),
        (Scope.VM, "apicv_uninhibited"): _apicv_uninhibited(sample),
        (Scope.VM, "hlt_exits_disabled"): _halting(sample, _known(hlt_exits_disabled or nobody_looked)),
        (Scope.VM, "mmio_uncached"): np.full(len(sample.vms), float(mmio_uncached)),
        (Scope.VM, "vmm_silent_s"): _known(vmm_silent_s or nobody_looked),
        (Scope.VM, "poll_limit"): limit_s,
        (Scope.VM, "poll_limit_known"): (~np.isnan(limit_s)).astype(np.float64),
        (Scope.VCPU, "never_ran"): _never_ran(window),
        (Scope.VM, "mapped_growth"): _mapped_growth(window),
        (Scope.VCPU, "injected_while_active"): _injected_while_active(window),
        (Scope.VCPU, "costliest_exit"): costliest_exit(window),
    }


def reset_vms(window: Window) -> BoolArray:
    """Whether KVM's counts of each VM of the current sample, or of one of its vCPUs, went down."""
    return _stats_reset(window) > 0


def _vcpus(sample: Sample) -> F64Array:
    return np.bincount(sample.vcpus.vm, minlength=len(sample.vms)).astype(np.float64)


def _halting(sample: Sample, by_command_line: F64Array) -> F64Array:
    column = find_column(sample, "settings", Scope.VM, "hlt_exits_disabled")
    return by_command_line if column is None else np.where(column.known, column.values, by_command_line)


def _stats_reset(window: Window) -> F64Array:
    """The number of stats of each VM that went down; a stat of several vCPUs counts once."""
    sample = window.current
    count = np.zeros(len(sample.vms))
    for reset in window.resets:
        if reset.provider == "kvm":
            rows = np.array(reset.rows, dtype=np.int64)
            count[rows if reset.scope is Scope.VM else np.unique(sample.vcpus.vm[rows])] += 1
    return count


def _apicv_inhibited(sample: Sample) -> F64Array:
    """1 where the VM's configuration or its guest inhibits APICv or AVIC although the host has it enabled."""
    names, holds, known = _inhibits(sample)
    by_setup = holds[[name != "disabled" and is_by_setup(name) for name in names]].any(axis=0)
    disabled = holds[[name == "disabled" for name in names]].any(axis=0)
    return np.where(known, (by_setup & ~disabled).astype(np.float64), np.nan)


@lru_cache(maxsize=256)
def is_by_setup(reason: str) -> bool:
    """Whether the reason of this name is caused by the VM's configuration or its guest."""
    return load_inhibits().get(reason, unlisted(reason)).cls in _BY_SETUP


def _apicv_uninhibited(sample: Sample) -> F64Array:
    """1 where no reason inhibits APICv or AVIC, so KVM does not emulate accesses to a local APIC page."""
    _, holds, known = _inhibits(sample)
    return np.where(known, (~holds.any(axis=0)).astype(np.float64), np.nan)


def _inhibits(sample: Sample) -> tuple[list[str], BoolArray, BoolArray]:
    """The reasons of this kernel, whether each holds (one row per reason), and for which VMs this is known."""
    stats = reasons_of(sample)
    found = words_of(sample, PROVIDER, Scope.VM, stats)
    known = np.broadcast_to(True, found.words.shape) if found.known is None else found.known
    holds: BoolArray = (found.words != 0) & known
    return [stat.removeprefix(INHIBIT) for stat in stats], holds, np.asarray(known.any(axis=0))


def _apicv_off(sample: Sample, host: HostApicv) -> F64Array:
    """1 where the host has APICv or AVIC but KVM was loaded with it disabled."""
    if not sample.simulated:
        return np.full(len(sample.vms), is_off(host))
    return np.array([is_off(of_vm) for of_vm in hosts_of(sample, host)], dtype=np.float64)


def is_off(host: HostApicv) -> float:
    """Whether KVM was loaded with the host's APICv or AVIC disabled: 1, 0, or NaN for unknown."""
    supported, switched_on = host.supported.value, host.switched_on.value
    if supported is False or switched_on:
        return 0.0
    return 1.0 if supported and switched_on is False else float("nan")


def halt_poll_limit_ns(machine: Machine) -> int | None:
    """The host's halt polling limit, kvm.halt_poll_ns; None if it is not known."""
    module = machine.kvm.value
    text = None if module is None else module.parameters.get("halt_poll_ns")
    return int(text.value) if text is not None and text.value is not None and text.value.isdecimal() else None


def is_mmio_uncached(machine: Machine) -> bool:
    """Whether KVM is known not to cache MMIO addresses in its page tables, so each access to MMIO is a page fault."""
    return judge(load_caveats()["mmio-caching-off"].holds_if, CaveatFacts(machine)).verdict is TruthValue.HOLDS


def poll_limit_s(sample: Sample, host_limit_ns: int | None) -> F64Array:
    """The longest time that KVM polls when a vCPU of the VM halts.

    If the VMs' own limits were not read (source statsfd), the host's: few VMMs set one (KVM_CAP_HALT_POLL).
    """
    host_s = np.nan if host_limit_ns is None else host_limit_ns / 1e9
    by_host = np.full(len(sample.vms), host_s)
    is_set = find_column(sample, "settings", Scope.VM, "halt_poll_cap_set")
    own = find_column(sample, "settings", Scope.VM, "halt_poll_cap_ns")
    if is_set is None or own is None:
        return by_host
    limit_s = np.where(is_set.words != 0, own.words.astype(np.float64) / 1e9, by_host)
    return np.where(is_set.known & own.known, limit_s, np.nan)


def _never_ran(window: Window) -> F64Array:
    """1 where a vCPU has had no exit although its VM is old enough to have started it."""
    sample = window.current
    name = "exits" if window.has("kvm", Scope.VCPU, "exits") else "sum_exits"
    exits = window.value("kvm", Scope.VCPU, name)
    age_s = _age_s(sample)
    never = (exits == 0) & (age_s >= STARTED_BY_NOW_S)[sample.vcpus.vm]
    # If one vCPU cannot be judged because its age is unknown, the others do not decide about the VM.
    in_question = np.bincount(sample.vcpus.vm[exits == 0], minlength=len(sample.vms)) > 0
    unknown = np.isnan(exits) | (in_question & np.isnan(age_s))[sample.vcpus.vm]
    return np.where(unknown, np.nan, never.astype(np.float64))


def _age_s(sample: Sample) -> F64Array:
    created_ns = sample.vms.created_ns
    return np.where(created_ns == NOT_KNOWN, np.nan, (sample.taken_ns - created_ns) / 1e9)


def _injected_while_active(window: Window) -> F64Array:
    """Interrupts per second that KVM injected, if APICv was active at both ends of the window; otherwise 0."""
    now = find_column(window.current, PROVIDER, Scope.VCPU, "apicv_active")
    if now is None:
        return np.full(len(window.current.vcpus), np.nan)
    before = find_column(window.previous, PROVIDER, Scope.VCPU, "apicv_active", like=now.descriptor)
    rows = window.previous_rows(Scope.VCPU)
    if before is None or not len(before.words):
        return np.full(len(rows), np.nan)
    known = now.known & (rows >= 0) & before.known[rows]
    active = (now.words != 0) & (before.words[rows] != 0)
    rate = window.rate("kvm", Scope.VCPU, "irq_injections")
    return np.where(known, np.where(active, rate, 0.0), np.nan)


PAGE_COUNTS: Final = ("pages_4k", "pages_2m", "pages_1g")


def _mapped_growth(window: Window) -> F64Array:
    """The growth of the pages that KVM has mapped for each VM, per second; pages of any size count as one."""
    rows = window.previous_rows(Scope.VM)
    growth = np.zeros(len(rows))
    for name in PAGE_COUNTS:
        now = window.value("kvm", Scope.VM, name)
        before = find_column(window.previous, "kvm", Scope.VM, name)
        if before is None or not len(before.words):
            return np.full(len(rows), np.nan)
        growth += now - np.where(rows >= 0, before.values[rows], np.nan)
    return growth / window.interval_s


def _known(values: Sequence[float | None]) -> F64Array:
    return np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)
