"""Every rule of the catalogue: fires on the trouble it is for, and on no other; silent on hosts that are well.

The samples are crafted: descriptors of a captured kernel, values made here. Guests that really have the trouble are in
tests/live.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from troubles import BUSY, MS, TROUBLES, CraftedTrouble, host_with_apicv

from kvmscope.analysis import exit_reasons
from kvmscope.analysis.caveats import Facts, rules_here
from kvmscope.analysis.evaluate import Evaluator
from kvmscope.analysis.findings import Finding, Judgement, Watcher
from kvmscope.analysis.observations import observe
from kvmscope.analysis.window import Window
from kvmscope.catalog.exit_reasons import ReasonTable, reasons
from kvmscope.catalog.findings import load_findings
from kvmscope.catalog.metrics import MetricUnit, load_metrics
from kvmscope.host.apicv import HostApicv, HostFlag
from kvmscope.host.facts import Machine
from kvmscope.linux.facts import CpuInfo, Fact, KernelModule
from kvmscope.schema import Scope

METRICS = {metric.name: metric.formula for metric in load_metrics()}


class RuleCase:
    """One VM that has a trouble, window by window."""

    def __init__(self, make_host: Callable[..., Any], trouble: CraftedTrouble) -> None:
        self.trouble = trouble
        self.host = make_host()
        self.vm = self.host.add(vcpus=trouble.vcpus, apicv=trouble.apicv, active=trouble.active)
        self.vm.vm_stats.update(trouble.values)
        self.host.count(*(name for name in (*trouble.rates, *trouble.values) if "." in name))
        self.watcher = Watcher(load_findings(), METRICS)
        self.last = self.host.sample()

    def see(self, rates: Mapping[str, float] | None = None) -> Judgement:
        """A window in which this is done; what the trouble is made of if nothing else is said."""
        self.host.run(2.0, {**BUSY, **(self.trouble.rates if rates is None else rates)})
        return self.look()

    def look(self) -> Judgement:
        previous, self.last = self.last, self.host.sample()
        window = Window(previous, self.last)
        halting = [self.trouble.hlt_exits_disabled] * len(self.host.vms)
        silent_s = [self.trouble.vmm_silent_s] * len(self.host.vms)
        facts = observe(
            window,
            self.trouble.host,
            hlt_exits_disabled=halting,
            vmm_silent_s=silent_s,
            halt_poll_ns=self.trouble.halt_poll_ns,
        )
        return self.watcher.update(Evaluator(window, METRICS, facts=facts))


OF_GROUPS = frozenset(
    "wakeups-late vmm-time mmu-lock-contended exits-costly pause-exits split-locks cpuid-exits wbinvd-exits faults-slow"
    " exits-of-one-reason vm-entry-failed kvm-internal-error".split()
)
"""Rules that ask for stats which are off until asked for."""
OF_THREADS = frozenset({"cpu-wait", "cpu-throttled", "vmm-threads-busy", "memory-logged"})
"""Rules that ask for stats of providers sched and settings, which the crafted host has where a trouble has them."""


def found(judgement: Judgement) -> set[str]:
    return {finding.rule.slug for finding in judgement.findings}


def only(judgement: Judgement) -> Finding:
    (finding,) = judgement.findings
    return finding


SINGLE_EVENTS = frozenset({"emulation-failure", "vm-entry-failed", "kvm-internal-error"})
"""Rules for which one event is enough."""


def never_ran(case: RuleCase) -> None:
    case.host.add("sleepy", vcpus=2, apicv=frozenset()).vcpu_stats[1]["exits"] = 0
    case.see()


def cleared(case: RuleCase) -> None:
    case.see()
    case.vm.vcpu_stats[0]["exits"] = 0


PREPARED: Mapping[str, Callable[[RuleCase], None]] = {"vcpu-never-ran": never_ran, "stats-reset": cleared}


def test_every_rule_has_its_case() -> None:
    assert {rule.slug for rule in load_findings()} == set(TROUBLES)


COUNTED_ELSEWHERE = {"dirty_fetched_pages_per_s"}
"""What no kernel has that has what stands beside it in the evidence."""


@pytest.mark.parametrize("slug", TROUBLES)
def test_a_rule_fires_on_its_trouble_and_no_other_rule_does(slug: str, make_host: Callable[..., Any]) -> None:
    case = RuleCase(make_host, TROUBLES[slug])
    rule = next(rule for rule in load_findings() if rule.slug == slug)
    if slug in PREPARED:
        PREPARED[slug](case)
    for _ in range(rule.windows):
        judgement = case.see()
    assert found(judgement) == {slug}
    finding = only(judgement)
    for formula, size in ((rule.cost, finding.cost_cpus), (rule.lost, finding.lost_vcpus)):
        assert (size is None) == (formula is None)
        assert size is None or 0 < size < 4
    unknown = {name for name, value in finding.evidence.items() if value is None}
    assert unknown <= COUNTED_ELSEWHERE
    assert (len(finding.worst) > 0) == (rule.worst is not None)
    assert {each.rule for each in judgement.not_judged} <= OF_GROUPS | OF_THREADS or slug == "stats-reset"


@pytest.mark.parametrize("slug", [slug for slug, trouble in TROUBLES.items() if trouble.rates])
def test_a_finding_clears_when_its_trouble_is_over(slug: str, make_host: Callable[..., Any]) -> None:
    case = RuleCase(make_host, TROUBLES[slug])
    for _ in range(3):
        judgement = case.see()
    assert found(judgement) == {slug}
    judgement = case.see({})
    assert found(judgement) == set()
    assert [ended.why.value for ended in judgement.ended] == ["cleared"]


@pytest.mark.parametrize("slug", [slug for slug in TROUBLES if TROUBLES[slug].rates and slug not in SINGLE_EVENTS])
def test_a_hundredth_of_the_trouble_is_none(slug: str, make_host: Callable[..., Any]) -> None:
    case = RuleCase(make_host, TROUBLES[slug])
    little = {name: BUSY.get(name, 0.0) + rate / 100 for name, rate in case.trouble.rates.items()}
    for _ in range(4):
        assert found(case.see(little)) == set()


def test_a_busy_healthy_guest_has_no_finding(make_host: Callable[..., Any]) -> None:
    case = RuleCase(make_host, CraftedTrouble({}))
    for _ in range(5):
        judgement = case.see()
        assert found(judgement) == set()


def test_an_idle_host_has_no_finding(make_host: Callable[..., Any]) -> None:
    setup = CraftedTrouble({}, {"pages_4k": 200_000, "nx_lpage_splits": 400}, apicv=frozenset({"pit_reinj"}))
    case = RuleCase(make_host, setup)
    for _ in range(5):
        case.host.run(2.0, {"exits": 12, "halt_exits": 10, "halt_wakeup": 10, "irq_injections": 8, "wait_us:60": 10})
        assert found(case.look()) == set()


def test_a_start_and_a_stop_leave_no_finding(make_host: Callable[..., Any]) -> None:
    case = RuleCase(make_host, CraftedTrouble({}))
    case.see()
    storm = {name: 1e5 for trouble in TROUBLES.values() for name in trouble.rates if "wait" not in name}
    young = case.host.add("young", vcpus=4, age_s=0.0, apicv=frozenset({"absent"}))
    case.host.run(1.0, BUSY)
    case.host.run(1.0, storm, vm="young")
    assert found(case.look()) == set()
    # It boots for a window in which all is in uproar, then settles.
    young.apicv = frozenset()
    case.host.run(1.0, BUSY)
    case.host.run(1.0, {**storm, "insn_emulation_fail": 0}, vm="young")
    assert found(case.look()) == set()
    case.host.run(1.0, BUSY)
    case.host.run(1.0, BUSY, vm="young")
    assert found(case.look()) == set()
    case.host.vms.remove(young)
    assert found(case.see()) == set()


def test_spare_vcpus_are_found_only_when_the_vm_is_old_enough(make_host: Callable[..., Any]) -> None:
    case = RuleCase(make_host, CraftedTrouble({}))
    case.vm.age_s = 50.0
    case.vm.vcpu_stats[1]["exits"] = 0
    case.last = case.host.sample()
    rates = {name: rate for name, rate in BUSY.items() if name != "exits"}

    def see() -> set[str]:
        case.host.run(4.0, rates)
        case.host.run(0.1, {"exits": 1000}, vcpu=0)
        return found(case.look())

    assert [see() for _ in range(4)] == [set(), set(), set(), {"vcpu-never-ran"}]


def test_a_vm_of_unknown_age_is_not_judged_for_it(make_host: Callable[..., Any]) -> None:
    case = RuleCase(make_host, CraftedTrouble({}))
    case.vm.age_s = None
    case.vm.vcpu_stats[1]["exits"] = 0
    case.last = case.host.sample()
    for _ in range(3):
        case.host.run(2.0, {"pf_taken": 1})
        judgement = case.look()
    assert "vcpu-never-ran" not in found(judgement)
    reasons = {missing.rule: missing.reason for missing in judgement.not_judged}
    assert "how long the VM has existed" in reasons["vcpu-never-ran"]


def test_without_kvm_s_state_acceleration_is_not_judged(make_host: Callable[..., Any]) -> None:
    case = RuleCase(make_host, CraftedTrouble({"irq_injections": 500}, apicv=None))
    for _ in range(3):
        judgement = case.see()
    assert found(judgement) == set()
    missing = {each.rule for each in judgement.not_judged} - OF_GROUPS - OF_THREADS
    assert missing == {"injected-despite-apicv", "apicv-inhibited", "apicv-off"}


def test_a_reason_that_passes_by_itself_is_no_configuration(make_host: Callable[..., Any]) -> None:
    case = RuleCase(make_host, CraftedTrouble({"irq_injections": 500}, apicv=frozenset({"irqwin"})))
    for _ in range(3):
        assert found(case.see()) == set()


def test_a_host_that_lacks_acceleration_is_not_told_to_switch_it_on(make_host: Callable[..., Any]) -> None:
    no = HostFlag(False, "no such CPU")
    host = HostApicv(True, None, "kvm_amd", no, no, no, no, no, no)
    case = RuleCase(make_host, CraftedTrouble({"irq_injections": 5000}, apicv=frozenset({"disabled"}), host=host))
    for _ in range(3):
        assert found(case.see()) == set()


def test_the_three_page_fault_smells_are_told_apart(make_host: Callable[..., Any]) -> None:
    for slug in ("pf-write-protect", "pf-spurious", "pf-emulation"):
        case = RuleCase(make_host, TROUBLES[slug])
        case.see()
        assert found(case.see()) == {slug}


def test_on_a_kernel_of_5_14_most_rules_are_not_judged_and_none_fires(make_host: Callable[..., Any]) -> None:
    case = RuleCase(make_host, TROUBLES["pf-spurious"])
    lacks = ("pf_taken", "pf_spurious", "pf_emulate", "pf_fast", "pf_mmio_spte_created", "preemption_other")
    case.host.lacks = frozenset(lacks)
    case.last = case.host.sample()
    for _ in range(3):
        judgement = case.see()
    assert found(judgement) == set()
    missing = {each.rule for each in judgement.not_judged}
    assert missing >= {"pf-spurious", "pf-write-protect", "pf-emulation", "preempted", "preempted-in-kvm"}
    assert Scope.VM is load_findings()[0].scope


# --- halt polling -----------------------------------------------------------------------------------------------------

SHORT_SLEEPS: Mapping[str, float] = {
    "halt_wakeup": 3000,
    "wait_us:59": 3000,
    "halt_attempted_poll": 1700,
    "halt_successful_poll": 700,
}
"""1,000 failed polls a second."""


def polls_that_fail_after(ns: float) -> Mapping[str, float]:
    return {**SHORT_SLEEPS, "halt_poll_fail_ns": 1000 * ns}


@pytest.mark.parametrize(
    ("limit_ns", "failed_after_ns", "slug"),
    [
        (200_000, 128, "poll-cut-short"),
        (None, 128, "poll-cut-short"),
        (2000, 2000, "poll-too-short"),
        (40_000, 3000, "poll-cut-short"),
        (40_000, 7000, "poll-too-short"),
        (200_000, 7000, ""),
        (None, 7000, "poll-too-short"),
    ],
)
def test_short_sleeps_are_blamed_on_the_limit_only_if_it_is_what_ends_polls(
    limit_ns: int | None, failed_after_ns: float, slug: str, make_host: Callable[..., Any]
) -> None:
    case = RuleCase(make_host, CraftedTrouble(polls_that_fail_after(failed_after_ns), halt_poll_ns=limit_ns))
    case.see()
    assert found(case.see()) == set(slug.split())


@pytest.mark.parametrize("cap_ns", [0, 3000])
def test_the_limit_of_a_vm_takes_precedence_over_the_host_s(cap_ns: int, make_host: Callable[..., Any]) -> None:
    case = RuleCase(make_host, CraftedTrouble(polls_that_fail_after(3000), halt_poll_ns=200_000))
    case.host.count("settings.halt_poll_cap_set", "settings.halt_poll_cap_ns")
    case.vm.vm_stats.update({"settings.halt_poll_cap_set": 1, "settings.halt_poll_cap_ns": cap_ns})
    case.last = case.host.sample()
    case.see()
    assert found(case.see()) == {"poll-too-short"}


def test_a_vm_that_does_not_poll_at_all_needs_a_higher_limit(make_host: Callable[..., Any]) -> None:
    never = {**SHORT_SLEEPS, "halt_attempted_poll": 0, "halt_successful_poll": 0, "halt_poll_success_ns": 0}
    case = RuleCase(make_host, CraftedTrouble({**never, "halt_poll_fail_ns": 0}, halt_poll_ns=0))
    case.see()
    assert found(case.see()) == {"poll-too-short"}


POLL_RULES = ("poll-waste", "poll-heavy", "poll-too-short")


@pytest.mark.parametrize("limit_ns", [None, 0, 10_000, 50_000, 200_000])
def test_no_vm_is_told_to_poll_less_and_to_poll_more(limit_ns: int | None, make_host: Callable[..., Any]) -> None:
    """Loads drift through all levels of the rules, so that findings fire, stay and clear in many orders."""
    chance = random.Random(f"polls {limit_ns}")
    case = RuleCase(make_host, CraftedTrouble({}, halt_poll_ns=limit_ns))
    fired: set[str] = set()
    for _ in range(150):
        cpus = chance.choice((0.005, 0.02, 0.03, 0.06, 0.2))
        polls = chance.choice((0, 400, 4000))
        rates = {
            "halt_wakeup": chance.choice((100, 300, 3000)),
            f"wait_us:{chance.choice((20, 60, 150, 900))}": 3000.0,
            "halt_attempted_poll": polls,
            "halt_successful_poll": polls // chance.choice((2, 10)),
            "halt_poll_fail_ns": cpus * 1e9 if polls else 0,
            "halt_poll_success_ns": chance.choice((0.01, 0.3, 0.5)) * 1e9 if polls else 0,
        }
        for _ in range(chance.choice((1, 2, 3))):
            slugs = found(case.see(rates))
            fired |= slugs
            assert not ("poll-too-short" in slugs and slugs & {"poll-waste", "poll-heavy"})
    assert fired >= {"poll-waste", "poll-heavy"}


# --- emulated faults --------------------------------------------------------------------------------------------------

XAPIC: Mapping[str, float] = {"pf_taken": 4000, "pf_emulate": 3000, "pf_fixed": 1000, "insn_emulation": 3000}
"""A guest whose accesses to its local APIC are page faults that KVM emulates."""


def test_emulated_accesses_to_the_local_apic_are_not_blamed_on_page_tables(make_host: Callable[..., Any]) -> None:
    rates = {**XAPIC, "irq_injections": 1000}
    for trouble, slug in (
        (CraftedTrouble(rates, apicv=frozenset({"pit_reinj"})), {"apicv-inhibited"}),
        (CraftedTrouble(rates, apicv=frozenset({"disabled"}), host=host_with_apicv(switched_on=False)), {"apicv-off"}),
        (CraftedTrouble(rates, apicv=frozenset({"disabled"})), set()),
        (CraftedTrouble(rates, apicv=None), set()),
    ):
        case = RuleCase(make_host, trouble)
        case.see()
        assert found(case.see()) == slug


def test_the_cost_of_emulated_apic_accesses_counts_with_the_inhibit(make_host: Callable[..., Any]) -> None:
    case = RuleCase(make_host, CraftedTrouble({**XAPIC, "irq_injections": 1000}, apicv=frozenset({"pit_reinj"})))
    case.see()
    # Two vCPUs: 1,000 injections of 2 µs, and 2,980 emulated accesses of 5 µs (20 of the faults are MMIO).
    assert only(case.see()).cost_cpus == pytest.approx(2 * (1000 * 2e-6 + 2980 * 5e-6))


@pytest.mark.parametrize("apicv", [None, frozenset({"pit_reinj"}), frozenset()])
def test_emulated_writes_to_page_tables_are_found_whatever_apicv_does(
    apicv: frozenset[str] | None, make_host: Callable[..., Any]
) -> None:
    case = RuleCase(make_host, CraftedTrouble({**TROUBLES["pf-emulation"].rates, "mmu_pte_write": 4000}, apicv=apicv))
    case.see()
    assert found(case.see()) == {"pf-emulation"}


def test_a_write_that_drops_an_entry_costs_its_emulation_once(make_host: Callable[..., Any]) -> None:
    """2,000 emulated writes on each of two vCPUs, each of which drops one entry of KVM's shadow page tables."""
    rates = {**TROUBLES["pf-emulation"].rates, "mmu_pte_write": 4000, "mmu_pde_zapped": 4000}
    case = RuleCase(make_host, CraftedTrouble(rates))
    case.see()
    costs = {finding.rule.slug: finding.cost_cpus for finding in case.see().findings}
    assert costs == {
        "pf-emulation": pytest.approx(2 * (2000 - 20) * 5e-6),
        "shadow-paging-churn": pytest.approx(4000 * 2e-6),
    }


