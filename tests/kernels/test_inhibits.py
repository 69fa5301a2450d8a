"""Each inhibit reason that a VMM can bring about, on stock kernels: caused, seen, undone; and with AVIC off.

``inside/inhibits.py`` plays the scenarios in each kernel and prints what the BPF source said at every phase; one boot
for each setting of AVIC gives all answers. What is not shown here: SEV, which the emulated CPU lacks.
Kernels are told apart by which reasons they have, not by version.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from kvmscope.catalog.inhibits import load_inhibits

_PREFIX = "apicv_inhibit_"
_SUBJECT, _OTHERS = 1, (0, 2)
_WHEN = ("at once", "after a run")

Answers = dict[str, Any]
Vm = dict[str, Any]


@dataclass(frozen=True)
class InhibitCase:
    """What a scenario must show.

    ``reasons``: those that it causes; more than one only where the kernel itself sets them together. ``told``: stats of
    provider apicv that tell of the cause whether or not the host has AVIC on, for the VM or by place of a vCPU, with
    their values while it lasts and when it is undone.
    """

    reasons: frozenset[str]
    told: Mapping[tuple[int | None, str], tuple[Any, Any]] = field(default_factory=dict)
    sticky: bool = False


def case(*reasons: str, told: Mapping[tuple[int | None, str], tuple[Any, Any]], sticky: bool = False) -> InhibitCase:
    return InhibitCase(frozenset(reasons), told, sticky)


CASES = {
    "no_irqchip": case(
        "absent", told={(None, "irqchip_kernel"): (False, True), (None, "irqchip_split"): (False, False)}
    ),
    "split_irqchip": case(
        "absent", told={(None, "irqchip_kernel"): (False, False), (None, "irqchip_split"): (False, True)}
    ),
    "pit": case("pit_reinj", told={(None, "pit_reinject_mode"): (True, False), (None, "pit_in_kernel"): (True, True)}),
    "blockirq": case(
        "blockirq", told={(0, "guest_debug_blockirq"): (False, False), (1, "guest_debug_blockirq"): (True, False)}
    ),
    "synic_auto_eoi": case("hyperv", told={(None, "synic_auto_eoi_used"): (True, False)}),
    "pic_interrupt": case("irqwin", told={}),
    "apic_id": case("apic_id_modified", told={(0, "apic_id"): (5, 0)}),
    "apic_base": case("apic_base_modified", told={(0, "apic_base_moved"): (True, False)}, sticky=True),
    # The second vCPU's id is another's, so it is not its own; and without a map of ids there is none of logical ones.
    "same_id_twice": case(
        "physical_id_aliased",
        "apic_id_modified",
        "logical_id_aliased",
        told={(0, "apic_id"): (0, 0), (1, "apic_id"): (0, 1)},
    ),
    "same_logical_id_twice": case(
        "logical_id_aliased", told={(0, "apic_ldr"): (1 << 24, 1 << 24), (1, "apic_ldr"): (1 << 24, 2 << 24)}
    ),
    "two_logical_modes": case(
        "logical_id_aliased", told={(0, "apic_x2apic"): (True, True), (1, "apic_x2apic"): (False, True)}
    ),
}
"""Those that every kernel plays to the end."""

LARGE_IDS = {
    "large_vcpu_id": {"physical_id_too_big"},
    "ids_equal_in_eight_bits": {"physical_id_too_big", "physical_id_aliased", "logical_id_aliased"},
}
"""vCPU ids that AVIC has no room for."""


@pytest.fixture
def answers(x86_kernel: str, inside: Callable[..., Any]) -> Answers:
    found: Answers = inside(x86_kernel, "inhibits")
    assert found["avic"] is True
    return found


@pytest.fixture
def answers_off(x86_kernel: str, inside: Callable[..., Any]) -> Answers:
    found: Answers = inside(x86_kernel, "inhibits", avic=False)
    assert found["avic"] is False
    return found


def known_reasons(answers: Answers) -> frozenset[str]:
    return frozenset(name.removeprefix(_PREFIX) for name in answers["vm stats"] if is_reason(name))


def reasons_of(vm: Vm) -> frozenset[str]:
    return frozenset(name.removeprefix(_PREFIX) for name, value in vm["stats"].items() if is_reason(name) and value)


def is_reason(stat: str) -> bool:
    """Not so the stats of group apicv that count what happened to a reason."""
    return stat.startswith(_PREFIX) and not stat.startswith((f"{_PREFIX}set_", f"{_PREFIX}unchanged_"))


def subject(answers: Answers, scenario: str, phase: str, when: str) -> Vm:
    found: Vm = answers["scenarios"][scenario][phase][when][_SUBJECT]
    return found


def expected_while_undone(scenario: str, answers: Answers) -> frozenset[str]:
    case = CASES[scenario]
    if case.sticky:
        return case.reasons
    # Kernels that tell aliases apart also look at ids anew; before, a changed id was never forgiven (6.3).
    forgiving = "physical_id_aliased" in known_reasons(answers)
    return frozenset() if forgiving else case.reasons & {"apic_id_modified"}


# -- AVIC on ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", CASES)
def test_a_cause_turns_exactly_its_reasons_true_within_one_read(answers: Answers, scenario: str) -> None:
    phases = answers["scenarios"][scenario]
    expected = CASES[scenario].reasons & known_reasons(answers)
    if "before" in phases:
        assert reasons_of(subject(answers, scenario, "before", "after a run")) == frozenset()
    for when in _WHEN:
        assert reasons_of(subject(answers, scenario, "caused", when)) == expected


@pytest.mark.parametrize("scenario", CASES)
def test_undoing_it_turns_false_what_this_kernel_clears(answers: Answers, scenario: str) -> None:
    for when in _WHEN:
        left = reasons_of(subject(answers, scenario, "undone", when))
        assert left == expected_while_undone(scenario, answers) & known_reasons(answers)


def test_a_cause_that_comes_again_is_seen_again(answers: Answers) -> None:
    assert reasons_of(subject(answers, "pit", "caused again", "at once")) == {"pit_reinj"}


@pytest.mark.parametrize("scenario", CASES)
@pytest.mark.parametrize("phase", ["caused", "undone"])
def test_vcpus_are_active_from_their_next_run_exactly_while_no_reason_is_set(
    answers: Answers, scenario: str, phase: str
) -> None:
    vm = subject(answers, scenario, phase, "after a run")
    assert [vcpu["apicv_active"] for vcpu in vm["vcpus"]] == [not reasons_of(vm)] * len(vm["vcpus"])


def test_a_vcpu_that_has_not_run_since_says_what_was_true_when_it_ran(answers: Answers) -> None:
    """So a verdict must be drawn from the VM's reasons too."""
    (inhibited,), (cleared,) = (subject(answers, "pit", phase, "at once")["vcpus"] for phase in ("caused", "undone"))
    assert (inhibited["apicv_active"], cleared["apicv_active"]) == (True, False)


