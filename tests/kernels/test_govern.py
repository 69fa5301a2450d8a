"""The governor of halt polling on a stock kernel, whose parameter may be changed: its gain, and how it is undone."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import pytest

BEGUN_NS = 3_000_000
BOUND_S = 0.001


@pytest.fixture
def governed(rules_kernel: str, inside: Callable[..., Any]) -> dict[str, Any]:
    found: dict[str, Any] = inside(rules_kernel, "govern", avic=False, even_clock=True)
    return found


def test_polling_costs_less_than_half_and_wakeups_stay_within_their_bound(governed: dict[str, Any]) -> None:
    steps = governed["steps"]
    last = steps[-1]
    before = max(step["polled_cpus"] for step in steps[:3])
    assert before > 0.1
    assert last["polled_cpus"] <= before / 2
    assert last["limit_ns"] < BEGUN_NS
    settled = [step["wakeup_p99_s"] for step in steps if step["limit_ns"] == last["limit_ns"]]
    assert median(settled) <= BOUND_S


def test_vms_with_a_limit_of_their_own_are_counted_and_left_out(governed: dict[str, Any]) -> None:
    assert {(step["obeying_vms"], step["other_vms"]) for step in governed["steps"]} == {(2, 1)}


def test_each_step_is_to_the_next_limit_and_has_its_reason(governed: dict[str, Any]) -> None:
    moves = [step for step in governed["steps"] if step["new_limit_ns"] != step["limit_ns"]]
    assert [step["action"] for step in moves] == ["lower"] * len(moves)
    assert moves[0]["new_limit_ns"] == 1 << 20
    assert all("would free" in step["reason"] for step in moves)


def test_kill_9_leaves_the_parameter_as_it_was(governed: dict[str, Any]) -> None:
    assert governed["while_it_ran"] < BEGUN_NS
    assert governed["after_kill"] == BEGUN_NS


def test_a_changed_contract_stops_it(governed: dict[str, Any]) -> None:
    exit_code, reason = governed["refusal"]
    assert exit_code == 3
    assert "the contract changed does not hold here: kvm.halt_wait_hist is" in reason