def test_a_fault_is_not_both_spurious_and_write_protected_in_two_findings(make_host: Callable[..., Any]) -> None:
    rates = {"pf_taken": 4000, "pf_fast": 2800, "pf_fixed": 2900, "pf_spurious": 1100}
    case = RuleCase(make_host, CraftedTrouble(rates))
    case.see()
    assert found(case.see()) == {"pf-write-protect"}


# --- interrupts, exits and locks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [100, 199.9, 210])
def test_a_pit_at_100_hz_is_not_found_even_where_it_counts_twice(rate: float, make_host: Callable[..., Any]) -> None:
    case = RuleCase(make_host, CraftedTrouble({"irq_injections": rate}, active=True, vcpus=1))
    for _ in range(4):
        assert found(case.see()) == set()


def test_a_finding_on_software_injection_clears_at_the_rate_of_a_pit(make_host: Callable[..., Any]) -> None:
    case = RuleCase(make_host, CraftedTrouble({"irq_injections": 1000}, active=True, vcpus=1))
    case.see()
    assert found(case.see()) == {"injected-despite-apicv"}
    assert found(case.see({"irq_injections": 200})) == set()


ON_INTEL = ("exits.exit_msr_read_ns", "exits.exit_msr_write_ns", "exits.exit_io_instruction_ns")
ON_AMD = ("exits.exit_msr_ns", "exits.exit_io_ns")