def test_a_guest_that_runs_a_guest_loses_it_alone_and_without_a_reason_of_the_vm(answers: Answers) -> None:
    states = [
        [
            (vcpu["guest_mode"], vcpu["apicv_active"])
            for vcpu in subject(answers, "nested", phase, "after a run")["vcpus"]
        ]
        for phase in ("before", "caused", "undone")
    ]
    assert states == [[(False, True)] * 2, [(True, False), (False, True)], [(False, True)] * 2]
    for phase in ("before", "caused", "undone"):
        assert reasons_of(subject(answers, "nested", phase, "after a run")) == frozenset()
    vcpus = subject(answers, "nested", "caused", "after a run")["verdict"]["vcpus"]
    assert [vcpu["reasons"] for vcpu in vcpus] == [["nested"], []]


@pytest.mark.parametrize("scenario", CASES)
def test_the_verdict_names_the_reasons_with_cause_and_remedy(answers: Answers, scenario: str) -> None:
    expected = CASES[scenario].reasons & known_reasons(answers)
    verdict = subject(answers, scenario, "caused", "at once")["verdict"]
    assert verdict["is verified"]
    assert set(verdict["reasons"]) == expected
    # A VM without irqchip has no vCPU yet.
    assert verdict["state"] == ("inhibited" if expected else "active")
    for name, reason in verdict["reasons"].items():
        known = load_inhibits()[name]
        assert reason["cause"]
        assert reason["remedy"] == known.remedy(())
        # No condition that can be read stands behind an interrupt of the PIC, or behind the loss of another map.
        if (scenario, name) not in {("pic_interrupt", "irqwin"), ("same_id_twice", "logical_id_aliased")}:
            assert reason["witness"] == "agrees", name
    assert verdict["contradictions"] == []


