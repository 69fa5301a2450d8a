"""Group dirty on stock kernels: it counts, to the page, what the VMM fetches from bitmaps and rings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

LOGGED = ("dirty", "ring")


@pytest.fixture
def guests(x86_kernel: str, inside: Callable[..., Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = inside(x86_kernel, "dirty", avic=False)["guests"]
    if any("room for" in gap for guest in found for gap in guest["gaps"]):
        assert x86_kernel not in ("6.1", "6.12")
        pytest.skip("this kernel has no memory for what threads do on an emulated CPU: it says so, and counts nothing")
    return found


def test_pages_that_become_dirty_are_those_that_the_vmm_fetches(guests: list[dict[str, Any]]) -> None:
    for guest in (each for each in guests if each["workload"] in LOGGED):
        assert guest["vmm"] > guest["did"], "its mailbox and stack too"
        assert guest["marked"]["dirty_pages"] == guest["vmm"]
        assert guest["marked"]["dirty_bytes"] == 4096 * guest["vmm"]
        assert guest["marked"]["dirty_ring_pages"] == (guest["vmm"] if guest["workload"] == "ring" else 0)


def test_where_no_function_is_hooked_fetched_pages_count(guests: list[dict[str, Any]]) -> None:
    for guest in (each for each in guests if each["workload"] in LOGGED):
        in_rings = guest["workload"] == "ring"
        assert guest["fetched"]["dirty_fetched_pages"] == (0 if in_rings else guest["vmm"])
        assert guest["fetched"]["dirty_ring_pages"] == (guest["vmm"] if in_rings else 0)


def test_a_vm_without_a_log_is_unknown(guests: list[dict[str, Any]]) -> None:
    (without,) = (each for each in guests if each["workload"] not in LOGGED)
    assert without["marked"] is without["fetched"] is None
    assert without["gaps"] == ["KVM does not log the memory of its VM, so the pages written to are unknown"]