@pytest.mark.parametrize(
    ("also", "stat"),
    [
        (ON_INTEL, "exits.exit_apic_write_ns"),
        (ON_INTEL, "exits.exit_apic_access_ns"),
        (ON_INTEL, "exits.exit_eoi_induced_ns"),
        (ON_INTEL, "exits.exit_tpr_below_threshold_ns"),
        (ON_INTEL, "exits.exit_msr_write_ns"),
        (ON_AMD, "exits.exit_avic_incomplete_ipi_ns"),
        (ON_AMD, "exits.exit_avic_unaccelerated_access_ns"),
        (ON_AMD, "exits.exit_msr_ns"),
    ],
)
def test_exits_of_the_local_apic_count_as_those_of_its_msrs(
    also: tuple[str, ...], stat: str, make_host: Callable[..., Any]
) -> None:
    fault = "exits.exit_npf_ns" if also is ON_AMD else "exits.exit_ept_violation_ns"
    quiet = {**dict.fromkeys(also, 1 * MS), fault: MS, "exits.exit_ept_misconfig_ns": MS}
    case = RuleCase(make_host, CraftedTrouble({**quiet, stat: 400 * MS}))
    case.see()
    finding = only(case.see())
    assert finding.rule.slug == "exits-costly"
    assert finding.evidence["exit_msr_cpus"] == pytest.approx(0.8, abs=0.01)
    assert finding.cost_cpus is None
    assert finding.lost_vcpus == pytest.approx(0.8, abs=0.01)
    assert [worst.vcpu for worst in finding.worst] == [0, 1]


