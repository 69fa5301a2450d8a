"""Groups that count events on stock kernels: every hook is there, counts are those of VMM and trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvmscope.lab.kernel_catalog import find_kernel


@pytest.fixture
def seen(kernel: str, inside: Callable[..., Any]) -> dict[str, Any]:
    """What the script in the kernel saw."""
    found: dict[str, Any] = inside(kernel, "counts", avic=not find_kernel(kernel).has_apicv)
    if any(gap.startswith("group userspace has") for gap in found["gaps"]):
        assert kernel not in ("6.1", "6.12", "6.1-arm64")
        assert "userspace_exits" not in found["pio"]["counted"], "what is not known is not zero"
        pytest.skip("this kernel has no memory for what threads do on an emulated CPU: it says so, and counts nothing")
    return found


@pytest.fixture
def on_x86(kernel: str, seen: dict[str, Any]) -> dict[str, Any]:
    if not find_kernel(kernel).has_apicv:
        pytest.skip("the lab's guests are for x86")
    return seen


def test_every_hook_is_found_on_a_stock_kernel(seen: dict[str, Any]) -> None:
    assert seen["gaps"] == []


def test_exits_to_the_vmm_are_as_many_as_the_vmm_saw(on_x86: dict[str, Any]) -> None:
    for workload in ("pio", "mmio"):
        counted, exits = on_x86[workload]["counted"], on_x86[workload]["exits"]
        for place, of_vcpu in enumerate(exits):
            assert {name: counted[f"userspace_exit_{name}"][place] for name in of_vcpu} == of_vcpu
            assert counted["userspace_exits"][place] == sum(of_vcpu.values())
            assert sum(counted["userspace_hist"][place]) == sum(of_vcpu.values()) - 1, "the last is still going on"


def test_ports_and_msrs_are_counted_by_what_they_belong_to(on_x86: dict[str, Any]) -> None:
    pio, ipi = on_x86["pio"], on_x86["ipi"]["counted"]
    assert pio["counted"]["port_other"] == [of_vcpu["io"] for of_vcpu in pio["exits"]]
    assert sum(ipi["msr_x2apic_icr"]) >= 50
    assert "msr_hv_clock" not in ipi


def test_an_internal_error_is_counted_by_its_suberror(on_x86: dict[str, Any]) -> None:
    counted = on_x86["undecodable"]["counted"]
    assert counted["internal_error_emulation"] == counted["userspace_exit_internal_error"] == [50]


def test_vcpus_that_take_turns_in_one_thread_are_told_apart(kernel: str, seen: dict[str, Any]) -> None:
    if find_kernel(kernel).has_apicv:
        pytest.skip("tried on arm64")
    counted = seen["mmio"]["counted"]
    assert counted["userspace_exit_mmio"] == counted["userspace_exits"]
    # Whose vCPU it is becomes known when its guest is entered, which is before the first exit.
    assert counted["userspace_exits"] == [40, 20]


def test_each_wakeup_of_the_trace_is_counted(on_x86: dict[str, Any]) -> None:
    halt = on_x86["halt"]
    assert len(halt["traced"]) == halt["slept"] == 40
    assert halt["counted"]["wakeups"] == [40]
    assert sum(halt["counted"]["wakeup_to_entry_hist"][0]) == 40


def test_wakeups_take_as_long_as_the_trace_says(on_x86: dict[str, Any]) -> None:
    """Emulated CPUs stop between the trace's clock and the group's, for 16 % of the time at most so far."""
    halt = on_x86["halt"]
    assert halt["counted"]["wakeup_to_entry_ns"][0] == pytest.approx(sum(halt["traced"]), rel=0.3)


def test_nobody_waits_for_the_mmu_lock_on_one_cpu(on_x86: dict[str, Any]) -> None:
    for workload in ("pio", "mmio", "halt"):
        assert on_x86[workload]["counted"]["mmu_lock_write_contended"] == [0]
        assert on_x86[workload]["counted"]["mmu_lock_read_contended"] == [0]
