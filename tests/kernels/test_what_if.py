"""What-if on stock kernels: what is predicted of VMs with AVIC off is what the same VMs show with AVIC on.

The same boots as for test_inhibits.py: each scenario is played once with ``avic=0`` and once with ``avic=1``.
A prediction is of VMs that are made anew, so what a VM was forgiven in neither is left out: KVM remembers an APIC that
was moved, or (before 6.3) renumbered, after it is moved back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

_SUBJECT = 1
_SCENARIOS = (
    "no_irqchip",
    "split_irqchip",
    "pit",
    "blockirq",
    "synic_auto_eoi",
    "pic_interrupt",
    "apic_id",
    "apic_base",
    "same_id_twice",
    "same_logical_id_twice",
    "two_logical_modes",
    "nested",
)
_LARGE_IDS = ("large_vcpu_id", "ids_equal_in_eight_bits")
_REMEMBERED = frozenset({"apic_base_modified", "apic_id_modified"})
_MOMENTARY = "irqwin"
_PASSING = frozenset({"blockirq", "nested", _MOMENTARY})

Answers = dict[str, Any]


@pytest.fixture
def on(x86_kernel: str, inside: Callable[..., Any]) -> Answers:
    found: Answers = inside(x86_kernel, "inhibits")
    return found


@pytest.fixture
def off(x86_kernel: str, inside: Callable[..., Any]) -> Answers:
    found: Answers = inside(x86_kernel, "inhibits", avic=False)
    return found


def shown(vm: Answers, phase: str) -> frozenset[str]:
    """The reasons of the VM and of its vCPUs, with AVIC on."""
    verdict = vm["verdict"]
    reasons = frozenset(verdict["reasons"]).union(*(vcpu["reasons"] for vcpu in verdict["vcpus"]))
    return reasons - _REMEMBERED if phase == "undone" else reasons


def predicted(vm: Answers) -> frozenset[str]:
    return frozenset(reason for reason, holds in vm["what if"]["holds"].items() if holds)


@pytest.mark.parametrize("scenario", _SCENARIOS)
def test_the_reasons_predicted_with_avic_off_are_those_that_show_with_it_on(
    on: Answers, off: Answers, scenario: str
) -> None:
    for phase, seen in off["scenarios"][scenario].items():
        for place, vm in enumerate(seen["after a run"]):
            real = shown(on["scenarios"][scenario][phase]["after a run"][place], phase)
            assert predicted(vm) == real - {_MOMENTARY}, (phase, place)
            if _MOMENTARY in real:
                assert vm["what if"]["holds"][_MOMENTARY] is None, "it cannot be told, and must not be denied"


@pytest.mark.parametrize("scenario", _SCENARIOS)
def test_the_outcome_is_what_the_vm_comes_to(on: Answers, off: Answers, scenario: str) -> None:
    """What passes makes no VM inhibited."""
    for phase, seen in off["scenarios"][scenario].items():
        vm = seen["after a run"][_SUBJECT]
        if vm["vcpus"]:
            real = shown(on["scenarios"][scenario][phase]["after a run"][_SUBJECT], phase)
            expected = "inhibited" if real - _PASSING else "accelerated"
            assert vm["what if"]["outcome"] == expected, phase
        assert vm["what if"]["is off"]


def test_what_to_change_first_is_named(off: Answers) -> None:
    what_if = off["scenarios"]["pit"]["caused"]["after a run"][_SUBJECT]["what if"]
    (first,) = what_if["first"]
    assert first.startswith("pit_reinj: ")
    assert "KVM_REINJECT_CONTROL" in first
    assert off["scenarios"]["pit"]["undone"]["after a run"][_SUBJECT]["what if"]["first"] == []


@pytest.mark.parametrize("scenario", _LARGE_IDS)
def test_a_vcpu_id_too_large_for_avic_is_predicted(on: Answers, off: Answers, scenario: str) -> None:
    """Kernels without a reason for it (before 6.17) refuse to make such a vCPU."""
    what_if = off["scenarios"][scenario]["caused"]["after a run"][_SUBJECT]["what if"]
    if "refused" in on["scenarios"][scenario]:
        assert what_if["outcome"] == "cannot be started"
        return
    real = on["scenarios"][scenario]["caused"]["after a run"][_SUBJECT]
    assert predicted(off["scenarios"][scenario]["caused"]["after a run"][_SUBJECT]) == shown(real, "caused")