def test_time_in_the_vmm_is_wall_time_and_no_cpu_time(make_host: Callable[..., Any]) -> None:
    case = RuleCase(make_host, TROUBLES["vmm-time"])
    case.see()
    finding = only(case.see())
    assert finding.cost_cpus is None
    assert finding.lost_vcpus == pytest.approx(0.8)
    assert {metric.name for metric in load_metrics() if metric.unit is MetricUnit.VCPUS} == {
        *("vmm_time_cpus", "exit_io_cpus", "exit_msr_cpus", "exit_fault_cpus", "run_delay_vcpus"),
        *("exit_pause_cpus", "exit_exception_cpus", "exit_cpuid_cpus", "exit_wbinvd_cpus"),
    }


def test_thousands_of_short_waits_for_the_mmu_lock_are_not_found(make_host: Callable[..., Any]) -> None:
    """Measured with two vCPUs that rewrite page tables: 7,800 contended waits a second take 0.005 CPU."""
    waits = {
        "mmu_lock.mmu_lock_read_contended": 0,
        "mmu_lock.mmu_lock_write_contended": 7800,
        "mmu_lock.mmu_lock_read_wait_ns": 0,
        "mmu_lock.mmu_lock_write_wait_ns": 5 * MS,
    }
    case = RuleCase(make_host, CraftedTrouble(waits))
    for _ in range(3):
        assert found(case.see()) == set()


