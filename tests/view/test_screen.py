"""The screen of a host keeps VMs in place, within its height, and ends with the VM that was asked for."""

from __future__ import annotations

from typing import Any

from kvmscope.collect import Host
from kvmscope.sample import Sample
from kvmscope.view.screen import StatusScreen
from kvmscope.view.subjects import follow
from kvmscope.view.text import plain
from kvmscope.view.watch import HostView

BUSY, CALM = "busy", "calm"


def views_of(crafted: Any, samples: list[Sample]) -> list[HostView]:
    from crafted import ListSource

    with Host(ListSource(samples), {}, machine=crafted.machine) as host:
        views = host.watch(0)
        return [next(views) for _ in samples[1:]]


def samples_of(crafted: Any, *exits: tuple[int, int]) -> list[Sample]:
    """Of two VMs whose counts are given for each second."""
    return [
        crafted.make_sample(
            [crafted.vm(BUSY, [crafted.vcpu(0, {"exits": a})]), crafted.vm(CALM, [crafted.vcpu(0, {"exits": b})])],
            at_s=second,
        )
        for second, (a, b) in enumerate(exits)
    ]


def names_on(screen: StatusScreen, view: HostView, *, height: int | None = None) -> list[str]:
    text = list(plain(screen.lines(screen.overview(view), width=120, height=height)))
    return [line.split()[0] for line in text if line.startswith((BUSY, CALM)) and ":" not in line]


def test_vms_stay_where_they_are_when_another_becomes_the_busiest(crafted: Any) -> None:
    before, after = views_of(crafted, samples_of(crafted, (0, 0), (900, 100), (1000, 2000)))
    assert names_on(StatusScreen(), after) == [CALM, BUSY]
    screen = StatusScreen()
    assert names_on(screen, before) == names_on(screen, after) == [BUSY, CALM]


def test_a_terminal_of_few_lines_shows_the_busiest(crafted: Any) -> None:
    (view,) = views_of(crafted, samples_of(crafted, (0, 0), (100, 900)))
    assert names_on(StatusScreen(), view, height=9) == [CALM]
    assert names_on(StatusScreen(limit=1), view) == [CALM]


def test_what_was_last_seen_stays_on_a_terminal_when_the_vm_has_ended(crafted: Any) -> None:
    samples = samples_of(crafted, (0, 0), (70, 1))
    ended = crafted.make_sample([crafted.vm(CALM, [crafted.vcpu(0)])], at_s=2)
    first, *others = views_of(crafted, [*samples, ended])
    screen = StatusScreen(vm=follow(first.scene, BUSY))
    *_, before, after = (
        list(plain(screen.lines(each, width=100, height=30))) for each in screen.overviews([first, *others])
    )
    assert after == [*before, f"{BUSY} has ended"]


def test_of_many_vms_only_those_of_some_processes_are_shown(crafted: Any) -> None:
    vms = [crafted.vm(name, [crafted.vcpu(0)], pid=pid) for name, pid in ((BUSY, 1), (CALM, 2))]
    (view,) = views_of(crafted, [crafted.make_sample(vms, at_s=second) for second in (0, 1)])
    assert names_on(StatusScreen(only=frozenset({2})), view) == [CALM]


def test_overviews_end_with_the_vm_that_was_asked_for(crafted: Any) -> None:
    samples = samples_of(crafted, (0, 0), (1, 1), (2, 2), (3, 3))
    ended = [crafted.make_sample([crafted.vm(CALM, [crafted.vcpu(0)])], at_s=second) for second in (4, 5)]
    first, *others = views_of(crafted, samples + ended)
    screen = StatusScreen(vm=follow(first.scene, BUSY))
    found = list(screen.overviews([first, *others]))
    assert [len(overview.vms) for overview in found] == [1, 1, 1, 0]
