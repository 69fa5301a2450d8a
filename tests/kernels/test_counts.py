"""Groups that count events on stock kernels: every hook is there, counts are those of VMM and trace."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import median
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
    assert len(halt["before"]) == len(halt["after"]) == halt["slept"] == 40
    assert halt["counted"]["wakeups"] == [40]
    assert sum(halt["counted"]["wakeup_to_entry_hist"][0]) == 40


TRACE_PRINTS_NS = 1000
"""A trace prints moments to the microsecond, so a time between two of them is known to as much."""


def test_each_wakeup_takes_as_long_as_traces_on_both_sides_of_the_group_say(on_x86: dict[str, Any]) -> None:
    """The group reads its clock after the first trace and before the second, at both ends of a wakeup.

    An emulated CPU may stop between any two of these for as long as the host likes, so each time has bounds that are
    its own, and no tolerance.
    """
    halt = on_x86["halt"]
    bounds = [
        (entered - woken_later - TRACE_PRINTS_NS, entered_later - woken + TRACE_PRINTS_NS)
        for (woken, entered), (woken_later, entered_later) in zip(halt["before"], halt["after"], strict=True)
    ]
    least, most = (sorted(side) for side in zip(*bounds, strict=True))
    assert sum(least) <= halt["counted"]["wakeup_to_entry_ns"][0] <= sum(most)
    for at_least, at_most, (low, high) in zip(least, most, _buckets(halt["counted"]), strict=True):
        assert at_least < high
        assert at_most >= low
    assert median(high - low for low, high in bounds) < median(most) / 2, "the bounds are too wide to show anything"


def _buckets(counted: dict[str, Any]) -> list[tuple[float, float]]:
    """The bounds of the bucket of each wakeup, the shortest first; each begins at a power of two."""
    counts = counted["wakeup_to_entry_hist"][0]
    bounds = [(2 ** (at - 1) if at else 0, math.inf if at == len(counts) - 1 else 2**at) for at in range(len(counts))]
    return [bound for bound, count in zip(bounds, counts, strict=True) for _ in range(count)]


def test_nobody_waits_for_the_mmu_lock_on_one_cpu(on_x86: dict[str, Any]) -> None:
    for workload in ("pio", "mmio", "halt"):
        assert on_x86[workload]["counted"]["mmu_lock_write_contended"] == [0]
        assert on_x86[workload]["counted"]["mmu_lock_read_contended"] == [0]