# --- remedies ---------------------------------------------------------------------------------------------------------


def machine(module: str, flags: str, **parameters: str) -> Machine:
    unknown: Fact[Any] = Fact.unknown("not asked")
    known = {name: Fact(value) for name, value in parameters.items()}
    return Machine(
        *(unknown, unknown, unknown, unknown),
        kvm_vendor=Fact(KernelModule(module, False, known)),
        cpu=Fact(CpuInfo(None, None, frozenset(flags.split()))),
        lockdown=unknown,
    )


@pytest.mark.parametrize(
    ("on", "advised"),
    [
        (machine("kvm_intel", "vmx ept", ept="N"), True),
        (machine("kvm_intel", "vmx ept", ept="Y"), False),
        (machine("kvm_intel", "vmx", ept="N"), False),
        (machine("kvm_amd", "svm npt", npt="N"), True),
        (machine("kvm_amd", "svm", npt="N"), False),
        (machine("kvm_pvm", "ept npt"), False),
    ],
)
@pytest.mark.parametrize("slug", ["pf-emulation", "shadow-paging-churn", "mmu-lock-contended"])
def test_ept_and_npt_are_advised_only_where_the_cpu_has_them_and_they_are_off(
    slug: str, on: Machine, advised: bool
) -> None:
    rule = next(rule for rule in rules_here(load_findings(), Facts(on)) if rule.slug == slug)
    assert any("ept=1" in remedy.do for remedy in rule.remedies) is advised
    assert rule.remedies, "something can always be done"


