"""Facts that no stat tells: each from the sample, the host or the configuration that it comes from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kvmscope.analysis.observations import Facts, observe, reset_vms
from kvmscope.analysis.window import Window
from kvmscope.catalog.findings import FACTS
from kvmscope.host.apicv import HostApicv, HostFlag
from kvmscope.schema import Scope

UNKNOWN = HostApicv.unknown("not looked at")


def host_apicv(supported: bool | None, switched_on: bool | None) -> HostApicv:
    told = HostFlag(None, "-")
    return HostApicv(
        True, None, "kvm_amd", HostFlag(supported, "-"), HostFlag(switched_on, "-"), told, told, told, told
    )


class Story:
    """A crafted host, and the facts of a second of it."""

    def __init__(self, host: Any) -> None:
        self.host = host
        self.vm = host.add(vcpus=3)

    def facts(self, host: HostApicv = UNKNOWN, between: Callable[[], None] = lambda: None, **rest: Any) -> Facts:
        self.window = self.look(between)
        return observe(self.window, host, **rest)

    def look(self, between: Callable[[], None]) -> Window:
        before = self.host.sample()
        between()
        self.host.run(1.0, {"exits": 100, "irq_injections": 50})
        return Window(before, self.host.sample())


@pytest.fixture
def story(make_host: Callable[..., Any]) -> Story:
    return Story(make_host())


def same(column: Any, *values: float) -> bool:
    return np.array_equal(column, np.array(values), equal_nan=True)


def test_every_fact_of_the_catalogue_is_there_for_every_subject(story: Story) -> None:
    found = story.facts()
    assert set(found) == set(FACTS)
    assert {len(found[scope, name]) for scope, name in found if scope is Scope.VCPU} == {3}
    assert {len(found[scope, name]) for scope, name in found if scope is Scope.VM} == {1}


def test_a_host_without_vms_has_facts_of_none(make_host: Callable[..., Any]) -> None:
    host = make_host()
    before = host.sample()
    host.now_s = 1.0
    assert all(len(column) == 0 for column in observe(Window(before, host.sample()), UNKNOWN).values())


def test_a_stat_that_several_vcpus_lost_counts_once(story: Story) -> None:
    def clear() -> None:
        for words in story.vm.vcpu_stats:
            words["exits"] = 0

    assert same(story.facts(between=clear)[Scope.VM, "stats_reset"], 1)
    assert reset_vms(story.window).tolist() == [True]
    assert same(story.facts()[Scope.VM, "stats_reset"], 0)


@pytest.mark.parametrize(
    ("reasons", "inhibited"),
    [
        (None, np.nan),
        (frozenset(), 0.0),
        (frozenset({"pit_reinj"}), 1.0),
        (frozenset({"hyperv"}), 1.0),
        (frozenset({"irqwin"}), 0.0),
        (frozenset({"disabled", "pit_reinj"}), 0.0),
    ],
)
def test_a_vm_is_inhibited_by_its_set_up_or_its_guest(
    story: Story, reasons: frozenset[str] | None, inhibited: float
) -> None:
    story.vm.apicv = reasons
    assert same(story.facts()[Scope.VM, "apicv_inhibited"], inhibited)


@pytest.mark.parametrize(
    ("supported", "switched_on", "is_off"),
    [
        (True, False, 1.0),
        (True, True, 0.0),
        (False, False, 0.0),
        (False, None, 0.0),
        (None, False, np.nan),
        (True, None, np.nan),
    ],
)
def test_a_host_has_it_off_if_it_could_have_it_on(
    story: Story, supported: bool | None, switched_on: bool | None, is_off: float
) -> None:
    assert same(story.facts(host_apicv(supported, switched_on))[Scope.VM, "apicv_off_on_host"], is_off)


def test_injections_count_where_it_was_active_at_both_ends(story: Story) -> None:
    story.vm.apicv = frozenset()
    name = (Scope.VCPU, "injected_while_active")
    assert same(story.facts()[name], 0, 0, 0)
    assert same(story.facts(between=lambda: setattr(story.vm, "active", True))[name], 0, 0, 0)
    assert same(story.facts()[name], 50, 50, 50)
    story.vm.apicv = None
    assert same(story.facts()[name], np.nan, np.nan, np.nan)


def test_what_command_lines_do_not_tell_is_not_known(story: Story) -> None:
    name = (Scope.VM, "hlt_exits_disabled")
    assert same(story.facts()[name], np.nan)
    assert same(story.facts(hlt_exits_disabled=[True])[name], 1)
    assert same(story.facts(hlt_exits_disabled=[None])[name], np.nan)


def test_vcpus_that_never_ran_are_told_of_vms_old_enough(story: Story) -> None:
    name = (Scope.VCPU, "never_ran")
    for age_s, answers in ((30.0, (0, 0, 0)), (90.0, (0, 1, 0)), (None, (np.nan, np.nan, np.nan))):
        story.vm.age_s = age_s
        story.vm.vcpu_stats[1]["exits"] = 0
        before = story.host.sample()
        story.host.run(1.0, {"pf_taken": 5})
        assert same(observe(Window(before, story.host.sample()), UNKNOWN)[name], *answers)


def test_an_age_that_nobody_knows_matters_only_where_a_vcpu_has_not_run(story: Story) -> None:
    story.vm.age_s = None
    assert same(story.facts()[Scope.VCPU, "never_ran"], 0, 0, 0)
