"""A recording on the screen: where it begins, steps, jumps, plays, and what cannot be read."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from crafted import MACHINE, identities, make_sample

from kvmscope.errors import RecordingError
from kvmscope.scene import Scene
from kvmscope.store.recording import Recording
from kvmscope.store.replay import SceneMoment
from kvmscope.store.writer import RecordingWriter
from kvmscope.tui.charset import Charset
from kvmscope.tui.feed import Arrival, Failure, Loss, News
from kvmscope.tui.pages.base import time_line
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
    can_grow: bool = False
    first: int = 0

    def moments(self) -> Sequence[SceneMoment]:
        return [SceneMoment.of(scene(second), "", second) for second in range(self.first, self.seconds)]

    def scene(self, moment: SceneMoment) -> Scene:
        if moment.place in self.damaged:
            raise RecordingError("a checksum is wrong", path="here")
        return scene(moment.place)


class Watched:
    """A player whose news are collected."""

    def __init__(self, series: RecordedSeconds, at: int, *, interval_s: float = 1.0) -> None:
        self.player = Player(series, series.moments(), at, interval_s, can_grow=series.can_grow)
        self.series = series
        self._news: queue.SimpleQueue[Sequence[News]] = queue.SimpleQueue()
        self.player.start(self._news.put)

    def next(self) -> Sequence[News]:
        return self._news.get(timeout=DEADLINE_S)

    def shown(self) -> int:
        """The second that is shown next; looks at the time line between do not count."""
        while not (news := self.next()):
            pass
        last = news[-1]
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


# --- a recording that is being written -----------------------------------------------------------------------------


@pytest.fixture
def growing() -> Watched:
    return Watched(RecordedSeconds(4, can_grow=True), 3, interval_s=0.05)


def test_who_is_at_the_end_follows_the_recorder(growing: Watched) -> None:
    assert growing.shown() == 3
    growing.series.seconds = 6
    assert [growing.shown(), growing.shown()] == [4, 5]
    growing.player.stop()


def test_who_is_not_at_the_end_stays_while_the_time_line_grows(growing: Watched) -> None:
    growing.shown()
    growing.player.step(-2)
    assert growing.shown() == 1
    growing.series.seconds = 6
    while growing.player.position.count < 6:
        assert growing.next() == []
    assert growing.player.position.place == 1
    growing.player.go_to(1.0)
    assert growing.shown() == 5
    growing.series.seconds = 7
    assert growing.shown() == 6
    growing.player.stop()


def test_a_place_is_kept_when_a_ring_deletes_what_was_before_it(growing: Watched) -> None:
    growing.shown()
    growing.player.step(-1)
    assert growing.shown() == 2
    growing.series.first, growing.series.seconds = 1, 5
    while (position := growing.player.position).last.ns != growing.series.moments()[-1].taken_ns:
        growing.next()
    assert (position.place, position.count, position.now.ns) == (1, 4, growing.series.moments()[1].taken_ns)
    growing.player.step(1)
    assert growing.shown() == 3
    growing.player.stop()


def test_it_is_live_as_long_as_scenes_come_when_they_are_due(growing: Watched) -> None:
    growing.shown()
    assert not growing.player.position.is_live, "the scenes of this scenario are old"
    growing.player.stop()
    now = Watched(RecordedNow(4, can_grow=True), 3)
    now.shown()
    assert now.player.position.is_live
    assert time_line(now.player.position, 80, Charset()).spans[-1].text.endswith(" live")
    now.player.step(-1)
    now.shown()
    assert not now.player.position.is_live, "an earlier time is shown"
    now.player.stop()


class RecordedNow(RecordedSeconds):
    """The last scene was taken just now."""

    def moments(self) -> Sequence[SceneMoment]:
        moments = super().moments()
        late_ns = time.time_ns() - moments[-1].taken_ns
        return [replace(moment, taken_ns=moment.taken_ns + late_ns) for moment in moments]


def test_a_recording_is_followed_from_journal_to_journal_and_into_segments(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "r")
    try:
        for second in range(3):
            writer.append(scene(second))
        series = Recording(str(tmp_path / "r"))
        player, news = (
            Player(series, series.moments(), 2, 0.05, can_grow=series.can_grow),
            queue.SimpleQueue[list[News]](),
        )
        player.start(lambda each: news.put(list(each)))
        seen: list[int] = []
        for second in range(3, 9):
            writer.append(scene(second))
            if second == 5:
                writer.close()  # a segment
                writer = RecordingWriter(tmp_path / "r")
            while not seen or seen[-1] < second:
                seen += [
                    int(each.view.scene.sample.monotonic_ns / 1e9) - 1000
                    for each in news.get(timeout=DEADLINE_S)
                    if isinstance(each, Arrival)
                ]
        assert seen == list(range(1, 9))
        assert series.damage == []
        player.stop()
    finally:
        writer.close()
