"""What VMs do that rules of the catalogue are for, one trouble a rule, as rates for a crafted host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kvmscope.host.apicv import HostApicv, HostFlag

UNKNOWN = HostApicv.unknown("not looked at")
MS = 1e6


def host_with_apicv(*, switched_on: bool) -> HostApicv:
    yes, told = HostFlag(True, "so it is"), HostFlag(switched_on, "so it is")
    return HostApicv(True, None, "kvm_amd", yes, told, yes, yes, yes, yes)


@dataclass(frozen=True)
class CraftedTrouble:
    """What a VM does: ``rates`` a second on each vCPU or of the VM, ``values`` that its VM stats have."""

    rates: Mapping[str, float]
    values: Mapping[str, int] = field(default_factory=dict)
    apicv: frozenset[str] | None = frozenset()
    active: bool = False
    host: HostApicv = UNKNOWN
    hlt_exits_disabled: bool | None = False
    vmm_silent_s: float = 0.0
    halt_poll_ns: int | None = None
    vcpus: int = 2


BUSY: Mapping[str, float] = {
    "exits": 3000,
    "irq_exits": 1000,
    "halt_exits": 800,
    "halt_wakeup": 200,
    "halt_attempted_poll": 800,
    "halt_successful_poll": 700,
    "halt_poll_success_ns": 40 * MS,
    "halt_poll_fail_ns": 4 * MS,
    "wait_us:900": 200,
    "pf_taken": 400,
    "pf_fixed": 390,
    "pf_spurious": 8,
    "pf_fast": 20,
    "io_exits": 40,
    "mmio_exits": 20,
    "fpu_reload": 60,
    "insn_emulation": 60,
    "signal_exits": 5,
    "irq_window_exits": 5,
    "directed_yield_attempted": 10,
    "directed_yield_successful": 8,
    "preemption_reported": 4,
    "preemption_other": 1,
    "remote_tlb_flush": 30,
}
"""A guest that works, on a host that is well."""

TROUBLES: Mapping[str, CraftedTrouble] = {
    "poll-waste": CraftedTrouble({"halt_poll_fail_ns": 60 * MS, "halt_poll_success_ns": 20 * MS}),
    "poll-heavy": CraftedTrouble({"halt_poll_success_ns": 600 * MS}),
    "poll-too-short": CraftedTrouble({"halt_wakeup": 3000, "wait_us:50": 3000}),
    "poll-cut-short": CraftedTrouble(
        {
            "halt_wakeup": 3000,
            "wait_us:60": 3000,
            "halt_attempted_poll": 3800,
            "halt_successful_poll": 700,
            "halt_poll_fail_ns": 0.5 * MS,
        },
        halt_poll_ns=200_000,
    ),
    "halts-without-rest": CraftedTrouble({"exits": 250_000, "halt_exits": 250_000}),
    "hlt-exits-disabled": CraftedTrouble({}, hlt_exits_disabled=True),
    "pf-write-protect": CraftedTrouble({"pf_taken": 4000, "pf_fast": 3900, "pf_fixed": 3900}),
    "pf-spurious": CraftedTrouble({"pf_taken": 4000, "pf_fixed": 2000, "pf_spurious": 2000}),
    "pf-emulation": CraftedTrouble({"pf_taken": 4000, "pf_emulate": 2000, "pf_fixed": 2000}),
    "pf-retries": CraftedTrouble({"pf_taken": 30_000}),
    "memory-refaults": CraftedTrouble(
        {"pf_taken": 4000, "pf_fixed": 4000, "remote_tlb_flush": 400, "pressure.memory_some_ns": 80 * MS}
    ),
    "shadow-paging-churn": CraftedTrouble({"mmu_pde_zapped": 2000}),
    "injected-despite-apicv": CraftedTrouble({"irq_injections": 250}, active=True),
    "apicv-inhibited": CraftedTrouble({"irq_injections": 200}, apicv=frozenset({"pit_reinj"})),
    "apicv-off": CraftedTrouble(
        {"irq_injections": 1000}, apicv=frozenset({"disabled"}), host=host_with_apicv(switched_on=False)
    ),
    "irq-windows": CraftedTrouble({"irq_window_exits": 900}),
    "mmio-storm": CraftedTrouble({"mmio_exits": 5000, "fpu_reload": 5000}),
    "port-io-storm": CraftedTrouble({"io_exits": 5000, "fpu_reload": 5000}),
    "userspace-exits": CraftedTrouble({"fpu_reload": 5000}),
    "vmm-kicks": CraftedTrouble({"signal_exits": 1000, "fpu_reload": 1000}),
    "tlb-shootdowns": CraftedTrouble({"remote_tlb_flush": 900}),
    "nested-cost": CraftedTrouble({"exits": 120_000, "nested_run": 30_000}),
    "failing-yields": CraftedTrouble({"directed_yield_attempted": 900, "directed_yield_successful": 3}),
    "nx-splits": CraftedTrouble({}, {"nx_lpage_splits": 400, "pages_2m": 600}),
    "small-pages": CraftedTrouble({}, {"pages_4k": 200_000, "pages_2m": 100}),
    "vcpu-never-ran": CraftedTrouble({}),
    "preempted": CraftedTrouble({"preemption_reported": 400, "sched.run_delay_ns": 30 * MS}),
    "cpu-wait": CraftedTrouble(
        {
            "sched.run_delay_ns": 300 * MS,
            "sched.run_ns": 600 * MS,
            "sched.timeslices": 100,
            "sched.main_run_ns": 10 * MS,
            "sched.main_run_delay_ns": 5 * MS,
            "cgroup.nr_periods": 0,
            "cgroup.nr_throttled": 0,
            "pressure.cpu_some_ns": 300 * MS,
            "pressure.cpu_full_ns": 200 * MS,
            "wakeups.wait_ns": 300 * MS,
            "wakeups.wait_behind_vcpu_ns": 100 * MS,
        }
    ),
    "cpu-throttled": CraftedTrouble(
        {
            "sched.run_delay_ns": 300 * MS,
            "sched.run_ns": 600 * MS,
            "cgroup.nr_periods": 10,
            "cgroup.nr_throttled": 6,
            "pressure.cpu_full_ns": 500 * MS,
        },
        {"cgroup.quota_set": 1, "cgroup.quota_ns": 20_000_000, "cgroup.period_ns": 100_000_000},
    ),
    "vmm-threads-busy": CraftedTrouble(
        {
            "sched.vmm_run_ns": 700 * MS,
            "sched.main_run_ns": 650 * MS,
            "sched.iothread_run_ns": 30 * MS,
            "sched.vhost_run_ns": 0,
            "sched.pit_run_ns": 1 * MS,
            "sched.run_ns": 200 * MS,
        }
    ),
    "preempted-in-kvm": CraftedTrouble({"preemption_other": 100}),
    "emulation-failure": CraftedTrouble({"insn_emulation_fail": 1}),
    "vmm-not-answering": CraftedTrouble({}, vmm_silent_s=4.0),
    "stats-reset": CraftedTrouble({}),
    "wakeups-late": CraftedTrouble(
        {"wakeups.wakeups": 100, "wakeups.wakeup_to_entry_ns": 400 * MS, "wakeups.wakeup_to_entry_hist": 100}
    ),
    "vmm-time": CraftedTrouble(
        {"userspace.userspace_exits": 500, "userspace.userspace_ns": 400 * MS, "sched.run_delay_ns": 0}
    ),
    "mmu-lock-contended": CraftedTrouble(
        {
            "mmu_lock.mmu_lock_read_contended": 900,
            "mmu_lock.mmu_lock_write_contended": 100,
            "mmu_lock.mmu_lock_read_wait_ns": 200 * MS,
            "mmu_lock.mmu_lock_write_wait_ns": 20 * MS,
        }
    ),
    "memory-logged": CraftedTrouble(
        {}, {"settings.memory_pages": 262_144, "settings.dirty_logged_pages": 258_048, "dirty.dirty_bytes": 40 << 20}
    ),
    "exits-costly": CraftedTrouble(
        {"exits.exit_io_ns": 200 * MS, "exits.exit_msr_ns": 50 * MS, "exits.exit_npf_ns": 1 * MS}
    ),
    "pause-exits": CraftedTrouble({"exits.exit_pause_instruction_ns": 600 * MS}),
    "split-locks": CraftedTrouble({"exits.exit_ac_excp_ns": 600 * MS, "exits.exit_buslock_ns": 0}),
    "cpuid-exits": CraftedTrouble({"exits.exit_cpuid_ns": 600 * MS}),
    "wbinvd-exits": CraftedTrouble({"exits.exit_wbinvd_ns": 600 * MS, "exits.exit_invd_ns": 0}),
    "faults-slow": CraftedTrouble(
        {"exits.exit_npf_ns": 300 * MS, "exits.exit_npf": 400, "pressure.memory_some_ns": 90 * MS}
    ),
    "exits-of-one-reason": CraftedTrouble({"exits.exit_rdtsc_ns": 300 * MS}),
    "vm-entry-failed": CraftedTrouble({"userspace.userspace_exit_fail_entry": 1}),
    "kvm-internal-error": CraftedTrouble({"userspace.userspace_exit_internal_error": 1}),
}
