"""The consumer beside a recorder: it never waits, counts groups in a thread of its own, and ends whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kvmscope.capture.consumer import EpisodeCapture
from kvmscope.capture.limits import EpisodeLimits
from kvmscope.errors import PermissionNeeded, SourceError
from kvmscope.scene import Scene
from kvmscope.store.episodes import list_episodes
from kvmscope.store.recording import Recording

Storms = Callable[..., list[Scene]]
LIMITS = EpisodeLimits(before_s=5, after_s=3, groups=("mmu_lock",))
PATIENCE_S = 60


class CountedHost:
    """What counts mmu_lock: its looks are the recorder's scenes with what was counted, half a second later."""

    def __init__(self, counted: Callable[..., Scene]) -> None:
        self._counted = counted
        self.latest: Scene | None = None
        self.opened: list[tuple[str, ...]] = []
        self.closed = 0
        self.looked = threading.Event()
        self._looks = 0

    def open(self, groups: Sequence[str]) -> CountedHost:
        self.opened.append(tuple(groups))
        return self

    def look(self) -> Scene:
        assert self.latest is not None
        self._looks += 1
        sample = self.latest.sample
        later = replace(
            sample,
            taken_ns=sample.taken_ns + 5 * 10**8 + self._looks,
            monotonic_ns=sample.monotonic_ns + 5 * 10**8 + self._looks,
        )
        self.looked.set()
        return self._counted(replace(self.latest, sample=later), 1000 * self._looks, 0.3 * self._looks)

    def close(self) -> None:
        self.closed += 1


def offered(capture: EpisodeCapture, scene: Scene) -> None:
    """Offer a scene when there is room, as a recorder's interval gives time to judge the one before."""
    turn = threading.Event()
    while len(capture._work) > 1:
        turn.wait(0.001)
    capture.offer(scene)


def test_groups_are_counted_as_long_as_an_episode_goes_on(
    recording: Path, host_with_storms: Storms, counted: Callable[..., Scene]
) -> None:
    host = CountedHost(counted)
    capture = EpisodeCapture(recording, LIMITS, open_host=host.open, interval_s=0.001)
    capture.start()
    for second, scene in enumerate(host_with_storms(60, web=range(20, 30))):
        host.latest = scene
        offered(capture, scene)
        if second == 22:
            assert host.looked.wait(PATIENCE_S)
    capture.stop()
    assert (host.opened, host.closed) == ([("mmu_lock",)], 1)
    [episode] = list_episodes(str(recording)).episodes
    assert episode.note.groups[0].on_ns is not None
    recorded = Recording(episode.place)
    times = [scene.sample.monotonic_ns for scene in recorded.scenes()]
    assert times == sorted(set(times))
    assert recorded.damage == []
    assert capture.begun == 1


def test_a_host_that_cannot_count_is_asked_once_an_episode(recording: Path, host_with_storms: Storms) -> None:
    asked: list[Sequence[str]] = []

    def refuse(groups: Sequence[str]) -> CountedHost:
        asked.append(groups)
        raise PermissionNeeded("BPF needs root", remedy="run it as root")

    capture = EpisodeCapture(recording, LIMITS, open_host=refuse, interval_s=0.001)
    capture.start()
    for scene in host_with_storms(100, web=range(20, 30), db=range(60, 65)):
        offered(capture, scene)
    capture.stop()
    assert len(asked) == 2
    for episode in list_episodes(str(recording)).episodes:
        assert episode.note.groups[0].why_not.startswith("BPF needs root")


def test_an_offer_never_waits_and_what_finds_no_room_is_counted(
    recording: Path, host_with_storms: Storms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening a host that hangs is met by the counting thread alone; a disk that hangs by the keeping one."""
    stuck, goes = threading.Event(), threading.Event()
    import os

    real = os.fsync

    def stand_still(fd: int) -> None:
        if threading.current_thread().name == "kvmscope-episodes":
            stuck.set()
            assert goes.wait(PATIENCE_S)
        real(fd)

    monkeypatch.setattr(os, "fsync", stand_still)
    capture = EpisodeCapture(recording, EpisodeLimits(), open_host=_never, interval_s=0.001)
    capture.start()
    scenes = host_with_storms(100, web=range(2, 100))
    for scene in scenes[:5]:
        offered(capture, scene)
    assert stuck.wait(PATIENCE_S)
    for scene in scenes[5:]:
        capture.offer(scene)
    assert capture.dropped > 0
    goes.set()
    capture.stop()
    assert len(list_episodes(str(recording)).episodes) == 1


def _never(groups: Sequence[str]) -> CountedHost:
    raise SourceError(f"not asked for {groups}")