@pytest.mark.parametrize("scenario", CASES)
def test_the_verdict_is_active_again_once_nothing_is_left(answers: Answers, scenario: str) -> None:
    vm = subject(answers, scenario, "undone", "after a run")
    left = expected_while_undone(scenario, answers)
    assert set(vm["verdict"]["reasons"]) == left & known_reasons(answers)
    if vm["vcpus"]:
        assert vm["verdict"]["state"] == ("inhibited" if left else "active")
    assert vm["verdict"]["contradictions"] == []


@pytest.mark.parametrize("scenario", LARGE_IDS)
def test_a_vcpu_id_too_large_for_avic_is_a_reason_or_refused(answers: Answers, scenario: str) -> None:
    seen = answers["scenarios"][scenario]
    if "physical_id_too_big" not in known_reasons(answers):
        assert os.strerror(getattr(errno, seen["refused"])) == os.strerror(errno.EINVAL)
        return
    for when in _WHEN:
        vm = subject(answers, scenario, "caused", when)
        assert reasons_of(vm) == LARGE_IDS[scenario]
    assert not any(vcpu["apicv_active"] for vcpu in vm["vcpus"])


@pytest.mark.parametrize("scenario", [*CASES, *LARGE_IDS, "nested"])
def test_no_reason_is_seen_at_another_vm_of_the_process(answers: Answers, scenario: str) -> None:
    for phase, seen in answers["scenarios"][scenario].items():
        if phase == "refused":
            continue
        for when in _WHEN:
            assert len(seen[when]) == 3
            for other in _OTHERS:
                vm = seen[when][other]
                assert reasons_of(vm) == frozenset(), (phase, when, other)
                assert all(vcpu["apicv_active"] for vcpu in vm["vcpus"])


# -- AVIC off --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", [*CASES, *LARGE_IDS, "nested"])
def test_with_avic_off_no_reason_is_recorded_but_that(answers_off: Answers, scenario: str) -> None:
    """Kernels without the aliases (before 6.3) set ABSENT as well when a VM is made, and never clear it."""
    expected = {"disabled"} if "physical_id_aliased" in known_reasons(answers_off) else {"disabled", "absent"}
    for phase, seen in answers_off["scenarios"][scenario].items():
        for when in _WHEN:
            assert [reasons_of(vm) for vm in seen[when]] == [expected] * 3, (phase, when)
            assert not any(vcpu["apicv_active"] for vm in seen[when] for vcpu in vm["vcpus"])


@pytest.mark.parametrize("avic", [True, False], ids=["on", "off"])
@pytest.mark.parametrize("scenario", CASES)
def test_what_tells_of_the_cause_tells_with_avic_on_and_off(
    x86_kernel: str, inside: Callable[..., Any], scenario: str, avic: bool
) -> None:
    found = inside(x86_kernel, "inhibits", avic=avic)
    for (place, stat), values in CASES[scenario].told.items():
        for phase, value in zip(("caused", "undone"), values, strict=True):
            vm = subject(found, scenario, phase, "at once")
            assert (vm["stats"] if place is None else vm["vcpus"][place])[stat] == value, (phase, place, stat)


def test_with_avic_off_a_large_vcpu_id_can_be_had_and_is_seen(answers_off: Answers) -> None:
    vcpus = subject(answers_off, "large_vcpu_id", "caused", "at once")["vcpus"]
    assert [vcpu["id"] for vcpu in vcpus] == [0, 300]


@pytest.mark.parametrize("avic", [True, False], ids=["on", "off"])
def test_interrupts_of_the_pic_leave_windows_to_count(x86_kernel: str, inside: Callable[..., Any], avic: bool) -> None:
    found = inside(x86_kernel, "inhibits", avic=avic)
    (before,), (after,) = (
        subject(found, "pic_interrupt", phase, "after a run")["vcpus"] for phase in ("before", "undone")
    )
    assert after["irq_window_exits"] > before["irq_window_exits"] == 0
