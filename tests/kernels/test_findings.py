"""Rules that this host's KVM has no case for, on a stock kernel that has: what ``doctor`` says of real guests there.

``inside/findings.py`` brings the troubles about and prints what was read; it is judged here, as of that machine.
Most troubles play in a boot whose clock goes by its instructions, so that rates do not depend on what else runs here.
docs/reference/rules-by-case.md lists the rules with their cases.
"""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from kvmscope.analysis.findings import EndCause
from kvmscope.analysis.window import Window
from kvmscope.host.facts import Machine
from kvmscope.linux.facts import Fact
from kvmscope.sample import Sample
from kvmscope.scene import Scene, VmIdentity
from kvmscope.schema import Scope
from kvmscope.view.watch import HostView, Watch

WITHOUT_AVIC = {
    "healthy": {"halt": set(), "idle": set()},
    "polls without end": {"halt": {"poll-heavy"}},
    "port I/O": {"pio": {"port-io-storm"}},
    "port I/O by reason": {"pio": {"port-io-storm", "exits-costly"}},
    "MMIO": {"mmio": {"mmio-storm"}},
    "notifications": {"notified": set()},
    "windows": {"ipi": {"irq-windows", "halts-without-rest"}},
    "yields": {"yield": {"failing-yields"}},
    "undecodable": {"undecodable": {"emulation-failure", "userspace-exits"}},
    "undecodable by reason": {
        "undecodable": {"emulation-failure", "userspace-exits", "kvm-internal-error", "vmm-time"}
    },
    "CPUID": {"cpuid": {"cpuid-exits"}},
    "WBINVD": {"wbinvd": {"wbinvd-exits"}},
    "CR4": {"cr4": {"exits-of-one-reason"}},
    "nested": {"nested": {"nested-cost"}},
    "nested faults": {"faulting": {"nested-cost"}},
    "nested PAUSE": {"pausing": {"nested-cost", "pause-exits"}},
    "slow pages": {"slow": {"faults-slow"}},
    "discarded pages": {"discarded": {"pf-retries"}},
    "invalid state": {"invalid": {"vm-entry-failed"}},
    "watched": {"dirty": {"pf-write-protect", "memory-logged"}},
    "watched beside another": {
        "dirty": {"pf-write-protect", "memory-logged", "cpu-wait", "preempted-in-kvm"},
        "halt": set(),
    },
    "spinning beside another": {"spin": {"cpu-wait"}, "halt": set()},
    "small pages": {"spread": {"small-pages"}},
    "split pages": {"split pages": {"nx-splits", "userspace-exits"}},  # without a local APIC, HLT exits to the VMM
    "xAPIC": {"xapic": set()},
    "cleared": {"idle": {"stats-reset"}},
}
"""Trouble: VM: the rules that fire, and no other."""

WITH_AVIC = {
    "reinjecting PIT": {"apicv-inhibited"},
    "interrupts of the PIC": {"injected-despite-apicv"},
    "xAPIC while inhibited": set(),
    "idle": set(),
}
"""Trouble: the rules that fire on its VM, and no other but those ``OF_THE_MACHINE``."""

OF_THE_MACHINE = {"preempted", "cpu-wait", "preempted-in-kvm", "vmm-threads-busy"}
"""Rules that fire truly where one slow CPU runs all, and time goes by this machine's clock."""


@dataclass(frozen=True)
class Seen:
    """What a boot showed: the machine, the samples of each trouble, and what its VMs were, in order."""

    machine: Machine
    samples: dict[str, list[Sample]]
    vms: dict[str, list[str]]

    def reports(self, trouble: str) -> list[dict[str, Any]]:
        """After each window the findings of each VM, and what ended."""
        samples = self.samples[trouble]
        who = tuple(VmIdentity(name, None) for name in self.vms[trouble])
        watch = Watch()
        views = [watch.add(Scene(sample, who, self.machine, {})) for sample in samples]
        return [_told(view) for view in views if view is not None]


def _told(view: HostView) -> dict[str, Any]:
    found: dict[str, set[str]] = {name: set() for name in view.log.names.values()}
    for finding in view.judgement.findings:
        found[view.log.names[finding.vm]].add(finding.rule.slug)
    return {
        "found": found,
        "ended": {ended.finding.rule.slug: ended.why for ended in view.judgement.ended},
        "evidence": {finding.rule.slug: finding.evidence for finding in view.judgement.findings},
    }


def seen_in(kernel: str, inside: Callable[..., Any], **boot: bool) -> Seen:
    printed = inside(kernel, "findings", **boot)
    machine, samples = pickle.loads(base64.b64decode(printed["pickled"]))
    return Seen(machine, samples, printed["vms"])


@pytest.fixture
def without_avic(rules_kernel: str, inside: Callable[..., Any]) -> Seen:
    return seen_in(rules_kernel, inside, avic=False, even_clock=True)