def test_a_nested_guests_interrupts_are_not_blamed_on_the_pic(make_host: Callable[..., Any]) -> None:
    trouble = CraftedTrouble({"irq_injections": 250, "nested_run": 20_000}, active=True)
    case = RuleCase(make_host, trouble)
    case.see()
    assert found(case.see()) == {"nested-cost"}


def test_vmm_time_that_is_spread_over_many_vcpus_is_told(make_host: Callable[..., Any]) -> None:
    rates = {"mmio_exits": 400, "fpu_reload": 420, "userspace.userspace_exits": 400, "userspace.userspace_ns": 70 * MS}
    case = RuleCase(make_host, CraftedTrouble(rates, vcpus=4))
    for _ in range(3):
        judgement = case.see()
    assert found(judgement) == {"vmm-time"}


# --- CPUs -------------------------------------------------------------------------------------------------------------

SHARED: Mapping[str, float] = {
    "preemption_reported": 400,
    "sched.run_delay_ns": 300 * MS,
    "sched.run_ns": 600 * MS,
    "cgroup.nr_periods": 0,
    "cgroup.nr_throttled": 0,
}


def test_vcpus_that_wait_and_are_preempted_are_one_finding_with_the_time(make_host: Callable[..., Any]) -> None:
    case = RuleCase(make_host, CraftedTrouble(SHARED))
    case.see()
    finding = only(case.see())
    assert finding.rule.slug == "cpu-wait"
    assert finding.lost_vcpus == pytest.approx(0.6)
    assert finding.evidence["run_delay_share"] == pytest.approx(1 / 3)


