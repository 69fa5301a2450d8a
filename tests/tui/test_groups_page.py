"""Opt-in groups are counted while their page is open, and no longer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from kvmscope.tui.feed import GroupControls, OfferedGroups, Refusal
from kvmscope.tui.pages.groups import GroupsPage
from kvmscope.view.groups import GroupListView, GroupState, GroupView, StatOwner, group_list_view

from .conftest import HandScreen
from .scenario import guests


@dataclass
class CountedGroups(GroupControls):
    """Notes what it is asked."""

    asked: int = 0
    counted: list[list[str]] = field(default_factory=list)

    def ask(self) -> None:
        self.asked += 1

    def count(self, groups: Sequence[str]) -> None:
        self.counted.append(list(groups))


def group(name: str, state: GroupState, note: str = "") -> GroupView:
    return GroupView(
        name=name,
        owner=StatOwner.KVMSCOPE,
        state=state,
        note=note,
        vm_stats=0,
        vcpu_stats=42,
        bytes_per_vm=0,
        bytes_per_vcpu=336,
        ns_per_event=700,
        total_bytes=86_016,
    )


@pytest.fixture
def offered(screen: HandScreen) -> tuple[HandScreen, CountedGroups]:
    controls = CountedGroups()
    screen.desk.groups = controls
    for second in range(3):
        screen.second(*guests(second))
    screen.draw()
    screen.keys("g")
    assert type(screen.desk.page) is GroupsPage
    assert controls.asked == 1
    assert screen.board.shown is not None
    screen.take(OfferedGroups(list_of(screen)))
    return screen, controls


def list_of(screen: HandScreen) -> GroupListView:
    assert screen.board.shown is not None
    groups = [
        group("exits", GroupState.OFF),
        group("wakeups", GroupState.PINNED),
        group("mmu_lock", GroupState.NOT_HERE, "this kernel has no such tracepoint"),
    ]
    return group_list_view(screen.board.shown.scene, groups)


def test_groups_are_shown_with_their_cost(offered: tuple[HandScreen, CountedGroups]) -> None:
    screen, _ = offered
    row = next(row for row in screen.rows() if "exits" in row)
    assert row.split()[:8] == ["[", "]", "exits", "off", "700", "0", "336", "84"]


def test_a_group_counts_while_the_page_is_open_and_no_longer(offered: tuple[HandScreen, CountedGroups]) -> None:
    screen, controls = offered
    screen.keys("down", " ", "down", " ")
    assert controls.counted == [["exits"], ["exits", "wakeups"]]
    assert screen.draw().count("[x]") == 2
    screen.keys(" ")
    assert controls.counted[-1] == ["exits"]
    screen.keys("escape")
    assert controls.counted[-1] == []


def test_a_group_that_is_not_here_says_why(offered: tuple[HandScreen, CountedGroups]) -> None:
    screen, controls = offered
    screen.keys("end", "enter")
    assert controls.counted == []
    assert "this kernel has no such tracepoint" in screen.rows()[-2]


def test_a_refusal_is_shown_with_its_reason_and_nothing_counts(offered: tuple[HandScreen, CountedGroups]) -> None:
    screen, _ = offered
    screen.keys("down", " ")
    screen.take(Refusal("loading needs root", "sudo kvmscope top"))
    text = screen.draw()
    assert "cannot be counted: loading needs root; try: sudo kvmscope top" in text
    assert "[x]" not in text


def test_a_recording_has_no_groups_to_switch_on(screen: HandScreen) -> None:
    for second in range(3):
        screen.second(*guests(second))
    screen.keys("g")
    assert "groups count on this host" in screen.draw()