@pytest.fixture
def with_avic(rules_kernel: str, inside: Callable[..., Any]) -> Seen:
    return seen_in(rules_kernel, inside)


@pytest.mark.parametrize("trouble", WITHOUT_AVIC)
def test_a_trouble_has_exactly_the_findings_that_name_it(without_avic: Seen, trouble: str) -> None:
    assert without_avic.reports(trouble)[-1]["found"] == WITHOUT_AVIC[trouble]


@pytest.mark.parametrize("trouble", WITH_AVIC)
def test_so_it_is_with_troubles_of_interrupt_acceleration(with_avic: Seen, trouble: str) -> None:
    (found,) = with_avic.reports(trouble)[-1]["found"].values()
    assert found - OF_THE_MACHINE == WITH_AVIC[trouble]


def test_accesses_to_an_xapic_while_avic_is_inhibited_are_not_blamed_on_page_tables(with_avic: Seen) -> None:
    """Emulated by the thousand, with the inhibit reason of a PIT that reinjects."""
    samples = with_avic.samples["xAPIC while inhibited"]
    window = Window(samples[-2], samples[-1])
    assert window.value("apicv", Scope.VM, "apicv_inhibit_pit_reinj").tolist() == [1]
    assert window.rate("kvm", Scope.VCPU, "insn_emulation")[0] >= 1000
    (found,) = with_avic.reports("xAPIC while inhibited")[-1]["found"].values()
    assert "pf-emulation" not in found


def test_notifications_where_mmio_is_not_cached_are_no_writes_to_page_tables(without_avic: Seen) -> None:
    """Each is a fault that KVM emulates: by the thousand, with no finding that blames page tables."""
    samples = without_avic.samples["notifications"]
    window = Window(samples[-2], samples[-1])
    assert window.rate("kvm", Scope.VCPU, "pf_emulate")[0] >= 1000
    assert window.rate("kvm", Scope.VCPU, "mmio_exits").tolist() == [0]


def test_faults_that_a_guests_own_hypervisor_handles_are_no_retries(without_avic: Seen) -> None:
    """Its guest reads a page that it does not map: KVM passes each fault to it, with no outcome of its own."""
    samples = without_avic.samples["nested faults"]
    window = Window(samples[-2], samples[-1])
    taken, entries = (window.rate("kvm", Scope.VCPU, stat)[0] for stat in ("pf_taken", "nested_run"))
    fixed = sum(window.rate("kvm", Scope.VCPU, stat)[0] for stat in ("pf_fixed", "pf_fast", "pf_spurious"))
    assert taken >= 1000
    assert taken == pytest.approx(entries, rel=0.02)
    assert fixed < 10


def test_following_the_advice_on_polling_stops_the_waste_and_ends_the_finding(without_avic: Seen) -> None:
    """Three windows, then the VMM sets its limit of polling to 0, and two more."""
    told = without_avic.reports("wasted polls")
    assert [each["found"]["uneven"] for each in told[1:3]] == [{"poll-waste"}] * 2
    assert told[2]["evidence"]["poll-waste"]["halt_poll_fail_cpus"] > 0.05
    assert told[3]["ended"] == {"poll-waste": EndCause.CLEARED}
    assert told[-1]["found"]["uneven"] == set()


def test_preemptions_are_told_where_nobody_reads_how_long_vcpus_wait(without_avic: Seen) -> None:
    """Crafted in one thing: provider sched is left out, as by sources other than the iterator."""
    name = "spinning beside another"
    samples = [
        replace(sample, blocks=tuple(block for block in sample.blocks if block.schema.provider != "sched"))
        for sample in without_avic.samples[name]
    ]
    lacking = replace(without_avic, samples={**without_avic.samples, name: samples})
    assert lacking.reports(name)[-1]["found"] == {"spin": {"preempted"}, "halt": set()}


def test_a_cpu_with_avic_that_is_not_used_is_told(without_avic: Seen) -> None:
    """Crafted in one thing, since no emulated CPU has it: the machine's CPU is said to have AVIC."""
    cpu = without_avic.machine.cpu.value
    assert cpu is not None
    assert cpu.flags is not None
    able = replace(without_avic.machine, cpu=Fact(replace(cpu, flags=cpu.flags | {"avic"}), None))
    assert replace(without_avic, machine=able).reports("windows")[-1]["found"] == {
        "ipi": {"irq-windows", "halts-without-rest", "apicv-off"}
    }


def test_nothing_is_found_in_a_first_window_but_what_needs_no_second(without_avic: Seen) -> None:
    found = {trouble: without_avic.reports(trouble)[0]["found"] for trouble in WITHOUT_AVIC if trouble != "cleared"}
    assert set().union(*(rules for vms in found.values() for rules in vms.values())) == {
        "emulation-failure",
        "kvm-internal-error",
    }
