"""Group ``exits`` on stock kernels: what it counts is what the kernel's trace of the same run has, event for event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def seen(x86_kernel: str, inside: Callable[..., Any]) -> dict[str, Any]:
    """What the script in the kernel saw."""
    found: dict[str, Any] = inside(x86_kernel, "exits", avic=False)
    if "gaps" in found:
        assert x86_kernel not in ("6.1", "6.12"), found["gaps"]
        assert found["said"] == {}, "what is not known is not zero"
        pytest.skip("this kernel has no memory for what threads do on an emulated CPU: it says so, and counts nothing")
    return found


@pytest.fixture
def compared(seen: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = seen["compared"]
    assert found["still"], "an exit after the group was read for the last time would be in the trace alone"
    return found


def test_every_exit_of_the_trace_is_counted_by_its_reason_and_no_other(compared: dict[str, Any]) -> None:
    traced = {
        thread: {reason: n for reason, (n, _, _) in found.items()} for thread, found in compared["traced"].items()
    }
    counted = {
        thread: {reason: n for reason, (n, _, _) in found.items()} for thread, found in compared["counted"].items()
    }
    del counted["-1"]  # the vCPU that never ran
    assert counted == traced
    assert len(traced) == 3
    reasons = {reason for found in traced.values() for reason in found}
    assert {"io", "npf", "hlt", "msr"} <= reasons, "guests that do little prove little"


def test_each_exit_that_ended_is_in_the_histogram_once(compared: dict[str, Any]) -> None:
    for thread, found in compared["traced"].items():
        for reason, (_, _, histogram) in found.items():
            assert sum(compared["counted"][thread][reason][2]) == sum(histogram)


def test_times_agree_with_those_of_the_trace(compared: dict[str, Any]) -> None:
    """Within 5 %. The two have clocks of their own, and an emulator that is stopped between moves a few exits by some
    milliseconds: so sums are compared, and one vCPU's are given 20 ms for that."""

    def times(side: str) -> dict[str, int]:
        return {thread: sum(ns for _, ns, _ in found.values()) for thread, found in compared[side].items() if found}

    counted, traced = times("counted"), times("traced")
    assert sum(counted.values()) == pytest.approx(sum(traced.values()), rel=0.05)
    for thread, ns in traced.items():
        assert counted[thread] == pytest.approx(ns, rel=0.05, abs=2e7)


def test_a_vcpu_that_never_ran_reads_zero_where_exits_are_known_to_be_told(compared: dict[str, Any]) -> None:
    assert compared["counted"]["-1"] == {}
    assert len(compared["counted"]) == compared["vcpus"] == 4
    assert compared["gaps"] == []
    assert compared["before"] == {}


def test_a_vcpu_keeps_its_counts_when_another_thread_runs_it(seen: dict[str, Any]) -> None:
    assert seen["wandered"]["two threads"] == [50, 49], "the last exit has not ended"


def test_readers_count_from_when_they_attached_and_do_not_take_from_each_other(seen: dict[str, Any]) -> None:
    first, late = seen["wandered"]["two readers"]
    assert first == [54, 53]
    assert late == [4, 3]
    assert seen["wandered"]["after the other reader closed"] == first


def test_a_vm_that_comes_where_another_was_starts_from_nothing(seen: dict[str, Any]) -> None:
    assert seen["wandered"]["successors"] == [[7, 6], [1, 0], [0, 0]]


def test_a_vcpu_for_which_there_is_no_room_has_a_gap_and_no_number(seen: dict[str, Any]) -> None:
    refused = seen["squeezed"]["refused"]
    assert refused["io"] == {"0": 5, "1": 6}
    assert refused["gaps"] == ["group exits has room for 2 vCPUs: 1 of 3 have no place in it"]


def test_the_slot_that_is_silent_longest_is_taken_over_and_its_vcpu_is_not_said_to_be_at_zero(
    seen: dict[str, Any],
) -> None:
    taken = seen["squeezed"]["taken over"]
    assert taken["io"] == {"1": 7, "2": 9}
    assert len(taken["gaps"]) == 1


def test_a_vm_that_was_born_after_the_last_loss_is_known_to_be_at_zero(seen: dict[str, Any]) -> None:
    assert seen["squeezed"]["born later"]["io"] == {"1": 7, "2": 9, "3": 0}


def test_a_group_that_is_pinned_later_counts_for_users(seen: dict[str, Any]) -> None:
    pinned = seen["pinned"]
    assert pinned["kept"]
    assert pinned["member"] == [12]
    assert pinned["other"]["error"] == "PermissionNeeded"


def test_attaching_again_keeps_the_group_and_its_counts(seen: dict[str, Any]) -> None:
    assert seen["pinned"]["again"] == [True, ["exits"]]
    assert seen["pinned"]["still"] == [12]


def test_nothing_is_left_of_what_is_closed_or_detached(seen: dict[str, Any]) -> None:
    assert seen["pinned"]["unpinned"] == []
    assert seen["programs left"] == 0
