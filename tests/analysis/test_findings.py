"""When rules fire, stay, clear and end: rules made for the purpose here, those of the catalogue in test_rules.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kvmscope.analysis.evaluate import Evaluator
from kvmscope.analysis.findings import EndCause, Judgement, Watcher
from kvmscope.analysis.observations import observe
from kvmscope.analysis.window import Window
from kvmscope.catalog.findings import FACTS, Rule, parse_findings
from kvmscope.formula.check import Context
from kvmscope.host.apicv import HostApicv

RULE = """
[[rule]]
slug = "busy"
title = "is busy"
severity = "warning"
scope = "vm"
activity = "sum(rate(exits)) >= 100"
when = "sum(rate(pf_taken)) >= 1000"
clears = "sum(rate(pf_taken)) < 500"
cost = "1ms * sum(rate(pf_taken))"
worst = "rate(pf_taken)"
evidence = []
explanation = "e"
threshold = "t"
remedy = [{do = "d", price = "p"}]
"""
BUSY = {"exits": 1000.0, "pf_taken": 1000.0}
HALF = {"exits": 1000.0, "pf_taken": 300.0}
QUIET = {"exits": 1000.0, "pf_taken": 100.0}


def rules(text: str = RULE) -> tuple[Rule, ...]:
    return parse_findings(text, "rules.toml", Context(facts=FACTS))


class Doctor:
    """Judges what a crafted host does, a second a window."""

    def __init__(self, host: Any, text: str = RULE) -> None:
        self.host = host
        self.watcher = Watcher(rules(text), {})
        self.last = host.sample()

    def see(self, rates: dict[str, float] | None = None, **of: Any) -> Judgement:
        self.host.run(1.0, rates or {}, **of)
        return self.look()

    def look(self) -> Judgement:
        previous, self.last = self.last, self.host.sample()
        window = Window(previous, self.last)
        facts = observe(window, HostApicv.unknown("not looked at"))
        return self.watcher.update(Evaluator(window, {}, facts=facts))


@pytest.fixture
def doctor(make_host: Callable[..., Any]) -> Doctor:
    host = make_host()
    host.add("vm", vcpus=2)
    return Doctor(host)


def slugs(judgement: Judgement) -> list[str]:
    return [finding.rule.slug for finding in judgement.findings]


def endings(judgement: Judgement) -> list[EndCause]:
    return [ended.why for ended in judgement.ended]


def test_one_window_is_not_enough(doctor: Doctor) -> None:
    assert slugs(doctor.see(BUSY)) == []
    assert slugs(doctor.see(BUSY)) == ["busy"]


def test_windows_must_follow_one_another(doctor: Doctor) -> None:
    assert [slugs(doctor.see(rates)) for rates in (BUSY, QUIET, BUSY, QUIET)] == [[], [], [], []]


def test_a_finding_stays_between_the_two_levels_and_clears_below_both(doctor: Doctor) -> None:
    doctor.see(BUSY)
    doctor.see(BUSY)
    assert slugs(doctor.see(HALF)) == ["busy"]
    judgement = doctor.see(QUIET)
    assert slugs(judgement) == []
    assert endings(judgement) == [EndCause.CLEARED]


def test_between_the_two_levels_nothing_begins(doctor: Doctor) -> None:
    assert [slugs(doctor.see(HALF)) for _ in range(4)] == [[], [], [], []]


def test_below_the_minimum_of_activity_a_rule_is_silent_and_a_finding_clears(doctor: Doctor) -> None:
    inactive = {**BUSY, "exits": 10.0}
    assert [slugs(doctor.see(inactive)) for _ in range(3)] == [[], [], []]
    doctor.see(BUSY)
    assert slugs(doctor.see(BUSY)) == ["busy"]
    assert endings(doctor.see(inactive)) == [EndCause.CLEARED]


def test_a_finding_tells_since_when_at_what_cost_and_which_vcpus(doctor: Doctor) -> None:
    for _ in range(3):
        doctor.see({"exits": 1000.0})
    for _ in range(3):
        doctor.host.run(0.5, {"exits": 1000.0, "pf_taken": 100.0})
        judgement = doctor.see({"exits": 1000.0, "pf_taken": 6000.0}, vcpu=1)
    (finding,) = judgement.findings
    assert finding.since_s == pytest.approx(4.5)
    assert finding.cost_cpus == pytest.approx(1e-3 * (6000 + 100) / 1.5, rel=0.01)
    assert [worst.vcpu for worst in finding.worst] == [1, 0]
    assert finding.worst_count == 2


def test_each_vm_is_judged_by_itself(doctor: Doctor) -> None:
    doctor.host.add("other", vcpus=1)
    doctor.see()
    for _ in range(2):
        doctor.host.run(0.5, {"exits": 1000.0}, vm="other")
        judgement = doctor.see(BUSY)
    assert [(finding.rule.slug, finding.vm_row) for finding in judgement.findings] == [("busy", 0)]


def test_unknown_never_fires_and_says_which_stat_it_wants(make_host: Callable[..., Any]) -> None:
    host = make_host(lacks=frozenset({"pf_taken"}))
    host.add()
    doctor = Doctor(host)
    for _ in range(3):
        judgement = doctor.see(BUSY)
    assert slugs(judgement) == []
    (missing,) = judgement.not_judged
    assert (missing.rule, missing.vms) == ("busy", None)
    assert missing.reason == "this source or kernel has no pf_taken"


def test_what_is_known_to_be_too_little_needs_no_more(make_host: Callable[..., Any]) -> None:
    host = make_host(lacks=frozenset({"pf_taken"}))
    host.add()
    doctor = Doctor(host)
    assert [doctor.see({"exits": 10.0}).not_judged for _ in range(2)] == [(), ()]


def test_a_finding_that_can_no_longer_be_told_ends_as_unknown_and_not_as_cleared(doctor: Doctor) -> None:
    doctor.see(BUSY)
    doctor.see(BUSY)
    doctor.host.vms[0].is_read = False
    judgement = doctor.see(BUSY)
    assert (slugs(judgement), endings(judgement)) == ([], [EndCause.UNKNOWN])
    assert [missing.rule for missing in judgement.not_judged] == ["busy"]
    doctor.host.vms[0].is_read = True
    doctor.see(BUSY)
    assert slugs(doctor.see(BUSY)) == []  # the first window with both samples
    assert slugs(doctor.see(BUSY)) == ["busy"]


def test_a_vm_that_came_starts_anew_and_one_that_went_takes_its_finding_along(doctor: Doctor) -> None:
    doctor.see(BUSY)
    doctor.see(BUSY)
    gone = doctor.host.vms.pop()
    doctor.host.add("new", vcpus=1)
    judgement = doctor.see(BUSY, vm="new")
    assert (slugs(judgement), endings(judgement)) == ([], [EndCause.GONE])
    assert judgement.not_judged[0].reason == "came in this window"
    doctor.host.vms.append(gone)
    assert slugs(doctor.see(BUSY, vm="new")) == []
    assert slugs(doctor.see({"exits": 1e3, "pf_taken": 2e3}, vm="new")) == ["busy"]


def test_a_reset_starts_anew_even_if_the_rest_goes_on(doctor: Doctor) -> None:
    doctor.see(BUSY)
    doctor.see(BUSY)
    doctor.host.vms[0].vm_stats["mmu_flooded"] = 5
    doctor.see(BUSY)
    doctor.host.vms[0].vm_stats["mmu_flooded"] = 0
    judgement = doctor.see(BUSY)
    assert (slugs(judgement), endings(judgement)) == ([], [EndCause.RESET])
    assert slugs(doctor.see(BUSY)) == ["busy"]


def test_after_a_hole_between_windows_everything_starts_anew(doctor: Doctor) -> None:
    doctor.see(BUSY)
    doctor.see(BUSY)
    doctor.host.run(1.0, BUSY)
    doctor.last = doctor.host.sample()
    assert slugs(doctor.see(BUSY)) == []
    assert slugs(doctor.see(BUSY)) == ["busy"]


def test_the_order_of_vms_may_change_from_sample_to_sample(doctor: Doctor) -> None:
    doctor.host.add("other", vcpus=3)
    doctor.see(BUSY)
    doctor.see(BUSY)
    doctor.see(BUSY)
    doctor.host.vms.reverse()
    judgement = doctor.see(BUSY)
    assert [finding.vm_row for finding in judgement.findings] == [1]
    assert judgement.findings[0].since_s == pytest.approx(4.0)


def test_a_silent_rule_is_not_judged_and_says_why(doctor: Doctor) -> None:
    doctor.watcher = Watcher(rules(), {}, silent={"busy": "means nothing here"})
    doctor.see(BUSY)
    judgement = doctor.see(BUSY)
    assert slugs(judgement) == []
    assert [(missing.rule, missing.reason) for missing in judgement.not_judged] == [("busy", "means nothing here")]


def test_a_rule_of_vcpus_finds_each_by_itself(make_host: Callable[..., Any]) -> None:
    text = RULE.replace('scope = "vm"', 'scope = "vcpu"').replace("sum(", "(")
    host = make_host()
    host.add(vcpus=3)
    doctor = Doctor(host, text)
    for _ in range(2):
        doctor.host.run(0.5, {"exits": 1000.0})
        judgement = doctor.see({"exits": 1000.0, "pf_taken": 4000.0}, vcpu=2)
    assert [(finding.vm_row, finding.vcpu) for finding in judgement.findings] == [(0, 2)]
    assert judgement.findings[0].worst == ()


def test_problems_come_first_then_what_costs_most(make_host: Callable[..., Any]) -> None:
    def variant(slug: str, severity: str, cost: str) -> str:
        text = RULE.replace('"busy"', f'"{slug}"').replace('"warning"', f'"{severity}"')
        return text.replace('cost = "1ms * sum(rate(pf_taken))"', cost)

    text = "".join(
        (
            variant("dear", "info", 'cost = "2"'),
            variant("free", "warning", ""),
            variant("broken", "problem", ""),
            variant("cheap", "warning", 'cost = "1"'),
        )
    )
    host = make_host()
    host.add()
    doctor = Doctor(host, text)
    doctor.see(BUSY)
    assert slugs(doctor.see(BUSY)) == ["broken", "dear", "cheap", "free"]


def test_the_state_machine_agrees_with_one_written_plainly() -> None:
    """The oracle: a VM by itself, window by window, in the words of the module's rules."""
    from kvmscope.analysis.findings import _Truth
    from kvmscope.analysis.rule_states import RuleStates

    random = np.random.default_rng(7)
    values = np.array([0.0, 1.0, np.nan])
    windows = [1, 2, 4]
    for _ in range(20):
        state, plain = RuleStates.fresh(3, 40), [[(0, False)] * 40 for _ in windows]
        for _ in range(30):
            active, when, clears = (random.choice(values, (3, 40), p=[0.3, 0.6, 0.1]) for _ in range(3))
            truth = _Truth(active, when, clears)
            state = state.moved(truth.holds, truth.stays, windows=np.array([windows]).T, began_ns=0)
            plain = [
                [_plainly(asked, *each) for each in zip(row, *of_rule, strict=True)]
                for asked, row, *of_rule in zip(windows, plain, active, when, clears, strict=True)
            ]
            assert state.fires.tolist() == [[fires for _, fires in row] for row in plain]


def _plainly(asked: int, before: tuple[int, bool], active: float, when: float, clears: float) -> tuple[int, bool]:
    row, fires = before
    if active == 1 and when == 1:
        return row + 1, fires or row + 1 >= asked
    if fires and active == 1 and clears == 0:
        return row + 1, True
    return 0, False
