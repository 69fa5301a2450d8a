"""Group ``apicv`` on stock kernels with AVIC forced on: each interrupt is counted once, at the right vCPU and way.

What emulation cannot show: an interrupt that AVIC was handed never reaches the guest there (no ``avic_`` exits, no
posted-interrupt log), so delivery to APICv is seen at vCPUs that do not run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

COUNTS = ("apicv_delivered", "apic_delivered_software", "irq_injected_hardware", "apic_eoi_exits", "apic_ipi_software")


@pytest.fixture
def seen(x86_kernel: str, inside: Callable[..., Any]) -> dict[str, Any]:
    """What the script in the kernel saw."""
    found: dict[str, Any] = inside(x86_kernel, "group")
    return found


def test_every_hook_is_found_on_a_stock_kernel(seen: dict[str, Any]) -> None:
    assert seen["not_counted"] == {}


def test_interrupts_to_an_active_vcpu_are_handed_to_apicv_and_nowhere_else(seen: dict[str, Any]) -> None:
    assert seen["active"]["apicv_active"] == [1, 1]
    assert seen["active"]["apicv_delivered"][1] == 31
    assert seen["active"]["apic_delivered_software"] == [0, 0]


def test_interrupts_from_another_process_count_at_the_vcpu_that_they_are_for(seen: dict[str, Any]) -> None:
    assert seen["active"]["apicv_delivered"][0] == 13, "an irqfd, signalled by a process that has no VM"


def test_interrupts_to_an_inhibited_vcpu_take_the_software_path_and_are_injected(seen: dict[str, Any]) -> None:
    guest = seen["guest"]
    assert seen["guest_did"] == 200
    assert guest["apicv_active"] == [0]
    assert guest["apicv_delivered"] == [0]
    assert guest["apic_delivered_software"] == [200]
    assert guest["irq_injected_hardware"] == [200]
    assert guest["apic_eoi_exits"] == [200]


def test_injections_of_all_kinds_add_up_to_the_kernels_own_stat(seen: dict[str, Any]) -> None:
    """Another group was attached and detached meanwhile, and took no count with it."""
    kinds = ("irq_injected_hardware", "irq_injected_software", "irq_reinjected")
    assert sum(seen["guest"][kind][0] for kind in kinds) == seen["irq_injections"]


def test_a_vcpu_that_never_ran_is_still_active_though_its_vm_is_inhibited(seen: dict[str, Any]) -> None:
    """KVM itself hands such interrupts to APICv: activity is settled when the vCPU next runs."""
    assert seen["provisional"]["apicv_inhibit_pit_reinj"] == 1
    assert seen["provisional"]["apicv_active"] == [1, 1]
    assert seen["provisional"]["apicv_delivered"] == [57, 0]


def test_only_the_vm_with_the_reason_has_its_time(seen: dict[str, Any]) -> None:
    for name in ("provisional", "guest"):
        vm = seen[name]
        assert vm["apicv_inhibit_set_pit_reinj"] == 1
        assert 0 < vm["apicv_inhibited_pit_reinj_ns"] == vm["apicv_inhibit_unchanged_pit_reinj_ns"]
        assert vm["apicv_inhibited_pit_reinj_ns"] <= vm["apicv_observed_ns"]
    assert seen["active"]["apicv_inhibited_pit_reinj_ns"] == 0
    assert seen["active"]["apicv_inhibit_set_pit_reinj"] == 0


def test_the_time_of_a_vcpu_goes_from_active_to_inhibited_by_one_transition(seen: dict[str, Any]) -> None:
    guest = seen["guest"]
    assert guest["apicv_transitions"] == [1]
    assert guest["apicv_inhibited_ns"][0] > guest["apicv_active_ns"][0] > 0


def test_a_vm_that_takes_the_place_of_another_starts_from_nothing(seen: dict[str, Any]) -> None:
    for name in COUNTS:
        assert seen["successor"][name] == [0, 0]
    assert seen["successor"]["apicv_observed_ns"] < seen["active"]["apicv_observed_ns"]
