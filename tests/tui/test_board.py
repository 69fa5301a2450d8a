"""What stays in its place, what is ended, and what is stale."""

from __future__ import annotations

from crafted import VcpuSpec, VmSpec, vm_id

from kvmscope.tui.feed import Loss
from kvmscope.tui.lines import plain_text
from kvmscope.view.events import EventKind
from kvmscope.view.values import Moment

from .conftest import HandScreen


def vm(name: str, exits: int) -> VmSpec:
    return VmSpec(name, [VcpuSpec(0, {"exits": exits})])


def order(screen: HandScreen) -> list[str]:
    names = {vm_id(name): name for name in ("a", "b", "c")}
    return [names[each] for each in screen.board.order]


def test_vms_are_sorted_at_each_view_while_none_is_selected(screen: HandScreen) -> None:
    screen.second(vm("a", 0), vm("b", 0))
    screen.second(vm("a", 100), vm("b", 10))
    assert order(screen) == ["a", "b"]
    screen.second(vm("a", 110), vm("b", 900))
    assert order(screen) == ["b", "a"]


def test_a_selected_or_marked_vm_holds_the_order_and_new_vms_come_at_its_end(screen: HandScreen) -> None:
    screen.second(vm("a", 0), vm("b", 0))
    screen.second(vm("a", 100), vm("b", 10))
    screen.draw()
    screen.keys("down")
    screen.second(vm("a", 110), vm("b", 900), vm("c", 10**6))
    assert order(screen) == ["a", "b", "c"]
    screen.keys(" ", "escape")
    assert not screen.board.holds_order
    assert order(screen)[:2] == ["b", "a"]


def test_a_key_that_sorts_moves_what_is_held(screen: HandScreen) -> None:
    screen.second(vm("b", 0), vm("a", 0))
    screen.second(vm("b", 100), vm("a", 10))
    screen.draw()
    screen.board.select(vm_id("b"))
    screen.shell.desk.pages[0].sort_by("name")  # type: ignore[attr-defined]
    assert order(screen) == ["a", "b"]


def test_a_vm_that_ended_is_shown_as_ended_with_its_last_values_and_is_gone_after_a_while(screen: HandScreen) -> None:
    screen.second(vm("a", 0), vm("b", 0))
    screen.second(vm("a", 100), vm("b", 10))
    screen.second(vm("b", 20))
    (row,) = [row for row in screen.rows() if row.split()[:1] == ["a"]]
    assert "ENDED" in row
    assert " 100 " in row
    for second in range(3, 15):
        screen.second(vm("b", 10 * second))
    assert not [row for row in screen.rows() if "ENDED" in row]


def test_a_vm_that_ended_stays_while_it_is_selected(screen: HandScreen) -> None:
    screen.second(vm("a", 0), vm("b", 0))
    screen.second(vm("a", 100), vm("b", 10))
    screen.draw()
    screen.keys("down")
    for second in range(20):
        screen.second(vm("b", 20 + second))
    assert [row for row in screen.rows() if "ENDED" in row]
    assert screen.rows()[-2] == "a has ended: its last values"


def test_a_lost_source_marks_all_values_as_stale_until_it_is_back(screen: HandScreen) -> None:
    screen.second(vm("a", 0))
    screen.second(vm("a", 100))
    screen.take(Loss(Moment(1), "the iterator is gone", "kvmscope attach"))
    lines = screen.shell.draw(screen.size)
    assert "STALE" in screen.rows()[0]
    assert screen.rows()[-2] == ("source lost: values are of 22:13:21; the iterator is gone; try: kvmscope attach")
    assert [line.is_stale for line in lines if plain_text([line]).split()[:1] == ["a"]] == [True]
    screen.second(vm("a", 150))
    assert "STALE" not in screen.rows()[0]
    assert [event.kind for event in screen.board.events][-2:] == [EventKind.SOURCE_LOST, EventKind.SOURCE_BACK]


def test_while_paused_the_screen_stays_and_history_and_events_go_on(screen: HandScreen) -> None:
    screen.second(vm("a", 0))
    screen.second(vm("a", 100))
    screen.keys("p")
    before = screen.draw()
    screen.second(vm("a", 900), vm("b", 1))
    assert screen.draw() == before
    assert "PAUSED" in before
    assert [event.kind for event in screen.board.events] == [EventKind.VM_CAME]
    screen.keys("p")
    assert "PAUSED" not in screen.draw()
    assert " 800 " in screen.draw()
    assert screen.board.history.of_vm(vm_id("a"), "exits_per_s") == [100.0, 800.0]
