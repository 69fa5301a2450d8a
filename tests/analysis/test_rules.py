"""Every rule of the catalogue: fires on the trouble it is for, and on no other; silent on hosts that are well.

The samples are crafted: descriptors of a captured kernel, values made here. Guests that really have the trouble are in
tests/live.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from kvmscope.analysis.evaluate import Evaluator
from kvmscope.analysis.findings import Finding, Judgement, Watcher
from kvmscope.analysis.observations import observe
from kvmscope.analysis.window import Window
from kvmscope.catalog.findings import load_findings
from kvmscope.catalog.metrics import load_metrics
from kvmscope.host.apicv import HostApicv, Told
from kvmscope.schema import Scope

METRICS = {metric.name: metric.formula for metric in load_metrics()}
UNKNOWN = HostApicv.unknown("not looked at")
MS = 1e6


def host_with_apicv(*, switched_on: bool) -> HostApicv:
    yes, told = Told(True, "so it is"), Told(switched_on, "so it is")
    return HostApicv(True, None, "kvm_amd", yes, told, yes, yes, yes, yes)


@dataclass(frozen=True)
class Trouble:
    """What a VM does: ``rates`` a second on each vCPU or of the VM, ``values`` that its VM stats have."""

    rates: Mapping[str, float]
    values: Mapping[str, int] = field(default_factory=dict)
    apicv: frozenset[str] | None = frozenset()
    active: bool = False
    host: HostApicv = UNKNOWN
    hlt_exits_disabled: bool | None = False
    vmm_silent_s: float = 0.0
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

TROUBLES: Mapping[str, Trouble] = {
    "poll-waste": Trouble({"halt_poll_fail_ns": 60 * MS, "halt_poll_success_ns": 20 * MS}),
    "poll-heavy": Trouble({"halt_poll_success_ns": 600 * MS}),
    "poll-too-short": Trouble({"halt_wakeup": 3000, "wait_us:50": 3000}),
    "hlt-exits-disabled": Trouble({}, hlt_exits_disabled=True),
    "pf-write-protect": Trouble({"pf_taken": 4000, "pf_fast": 3900, "pf_fixed": 3900}),
    "pf-spurious": Trouble({"pf_taken": 4000, "pf_fixed": 2000, "pf_spurious": 2000}),
    "pf-emulation": Trouble({"pf_taken": 4000, "pf_emulate": 2000, "pf_fixed": 2000}),
    "shadow-paging-churn": Trouble({"mmu_pde_zapped": 2000}),
    "injected-despite-apicv": Trouble({"irq_injections": 200}, active=True),
    "apicv-inhibited": Trouble({"irq_injections": 200}, apicv=frozenset({"pit_reinj"})),
    "apicv-off": Trouble(
        {"irq_injections": 1000}, apicv=frozenset({"disabled"}), host=host_with_apicv(switched_on=False)
    ),
    "irq-windows": Trouble({"irq_window_exits": 900}),
    "mmio-storm": Trouble({"mmio_exits": 5000, "fpu_reload": 5000}),
    "port-io-storm": Trouble({"io_exits": 5000, "fpu_reload": 5000}),
    "vmm-kicks": Trouble({"signal_exits": 1000, "fpu_reload": 1000}),
    "tlb-shootdowns": Trouble({"remote_tlb_flush": 900}),
    "failing-yields": Trouble({"directed_yield_attempted": 900, "directed_yield_successful": 3}),
    "nx-splits": Trouble({}, {"nx_lpage_splits": 400, "pages_2m": 600}),
    "small-pages": Trouble({}, {"pages_4k": 200_000, "pages_2m": 100}),
    "vcpu-never-ran": Trouble({}),
    "preempted": Trouble({"preemption_reported": 400}),
    "preempted-in-kvm": Trouble({"preemption_other": 100}),
    "emulation-failure": Trouble({"insn_emulation_fail": 1}),
    "vmm-not-answering": Trouble({}, vmm_silent_s=4.0),
    "stats-reset": Trouble({}),
    "wakeups-late": Trouble(
        {"wakeups.wakeups": 100, "wakeups.wakeup_to_entry_ns": 400 * MS, "wakeups.wakeup_to_entry_hist": 100}
    ),
    "vmm-time": Trouble({"userspace.userspace_exits": 500, "userspace.userspace_ns": 400 * MS}),
    "mmu-lock-contended": Trouble(
        {
            "mmu_lock.mmu_lock_read_contended": 900,
            "mmu_lock.mmu_lock_write_contended": 100,
            "mmu_lock.mmu_lock_read_wait_ns": 200 * MS,
            "mmu_lock.mmu_lock_write_wait_ns": 20 * MS,
        }
    ),
    "exits-costly": Trouble({"exits.exit_io_ns": 200 * MS, "exits.exit_msr_ns": 50 * MS, "exits.exit_npf_ns": 1 * MS}),
}


class Case:
    """One VM that has a trouble, window by window."""

    def __init__(self, make_host: Callable[..., Any], trouble: Trouble) -> None:
        self.trouble = trouble
        self.host = make_host()
        self.vm = self.host.add(vcpus=trouble.vcpus, apicv=trouble.apicv, active=trouble.active)
        self.vm.vm_stats.update(trouble.values)
        self.host.count(*(name for name in trouble.rates if "." in name))
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
        facts = observe(window, self.trouble.host, hlt_exits_disabled=halting, vmm_silent_s=silent_s)
        return self.watcher.update(Evaluator(window, METRICS, facts=facts))


OF_GROUPS = frozenset({"wakeups-late", "vmm-time", "mmu-lock-contended", "exits-costly"})
"""Rules that ask for stats which are off until asked for."""


def found(judgement: Judgement) -> set[str]:
    return {finding.rule.slug for finding in judgement.findings}


def only(judgement: Judgement) -> Finding:
    (finding,) = judgement.findings
    return finding


def never_ran(case: Case) -> None:
    case.host.add("sleepy", vcpus=2, apicv=frozenset()).vcpu_stats[1]["exits"] = 0
    case.see()


def cleared(case: Case) -> None:
    case.see()
    case.vm.vcpu_stats[0]["exits"] = 0


PREPARED: Mapping[str, Callable[[Case], None]] = {"vcpu-never-ran": never_ran, "stats-reset": cleared}


def test_every_rule_has_its_case() -> None:
    assert {rule.slug for rule in load_findings()} == set(TROUBLES)


@pytest.mark.parametrize("slug", TROUBLES)
def test_a_rule_fires_on_its_trouble_and_no_other_rule_does(slug: str, make_host: Callable[..., Any]) -> None:
    case = Case(make_host, TROUBLES[slug])
    rule = next(rule for rule in load_findings() if rule.slug == slug)
    if slug in PREPARED:
        PREPARED[slug](case)
    for _ in range(rule.windows):
        judgement = case.see()
    assert found(judgement) == {slug}
    finding = only(judgement)
    if rule.cost is not None:
        assert finding.cost_cpus is not None and 0 < finding.cost_cpus < 4
    assert None not in finding.evidence.values()
    assert (len(finding.worst) > 0) == (rule.worst is not None)
    assert {each.rule for each in judgement.not_judged} <= OF_GROUPS or slug == "stats-reset"


@pytest.mark.parametrize("slug", [slug for slug, trouble in TROUBLES.items() if trouble.rates])
def test_a_finding_clears_when_its_trouble_is_over(slug: str, make_host: Callable[..., Any]) -> None:
    case = Case(make_host, TROUBLES[slug])
    for _ in range(3):
        judgement = case.see()
    assert found(judgement) == {slug}
    judgement = case.see({})
    assert found(judgement) == set()
    assert [ended.why.value for ended in judgement.ended] == ["cleared"]


@pytest.mark.parametrize("slug", [slug for slug in TROUBLES if TROUBLES[slug].rates and slug != "emulation-failure"])
def test_a_hundredth_of_the_trouble_is_none(slug: str, make_host: Callable[..., Any]) -> None:
    case = Case(make_host, TROUBLES[slug])
    little = {name: BUSY.get(name, 0.0) + rate / 100 for name, rate in case.trouble.rates.items()}
    for _ in range(4):
        assert found(case.see(little)) == set()


def test_a_busy_healthy_guest_has_no_finding(make_host: Callable[..., Any]) -> None:
    case = Case(make_host, Trouble({}))
    for _ in range(5):
        judgement = case.see()
        assert found(judgement) == set()


def test_an_idle_host_has_no_finding(make_host: Callable[..., Any]) -> None:
    setup = Trouble({}, {"pages_4k": 200_000, "nx_lpage_splits": 400}, apicv=frozenset({"pit_reinj"}))
    case = Case(make_host, setup)
    for _ in range(5):
        case.host.run(2.0, {"exits": 12, "halt_exits": 10, "halt_wakeup": 10, "irq_injections": 8, "wait_us:60": 10})
        assert found(case.look()) == set()


def test_a_start_and_a_stop_leave_no_finding(make_host: Callable[..., Any]) -> None:
    case = Case(make_host, Trouble({}))
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
    case = Case(make_host, Trouble({}))
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
    case = Case(make_host, Trouble({}))
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
    case = Case(make_host, Trouble({"irq_injections": 500}, apicv=None))
    for _ in range(3):
        judgement = case.see()
    assert found(judgement) == set()
    missing = {each.rule for each in judgement.not_judged} - OF_GROUPS
    assert missing == {"injected-despite-apicv", "apicv-inhibited", "apicv-off"}


def test_a_reason_that_passes_by_itself_is_no_configuration(make_host: Callable[..., Any]) -> None:
    case = Case(make_host, Trouble({"irq_injections": 500}, apicv=frozenset({"irqwin"})))
    for _ in range(3):
        assert found(case.see()) == set()


def test_a_host_that_lacks_acceleration_is_not_told_to_switch_it_on(make_host: Callable[..., Any]) -> None:
    no = Told(False, "no such CPU")
    host = HostApicv(True, None, "kvm_amd", no, no, no, no, no, no)
    case = Case(make_host, Trouble({"irq_injections": 5000}, apicv=frozenset({"disabled"}), host=host))
    for _ in range(3):
        assert found(case.see()) == set()


def test_the_three_page_fault_smells_are_told_apart(make_host: Callable[..., Any]) -> None:
    for slug in ("pf-write-protect", "pf-spurious", "pf-emulation"):
        case = Case(make_host, TROUBLES[slug])
        case.see()
        assert found(case.see()) == {slug}


def test_on_a_kernel_of_5_14_most_rules_are_not_judged_and_none_fires(make_host: Callable[..., Any]) -> None:
    case = Case(make_host, TROUBLES["pf-spurious"])
    lacks = ("pf_taken", "pf_spurious", "pf_emulate", "pf_fast", "pf_mmio_spte_created", "preemption_other")
    case.host.lacks = frozenset(lacks)
    case.last = case.host.sample()
    for _ in range(3):
        judgement = case.see()
    assert found(judgement) == set()
    missing = {each.rule for each in judgement.not_judged}
    assert missing >= {"pf-spurious", "pf-write-protect", "pf-emulation", "preempted", "preempted-in-kvm"}
    assert Scope.VM is load_findings()[0].scope
