"""A recording on the screen: where it begins, steps, jumps, plays, and what cannot be read."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from crafted import MACHINE, identities, make_sample

from kvmscope.errors import RecordingError
from kvmscope.scene import Scene
from kvmscope.store.replay import SceneMoment
from kvmscope.tui.feed import Arrival, Failure, Loss, News
from kvmscope.tui.player import Player

from .scenario import guests

DEADLINE_S = 20.0


def scene(second: int) -> Scene:
    vms = list(guests(second))
    return Scene(make_sample(vms, at_s=second), identities(vms), MACHINE, {})


@dataclass
class RecordedSeconds:
    """A recording of some seconds, of which some scenes are damaged."""

    seconds: int
    damaged: Sequence[int] = ()
    damage: list[RecordingError] = field(default_factory=list)

    def moments(self) -> Sequence[SceneMoment]:
        return [SceneMoment.of(scene(second), "", second) for second in range(self.seconds)]

    def scene(self, moment: SceneMoment) -> Scene:
        if moment.place in self.damaged:
            raise RecordingError("a checksum is wrong", path="here")
        return scene(moment.place)


class Watched:
    """A player whose news are collected."""

    def __init__(self, series: RecordedSeconds, at: int, *, interval_s: float = 1.0) -> None:
        self.player = Player(series, series.moments(), at, interval_s)
        self._news: queue.SimpleQueue[Sequence[News]] = queue.SimpleQueue()
        self.player.start(self._news.put)

    def next(self) -> Sequence[News]:
        return self._news.get(timeout=DEADLINE_S)

    def shown(self) -> int:
        """The second that is shown next."""
        last = self.next()[-1]
        assert isinstance(last, Arrival)
        return int(last.view.scene.sample.monotonic_ns / 1e9) - 1000


@pytest.fixture
def watched() -> Watched:
    return Watched(RecordedSeconds(12), 8)


def test_it_begins_with_what_was_before_the_place(watched: Watched) -> None:
    news = watched.next()
    assert len(news) == 8
    assert [each.begins for each in news if isinstance(each, Arrival)] == [True, *[False] * 7]
    position = watched.player.position
    assert (position.place, position.count, position.is_playing) == (8, 12, False)
    watched.player.stop()


def test_steps_go_on_by_one_window_and_back_by_reading_again(watched: Watched) -> None:
    watched.next()
    watched.player.step(1)
    assert len(watched.next()) == 1
    watched.player.step(-3)
    assert watched.shown() == 6
    watched.player.step(100)
    assert watched.shown() == 11
    watched.player.go_to(0.5)
    assert watched.shown() == 5
    watched.player.stop()


def test_the_first_scene_is_shown_with_the_interval_after_it(watched: Watched) -> None:
    watched.next()
    watched.player.go_to(0.0)
    assert watched.shown() == 1
    watched.player.stop()


def test_it_plays_to_the_end_and_stops_there() -> None:
    watched = Watched(RecordedSeconds(6), 3, interval_s=0.01)
    watched.next()
    watched.player.toggle()
    assert [watched.shown(), watched.shown()] == [4, 5]
    assert watched.next() == []
    assert not watched.player.position.is_playing
    watched.player.stop()


def test_a_damaged_scene_is_a_loss_and_others_are_shown() -> None:
    watched = Watched(RecordedSeconds(8, damaged=[6]), 5)
    watched.next()
    watched.player.step(1)
    (loss,) = watched.next()
    assert isinstance(loss, Loss)
    assert "a checksum is wrong" in loss.reason
    watched.player.step(-2)
    assert watched.shown() == 4
    watched.player.stop()


def test_a_mistake_of_ours_ends_the_screen() -> None:
    class Broken(RecordedSeconds):
        def scene(self, moment: SceneMoment) -> Scene:
            raise ZeroDivisionError

    watched = Watched(Broken(3), 2)
    (failure,) = watched.next()
    assert isinstance(failure, Failure)
    watched.player.stop()