def test_preemptions_that_cost_little_time_or_an_unknown_one_are_told_as_such(make_host: Callable[..., Any]) -> None:
    for rates in ({**SHARED, "sched.run_delay_ns": 50 * MS}, {"preemption_reported": 400}):
        case = RuleCase(make_host, CraftedTrouble(rates))
        case.see()
        assert found(case.see()) == {"preempted"}


@pytest.mark.parametrize(
    ("periods", "throttled", "slug"),
    [(10, 6, "cpu-throttled"), (10, 1, "cpu-throttled"), (100, 5, "cpu-wait"), (0, 0, "cpu-wait")],
)
def test_a_wait_is_blamed_on_the_quota_only_if_that_stopped_the_vm(
    periods: int, throttled: int, slug: str, make_host: Callable[..., Any]
) -> None:
    rates = {**SHARED, "cgroup.nr_periods": periods, "cgroup.nr_throttled": throttled}
    case = RuleCase(make_host, CraftedTrouble(rates))
    case.see()
    finding = only(case.see())
    assert finding.rule.slug == slug
    assert ("cpu-quota" in finding.rule.remedies[0].settings) == (slug == "cpu-throttled")


@pytest.mark.parametrize(
    ("busy", "fires"),
    [
        ({"sched.main_run_ns": 500 * MS, "sched.vmm_run_ns": 510 * MS}, True),
        ({"sched.main_run_ns": 10 * MS, "sched.vmm_run_ns": 950 * MS}, True),
        ({"sched.main_run_ns": 10 * MS, "sched.vmm_run_ns": 20 * MS, "sched.pit_run_ns": 200 * MS}, True),
        ({"sched.main_run_ns": 100 * MS, "sched.vmm_run_ns": 300 * MS, "sched.pit_run_ns": 10 * MS}, False),
    ],
    ids=["main loop", "I/O threads", "PIT", "some I/O"],
)
def test_a_vmm_is_told_to_be_busy_by_its_busiest_kind_of_thread(
    busy: Mapping[str, float], fires: bool, make_host: Callable[..., Any]
) -> None:
    case = RuleCase(make_host, CraftedTrouble({"sched.pit_run_ns": 0, **busy}))
    case.see()
    judgement = case.see()
    assert found(judgement) == ({"vmm-threads-busy"} if fires else set())


def test_a_source_without_times_of_threads_is_not_told_to_count_a_group(make_host: Callable[..., Any]) -> None:
    reasons = {
        each.rule: (each.reason, each.group) for each in RuleCase(make_host, CraftedTrouble({})).see().not_judged
    }
    assert reasons["cpu-wait"][0].startswith("this source or kernel has no sched.run_delay_ns")
    assert reasons["cpu-wait"][1] == ""
    assert reasons["wakeups-late"][1] == "wakeups"


# --- exits by reason, faults that repeat ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stat", "slug"),
    [
        ("exits.exit_pause_ns", "pause-exits"),
        ("exits.exit_pause_instruction_ns", "pause-exits"),
        ("exits.exit_ac_excp_ns", "split-locks"),
        ("exits.exit_exception_nmi_ns", "split-locks"),
        ("exits.exit_cpuid_ns", "cpuid-exits"),
        ("exits.exit_wbinvd_ns", "wbinvd-exits"),
        ("exits.exit_rdtsc_ns", "exits-of-one-reason"),
        ("exits.exit_vmgexit_ns", "exits-of-one-reason"),
        ("exits.exit_cr_access_ns", "exits-of-one-reason"),
        ("exits.exit_other_ns", "exits-of-one-reason"),
        ("exits.exit_hlt_ns", ""),
        ("exits.exit_mwait_instruction_ns", ""),
        ("exits.exit_external_interrupt_ns", ""),
        ("exits.exit_interrupt_ns", ""),
    ],
)
def test_each_reason_that_costs_time_has_one_rule_and_rest_has_none(
    stat: str, slug: str, make_host: Callable[..., Any]
) -> None:
    case = RuleCase(make_host, CraftedTrouble({stat: 600 * MS}))
    case.see()
    assert found(case.see()) == set(slug.split())


