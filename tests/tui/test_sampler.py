"""Reading beside the screen: the first window, a source that goes and comes back, groups, and an end at any time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from crafted import MACHINE, identities, make_sample

from kvmscope.collect import RecordedHost, SceneHost
from kvmscope.errors import PermissionNeeded, Unavailable
from kvmscope.scene import Scene
from kvmscope.store.replay import SceneMoment
from kvmscope.tui.feed import Arrival, Failure, Loss, News, OfferedGroups, Refusal
from kvmscope.tui.sampler import Sampler
from kvmscope.view.events import EventKind
from kvmscope.view.groups import group_list_view

from .scenario import guests

DEADLINE_S = 20.0


@dataclass
class Seconds:
    """Scenes of some seconds, as a series."""

    first: int
    count: int
    damage: list[object] = field(default_factory=list)

    def moments(self) -> Sequence[SceneMoment]:
        return [
            SceneMoment.of(self._scene(second), "", second) for second in range(self.first, self.first + self.count)
        ]

    def scene(self, moment: SceneMoment) -> Scene:
        return self._scene(moment.place)

    @staticmethod
    def _scene(second: int) -> Scene:
        vms = list(guests(second))
        return Scene(make_sample(vms, at_s=second), identities(vms), MACHINE, {})


@dataclass
class Openings:
    """Opens one host after another: each has some seconds, or cannot be had."""

    hosts: list[Seconds | Exception]
    groups: list[Sequence[str]] = field(default_factory=list)

    def __call__(self, groups: Sequence[str]) -> SceneHost:
        self.groups.append(groups)
        if not self.hosts:
            threading.Event().wait(DEADLINE_S)
        host = self.hosts.pop(0)
        if isinstance(host, Exception):
            raise host
        return RecordedHost(host, host.moments())  # type: ignore[arg-type]


class Reader:
    """A sampler whose news are collected."""

    def __init__(self, *hosts: Seconds | Exception, interval_s: float = 0.01) -> None:
        self.openings = Openings(list(hosts))
        self.sampler = Sampler(self.openings, interval_s, lambda scene: group_list_view(scene, ()))
        self.news: queue.SimpleQueue[Sequence[News]] = queue.SimpleQueue()

    def start(self) -> Reader:
        self.sampler.begin()
        self.sampler.wait_until_open()
        self.sampler.start(self.news.put)
        return self

    def next(self) -> News:
        (news,) = self.news.get(timeout=DEADLINE_S)
        return news


def test_what_was_read_before_there_was_a_screen_is_handed_over() -> None:
    reader = Reader(Seconds(0, 4))
    reader.sampler.begin()
    reader.sampler.wait_until_open()
    reader.sampler.start(reader.news.put)
    assert all(isinstance(reader.next(), Arrival) for _ in range(3))
    reader.sampler.stop()


def test_a_host_that_cannot_be_opened_at_first_is_an_error_of_the_command() -> None:
    reader = Reader(PermissionNeeded("not for you"))
    reader.sampler.begin()
    with pytest.raises(PermissionNeeded):
        reader.sampler.wait_until_open()
    reader.sampler.stop()


def test_a_source_that_goes_and_comes_back_says_what_was_missed() -> None:
    reader = Reader(Seconds(0, 3), Unavailable("the pin is gone", remedy="kvmscope attach"), Seconds(7, 3)).start()
    found = [reader.next() for _ in range(5)]
    arrivals = [each for each in found if isinstance(each, Arrival)]
    losses = [each for each in found if isinstance(each, Loss)]
    assert "no more scenes" in losses[0].reason
    assert (losses[1].reason, losses[1].remedy) == ("the pin is gone", "kvmscope attach")
    missed = [(event.kind, event.name) for event in arrivals[-1].events if event.text == "while the source was away"]
    assert missed == [(EventKind.VM_CAME, "late"), (EventKind.VM_ENDED, "batch-7")]
    reader.sampler.stop()


def test_groups_are_counted_by_opening_the_host_again_and_listed_when_asked() -> None:
    reader = Reader(Seconds(0, 2), Seconds(2, 2), interval_s=600).start()
    reader.sampler.ask()
    while not isinstance(news := reader.next(), OfferedGroups):
        assert isinstance(news, Arrival)
    reader.sampler.count(["exits"])
    assert isinstance(reader.next(), Arrival)
    assert reader.openings.groups == [(), ("exits",)]
    reader.sampler.stop()


def test_groups_that_cannot_be_counted_are_refused_and_reading_goes_on() -> None:
    reader = Reader(Seconds(0, 2), PermissionNeeded("needs root"), Seconds(2, 2), interval_s=600).start()
    assert isinstance(reader.next(), Arrival)
    reader.sampler.count(["exits"])
    refusal = reader.next()
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "needs root"
    assert isinstance(reader.next(), Arrival)
    assert reader.openings.groups == [(), ("exits",), ()]
    reader.sampler.stop()


def test_a_mistake_of_ours_ends_the_screen_and_is_not_a_lost_source() -> None:
    reader = Reader(ZeroDivisionError())
    reader.sampler.begin()
    reader.sampler.wait_until_open()
    reader.sampler.start(reader.news.put)
    assert isinstance(reader.next(), Failure)


@pytest.mark.parametrize("wait", [lambda _: None, Reader.next], ids=["at-once", "after-a-view"])
def test_it_ends_soon_whatever_it_waits_for(wait: Callable[[Reader], object]) -> None:
    reader = Reader(Seconds(0, 9), interval_s=600).start()
    wait(reader)
    reader.sampler.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "sampler" and thread.is_alive()]
