"""The behaviour of VMs in a simulated fleet: healthy, or with one trouble that a rule of the catalogue finds.

Rule: no rule fires for a healthy VM, and exactly the named rule fires for a trouble, for any number of vCPUs; the
tests judge both as recordings are judged. Rates are far from the thresholds on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from .behaviours import Behaviour
from .fleet_hosts import ApicvSupport, HostKind

_STEADY: Final[Mapping[str, float]] = {"pages_4k": 21_000, "pages_2m": 7_800, "nx_lpage_splits": 12}


def _lives(name: str, exits: float, causes: Mapping[str, float], halted: float = 0.0, spread: float = 0.5) -> Behaviour:
    return Behaviour(
        name,
        exits=exits,
        causes=causes,
        halted=halted,
        sleep_spread=spread,
        swing=0.08,
        slowest=0.8,
        flushes=0.3,
        levels=_STEADY,
    )


HEALTHY: Final = (
    _lives("web", 1800, {"halt_polled": 30, "halt_missed": 3, "halt_slept": 7, "msr": 48, "irq": 11, "kick": 1}, 0.6),
    _lives("db", 3200, {"halt_polled": 6, "halt_missed": 2, "halt_slept": 6, "msr": 62, "irq": 20, "fault": 1}, 0.4),
    _lives("idle", 60, {"halt_slept": 45, "msr": 45, "irq": 10}, 0.97),
    _lives("batch", 900, {"irq": 85, "preempted": 2, "yielded": 3, "msr": 9, "hypercall": 1}),
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """One trouble of a VM.

    ``rule``: the rule that finds it; None for a state of interrupt acceleration that no rule reports. ``where``:
    required support for APICv or AVIC on the host. ``stats``: stats that the kernel must have. ``vm_rates``: rates of
    the VM's own counters per second; ``vcpu_rates``: those of each vCPU. ``inhibit``, ``flags``: state in the provider
    apicv. ``counted``: the events that opt-in groups count (``fleet_groups``). ``scheduled``: statistics of scheduler
    and cgroup, by provider and stat, per second for counts. ``logs_memory``: whether the VMM has KVM log all writes to
    its memory. ``least_vcpus``: minimum number of vCPUs.
    """

    name: str
    rule: str | None
    behaviour: Behaviour
    where: frozenset[ApicvSupport] = frozenset(ApicvSupport)
    stats: frozenset[str] = frozenset({"irq_exits"})
    vm_rates: Mapping[str, float] = field(default_factory=dict)
    vcpu_rates: Mapping[str, float] = field(default_factory=dict)
    inhibit: str | None = None
    flags: frozenset[str] = frozenset()
    is_amd: bool | None = None
    counted: str | None = None
    scheduled: Mapping[str, float] = field(default_factory=dict)
    logs_memory: bool = False
    least_vcpus: int = 1
    keeps_injections: bool = False

    def fits(self, kind: HostKind, stats: frozenset[str], vcpus: int) -> bool:
        """Whether a VM with ``vcpus`` vCPUs can have it on a host of this kind whose kernel has these stats."""
        is_there = kind.acceleration in self.where and self.stats <= stats and vcpus >= self.least_vcpus
        is_seen = kind.counts_groups or not (self.counted or self.scheduled)
        return is_there and is_seen and self.is_amd in (None, kind.is_amd)


_ON: Final = frozenset({ApicvSupport.ON})
_OFF: Final = frozenset({ApicvSupport.OFF})
_PF: Final = frozenset({"pf_taken"})
_HALTS: Final = frozenset({"halt_wait_hist"})
_ARM_TOO: Final = frozenset({"remote_tlb_flush"})
_PREEMPTIONS: Final = frozenset({"preemption_other"})
_WEB: Final = HEALTHY[0]
_BATCH: Final = HEALTHY[3]
_INTERRUPTED: Final = _lives("proxy", 6000, {"inject": 45, "msr": 35, "irq": 15, "halt_slept": 4}, 0.3)


def _levels(name: str, **levels: float) -> Behaviour:
    return replace(_WEB, name=name, levels={**_STEADY, **levels})


def _exiting(name: str) -> Behaviour:
    """A guest with as many exits as the opt-in groups count for one reason."""
    return _lives(name, 80_000, {"msr": 98, "irq": 2})


def _inhibited(reason: str, *flags: str, is_amd: bool | None = None) -> Trouble:
    """A VM with many interrupts, whose configuration or guest inhibits their acceleration."""
    return Trouble(
        f"inhibited by {reason}",
        "apicv-inhibited",
        replace(_INTERRUPTED, name="gateway"),
        where=_ON,
        inhibit=reason,
        flags=frozenset(flags),
        is_amd=is_amd,
        keeps_injections=True,
    )


TROUBLES: Final = (
    _inhibited("pit_reinj", "irqchip_kernel", "pit_in_kernel", "pit_reinject_mode", is_amd=True),
    _inhibited("hyperv", "irqchip_split", "synic_auto_eoi_used"),
    _inhibited("apic_id_modified", "irqchip_split"),
    _inhibited("sev", "irqchip_split", "sev_active", is_amd=True),
    Trouble(
        "injected while active",
        "injected-despite-apicv",
        _lives("legacy", 1800, {"inject": 50, "msr": 30, "irq": 20}),
        where=_ON,
        keeps_injections=True,
    ),
    Trouble(
        "off in the module",
        "apicv-off",
        _INTERRUPTED,
        where=_OFF,
        keeps_injections=True,
    ),
    Trouble(
        "interrupt windows",
        "irq-windows",
        _lives("timer", 3000, {"window": 45, "msr": 35, "irq": 20}),
        where=frozenset({ApicvSupport.UNSUPPORTED}),
        keeps_injections=True,
    ),
    Trouble("wasted polls", "poll-waste", _lives("ping", 4500, {"halt_missed": 75, "msr": 18, "irq": 7}, 0.8, 0.2)),
    Trouble("heavy polls", "poll-heavy", _lives("rpc", 27_000, {"halt_polled": 82, "msr": 12, "irq": 6}, 0.75)),
    Trouble(
        "no polls",
        "poll-too-short",
        _lives("queue", 3000, {"halt_slept": 75, "msr": 20, "irq": 5}, 0.13, 0.2),
        flags=frozenset({"halt_poll_cap_set"}),
        stats=_HALTS,
    ),
    Trouble(
        "polls cut short",
        "poll-cut-short",
        _lives("shard", 3000, {"halt_cut": 75, "msr": 20, "irq": 5}, 0.13, 0.2),
        stats=_HALTS,
    ),
    Trouble(
        "no HLT exits", "hlt-exits-disabled", replace(_BATCH, name="dpdk"), flags=frozenset({"hlt_exits_disabled"})
    ),
    Trouble(
        "migration", "pf-write-protect", _lives("moving", 4000, {"fault_fast": 60, "fault": 8, "msr": 32}), stats=_PF
    ),
    Trouble(
        "faults on one page",
        "pf-spurious",
        _lives("heap", 4000, {"fault": 40, "fault_again": 30, "msr": 30}),
        stats=_PF,
    ),
    Trouble(
        "shadowed page tables",
        "pf-emulation",
        _lives("nested", 8000, {"fault_write": 35, "fault": 25, "msr": 40}),
        stats=_PF,
        vcpu_rates={"mmu_pte_write": 2900},
    ),
    Trouble(
        "dropped shadow pages",
        "shadow-paging-churn",
        replace(_WEB, name="forker"),
        vm_rates={"mmu_shadow_zapped": 1400, "mmu_cache_miss": 1400},
    ),
    Trouble("MMIO", "mmio-storm", _lives("e1000", 4500, {"mmio": 65, "msr": 25, "irq": 10}), stats=frozenset()),
    Trouble("port I/O", "port-io-storm", _lives("console", 4500, {"io": 65, "msr": 25, "irq": 10})),
    Trouble("unknown exits", "userspace-exits", _lives("noapic", 6000, {"emulated_by_vmm": 65, "msr": 25, "irq": 10})),
    Trouble("kicks", "vmm-kicks", _lives("watched", 2500, {"signal": 45, "msr": 40, "irq": 15}), stats=frozenset()),
    Trouble(
        "TLB flushes",
        "tlb-shootdowns",
        replace(_WEB, name="ballooned"),
        stats=_ARM_TOO,
        vm_rates={"remote_tlb_flush": 1300, "remote_tlb_flush_requests": 1500},
        least_vcpus=2,
    ),
    Trouble(
        "failing yields", "failing-yields", _lives("locks", 2500, {"hint": 50, "hint_taken": 1, "irq": 20, "msr": 29})
    ),
    Trouble("split pages", "nx-splits", _levels("jit", nx_lpage_splits=2600)),
    Trouble("small pages", "small-pages", _levels("fragmented", pages_4k=900_000, pages_2m=200)),
    Trouble("vCPUs that never ran", "vcpu-never-ran", replace(_WEB, name="spare"), stats=frozenset(), least_vcpus=2),
    Trouble(
        "preempted", "preempted", _lives("crowded", 1800, {"yielded": 18, "irq": 60, "msr": 22}), stats=_PREEMPTIONS
    ),
    Trouble(
        "preempted in KVM",
        "preempted-in-kvm",
        _lives("stolen", 1000, {"preempted": 10, "irq": 68, "msr": 22}),
        stats=_PREEMPTIONS,
    ),
    Trouble(
        "emulation failures", "emulation-failure", _lives("vector", 1000, {"unknown_insn": 1, "msr": 60, "irq": 39})
    ),
    Trouble("a VMM that hangs", "vmm-not-answering", replace(_WEB, name="frozen"), stats=frozenset()),
    Trouble("a reset", "stats-reset", replace(_WEB, name="cleared"), stats=frozenset()),
    Trouble(
        "faults that are tried again",
        "pf-retries",
        _lives("swapped", 6000, {"fault_retry": 50, "fault": 12, "msr": 38}),
        stats=_PF,
    ),
    Trouble(
        "memory that is unmapped and faulted in again",
        "memory-refaults",
        _lives("reclaimed", 5000, {"fault": 36, "msr": 54, "irq": 10}),
        stats=_PF | {"pages_4k", "remote_tlb_flush"},
        vcpu_rates={"remote_tlb_flush": 18},
        vm_rates={"remote_tlb_flush_requests": 40},
    ),
    Trouble(
        "halts that end at once",
        "halts-without-rest",
        _lives("menu", 14_000, {"halt_pending": 90, "msr": 7, "irq": 3}),
        stats=_HALTS | {"halt_exits"},
    ),
    Trouble(
        "busy nested guests",
        "nested-cost",
        _lives("l1", 14_000, {"enter_l2": 40, "msr": 50, "irq": 10}),
        stats=frozenset({"nested_run"}),
    ),
    Trouble("logged memory", "memory-logged", replace(_WEB, name="leaving"), logs_memory=True),
    Trouble("late wakeups", "wakeups-late", replace(_WEB, name="late"), counted="wakeups"),
    Trouble("time in the VMM", "vmm-time", replace(_WEB, name="device"), counted="userspace"),
    Trouble("a contended lock", "mmu-lock-contended", replace(_WEB, name="faulting"), counted="mmu_lock"),
    Trouble("costly exits", "exits-costly", _exiting("clock"), counted="msr exits"),
    Trouble("pauses", "pause-exits", _exiting("spinlock"), counted="pause exits"),
    Trouble("split locks", "split-locks", replace(_BATCH, name="unaligned"), counted="split locks"),
    Trouble("CPUID", "cpuid-exits", _exiting("serializing"), counted="cpuid exits"),
    Trouble("WBINVD", "wbinvd-exits", replace(_BATCH, name="graphics"), counted="wbinvd exits"),
    Trouble("slow faults", "faults-slow", replace(_BATCH, name="postcopy"), counted="slow faults"),
    Trouble("XSETBV", "exits-of-one-reason", _exiting("states"), counted="exits of another reason"),
    Trouble("a failed entry", "vm-entry-failed", replace(_WEB, name="resumed"), counted="failed entry"),
    Trouble("an internal error", "kvm-internal-error", replace(_WEB, name="crashed"), counted="internal error"),
    Trouble(
        "no CPU to run on",
        "cpu-wait",
        replace(_BATCH, name="overcommitted"),
        scheduled={"sched.run_delay_ns": 300e6, "sched.run_ns": 650e6},
    ),
    Trouble(
        "a quota",
        "cpu-throttled",
        replace(_BATCH, name="limited"),
        scheduled={
            "sched.run_delay_ns": 350e6,
            "cgroup.quota_set": 1,
            "cgroup.quota_ns": 50e6,
            "cgroup.period_ns": 100e6,
            "cgroup.nr_periods": 10,
            "cgroup.nr_throttled": 6,
            "cgroup.throttled_ns": 300e6,
        },
    ),
    Trouble(
        "busy threads of the VMM",
        "vmm-threads-busy",
        replace(_WEB, name="emulated"),
        scheduled={"sched.vmm_run_ns": 700e6, "sched.main_run_ns": 650e6},
    ),
    Trouble("nested guests", None, replace(_WEB, name="hyper"), where=_ON, inhibit="nested", is_amd=True),
    Trouble("quiet and inhibited", None, replace(HEALTHY[2], name="quiet"), where=_ON, inhibit="hyperv"),
)


def behaviour_of(name: str) -> Behaviour:
    """The behaviour of this name, for a healthy VM or for a trouble."""
    return _BEHAVIOURS[name]


_BEHAVIOURS: Final = {each.name: each for each in (*HEALTHY, *(trouble.behaviour for trouble in TROUBLES))}