def test_every_reason_of_exits_is_judged_by_some_rule_or_is_rest_or_the_hosts() -> None:
    names = {name for table in (ReasonTable.VMX, ReasonTable.SVM) for name in reasons(table).values()}
    assert {"hlt", "mwait", "nmi"} <= names
    for name in names - exit_reasons.RESTING - exit_reasons.OF_THE_HOST - exit_reasons.OF_HYPERVISORS:
        stat = f"exit_{name}_ns"
        by_metric = any(stat in str(rule.when.expression) or stat in formulas_of_metrics() for rule in load_findings())
        assert by_metric is (exit_reasons.judged_reason(stat) is None), name


def formulas_of_metrics() -> str:
    return " ".join(str(metric.formula.expression) for metric in load_metrics() if metric.name.startswith("exit_"))


def test_steady_faults_on_memory_that_grows_are_not_found(make_host: Callable[..., Any]) -> None:
    """Each of two vCPUs maps 4,000 new pages a second."""
    rates = {"pf_taken": 4000, "pf_fixed": 4000, "remote_tlb_flush": 400, "pages_4k": 8000}
    case = RuleCase(make_host, CraftedTrouble(rates))
    for _ in range(4):
        assert found(case.see()) == set()


def test_memory_that_is_given_back_at_once_and_touched_again_is_not_found(make_host: Callable[..., Any]) -> None:
    """A TLB flush for each 1,024 pages: the guest or its VMM gave them back."""
    rates = {"pf_taken": 40_000, "pf_fixed": 40_000, "remote_tlb_flush": 80}
    case = RuleCase(make_host, CraftedTrouble(rates))
    for _ in range(4):
        assert found(case.see()) == set()


def test_faults_without_an_outcome_are_not_counted_among_those_that_refault(make_host: Callable[..., Any]) -> None:
    rates = {"pf_taken": 90_000, "pf_fixed": 20_000, "remote_tlb_flush": 4000}
    case = RuleCase(make_host, CraftedTrouble({**rates, "pf_spurious": 0, "pf_fast": 0}))
    case.see()
    costs = {finding.rule.slug: finding.cost_cpus for finding in case.see().findings if finding.rule.slug[:2] != "tl"}
    assert costs == {"pf-retries": pytest.approx(2 * 70_000 * 2e-6)}


def test_halts_that_go_to_the_vmm_are_not_said_to_end_at_once(make_host: Callable[..., Any]) -> None:
    """Without a local APIC in the kernel each HLT is a userspace exit, and the VMM lets its vCPU rest."""
    case = RuleCase(make_host, CraftedTrouble({"halt_exits": 9000, "fpu_reload": 9000}))
    case.see()
    assert found(case.see()) == {"userspace-exits"}


@pytest.mark.parametrize(("waited_ms", "left"), [(None, 0.4), (0, 0.4), (90, 0.31), (350, 0.05), (500, 0.0)])
def test_time_that_a_vcpu_waited_for_a_cpu_is_not_time_in_the_vmm(
    waited_ms: int | None, left: float, make_host: Callable[..., Any]
) -> None:
    waited = {} if waited_ms is None else {"sched.run_delay_ns": waited_ms * MS}
    rates = {"userspace.userspace_exits": 500, "userspace.userspace_ns": 400 * MS, **waited}
    case = RuleCase(make_host, CraftedTrouble(rates, vcpus=1))
    case.see()
    fired = {finding.rule.slug: finding for finding in case.see().findings}
    assert ("vmm-time" in fired) == (left >= 0.2)
    if "vmm-time" in fired:
        assert fired["vmm-time"].lost_vcpus == pytest.approx(left)
