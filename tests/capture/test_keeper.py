"""Which scenes are kept around findings, what the note of an episode says, and what limits hold."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kvmscope.capture.keeper import EpisodeKeeper
from kvmscope.capture.limits import EpisodeLimits
from kvmscope.errors import Unavailable
from kvmscope.scene import Scene
from kvmscope.store.episode_note import EpisodeEnd
from kvmscope.store.episodes import Episode, list_episodes
from kvmscope.store.recording import Recording

Storms = Callable[..., list[Scene]]
LIMITS = EpisodeLimits(before_s=5, after_s=3, longest_s=40)


def keep(directory: Path, scenes: Sequence[Scene], limits: EpisodeLimits = LIMITS) -> list[Episode]:
    keeper = EpisodeKeeper(directory, limits)
    for scene in scenes:
        keeper.add(scene)
    keeper.close()
    assert keeper.trouble == ""
    return episodes_of(directory)


def episodes_of(directory: Path) -> list[Episode]:
    found = list_episodes(str(directory))
    assert found.damage == ()
    return list(found.episodes)


def seconds_of(episode: Episode) -> list[int]:
    """Of its scenes, by the clock of the crafted host."""
    recording = Recording(episode.place)
    found = [scene.sample.monotonic_ns // 10**9 - 1000 for scene in recording.scenes()]
    assert recording.damage == []
    return found


def rules(episode: Episode) -> list[tuple[str, str]]:
    return [(finding.rule, finding.name) for finding in episode.note.findings]


def test_an_episode_has_every_scene_from_before_its_finding_to_after_it(
    recording: Path, host_with_storms: Storms
) -> None:
    """The storm moves counts from second 20 to 29. A rule needs two windows, so it is found at 21, and gone at 30."""
    [episode] = keep(recording, host_with_storms(60, web=range(20, 30), db=()))
    assert seconds_of(episode) == list(range(16, 33))
    [finding] = episode.note.findings
    assert (finding.rule, finding.name, finding.vcpu) == ("mmio-storm", "web", None)
    assert (finding.began_ns, finding.ended_ns) == tuple(episode.note.since_ns + s * 10**9 for s in (3, 14))
    assert finding.evidence["mmio_exits_per_s"] == 9000.0
    assert episode.note.why_ended is EpisodeEnd.CLEARED
    assert episode.note.focus_ns == episode.note.since_ns + 13 * 10**9


def test_findings_that_overlap_share_an_episode(recording: Path, host_with_storms: Storms) -> None:
    [episode] = keep(recording, host_with_storms(60, web=range(20, 25), db=range(23, 30), idle=()))
    assert rules(episode) == [("mmio-storm", "web"), ("mmio-storm", "db")]
    assert seconds_of(episode) == list(range(16, 33))


def test_findings_apart_have_an_episode_each(recording: Path, host_with_storms: Storms) -> None:
    found = keep(recording, host_with_storms(80, web=range(20, 25), db=range(50, 55)))
    assert [rules(episode) for episode in found] == [[("mmio-storm", "web")], [("mmio-storm", "db")]]
    assert [episode.number for episode in found] == [1, 2]


def test_a_finding_that_flaps_makes_no_episode_until_a_pause_is_over(recording: Path, host_with_storms: Storms) -> None:
    """It comes for 8 s in every 20 s, 35 times; a look in 4 s is enough to see it."""
    scenes = host_with_storms(700, web={s for s in range(700) if s % 20 < 8})[::4]
    first, second = keep(recording, scenes, EpisodeLimits(before_s=2, after_s=3))
    assert 600 <= (second.note.began_ns - first.note.began_ns) / 1e9 < 640


def test_a_finding_that_stays_ends_its_episode_at_the_longest_time(recording: Path, host_with_storms: Storms) -> None:
    [episode] = keep(recording, host_with_storms(120, web=range(20, 120)))
    assert episode.note.why_ended is EpisodeEnd.LONGEST
    assert seconds_of(episode)[-1] == 21 + 40
    assert episode.note.findings[0].ended_ns is None


def test_a_recorder_that_is_stopped_ends_the_episode(recording: Path, host_with_storms: Storms) -> None:
    [episode] = keep(recording, host_with_storms(24, web=range(20, 120)))
    assert (episode.note.why_ended, seconds_of(episode)) == (EpisodeEnd.STOPPED, list(range(16, 24)))


def test_what_is_held_from_before_is_bounded_by_memory(recording: Path, host_with_storms: Storms) -> None:
    from kvmscope.capture.ring import scene_bytes

    scenes = host_with_storms(40, web=range(20, 30))
    room = EpisodeLimits(before_s=15, after_s=3, memory_bytes=3 * scene_bytes(scenes[0]))
    [episode] = keep(recording, scenes, room)
    assert seconds_of(episode)[0] == 21 - 2


def test_the_oldest_episodes_go_when_there_are_too_many(recording: Path, host_with_storms: Storms) -> None:
    storms = {f"vm{n}": range(10 + 20 * n, 15 + 20 * n) for n in range(5)}
    found = keep(recording, host_with_storms(120, **storms), EpisodeLimits(before_s=2, after_s=3, most=2))
    assert [episode.number for episode in found] == [4, 5]


def test_a_finding_below_the_level_begins_nothing(recording: Path, host_with_storms: Storms) -> None:
    from kvmscope.catalog.findings import Severity

    scenes = host_with_storms(40, web=range(20, 30))
    assert keep(recording, scenes, EpisodeLimits(level=Severity.PROBLEM)) == []


def test_another_boot_begins_another_watch(recording: Path, host_with_storms: Storms) -> None:
    """A recorder never sees two boots, but a source that is opened again may be another."""
    from dataclasses import replace

    scenes = host_with_storms(60, web=range(20, 30))
    other = [replace(scene, sample=replace(scene.sample, source="pinned")) for scene in scenes[25:]]
    [episode] = keep(recording, [*scenes[:25], *other])
    assert episode.note.why_ended is EpisodeEnd.CLEARED


# --- groups -----------------------------------------------------------------------------------------------------------

WITH_LOCK = EpisodeLimits(before_s=5, after_s=3, longest_s=40, groups=("mmu_lock",), budget_cpus=0.05)


def keep_counting(
    directory: Path, scenes: Sequence[Scene], counted: Callable[..., Scene], *, waits_per_s: int, limits: EpisodeLimits
) -> Episode:
    """As when what counts is looked at whenever the recorder looks, shortly after it."""
    keeper = EpisodeKeeper(directory, limits)
    for second, scene in enumerate(scenes):
        groups = keeper.groups
        keeper.add(scene)
        if groups and groups == keeper.groups:
            keeper.add_counted(groups, counted(scene, waits_per_s * second, 0.3 * second))
    keeper.close()
    [episode] = episodes_of(directory)
    return episode


def test_groups_count_from_the_window_after_the_finding_on(
    recording: Path, host_with_storms: Storms, counted: Callable[..., Scene]
) -> None:
    scenes = host_with_storms(60, web=range(20, 30))
    episode = keep_counting(recording, scenes, counted, waits_per_s=1000, limits=WITH_LOCK)
    [group] = episode.note.groups
    assert (group.name, group.why_not) == ("mmu_lock", "")
    assert group.on_ns == episode.note.began_ns + 10**9
    assert group.cpus == pytest.approx(1000 * 700e-9)
    assert set(rules(episode)) == {("mmio-storm", "web"), ("mmu-lock-contended", "web")}


def test_a_group_that_costs_more_than_the_budget_is_stopped_with_the_reason(
    recording: Path, host_with_storms: Storms, counted: Callable[..., Scene]
) -> None:
    scenes = host_with_storms(60, web=range(20, 30))
    episode = keep_counting(recording, scenes, counted, waits_per_s=1_000_000, limits=WITH_LOCK)
    [group] = episode.note.groups
    assert group.why_not == "it cost 0.7 CPU; the budget is 0.05 CPU"
    assert group.off_ns == (group.on_ns or 0) + 10**9
    assert seconds_of(episode) == list(range(16, 33))


def test_a_group_that_is_expected_to_cost_too_much_is_never_switched_on(
    recording: Path, host_with_storms: Storms
) -> None:
    """20,000 exits a second at 700 ns each."""
    limits = EpisodeLimits(groups=("exits", "mmu_lock"), budget_cpus=0.01)
    keeper = EpisodeKeeper(recording, limits)
    wanted = set()
    for scene in host_with_storms(30, web=range(20, 30)):
        keeper.add(scene)
        wanted.add(keeper.groups)
    keeper.close()
    assert wanted == {(), ("mmu_lock",)}
    exits, lock = episodes_of(recording)[0].note.groups
    assert exits.why_not == "expected to cost 0.014 CPU; the budget is 0.01 CPU"
    assert (exits.on_ns, lock.why_not) == (None, "")


def test_a_group_that_cannot_be_counted_leaves_the_episode_as_it_is(recording: Path, host_with_storms: Storms) -> None:
    keeper = EpisodeKeeper(recording, WITH_LOCK)
    for scene in host_with_storms(60, web=range(20, 30)):
        keeper.add(scene)
        if keeper.groups:
            keeper.fail_counting(keeper.groups, Unavailable("no BPF here"))
    keeper.close()
    [episode] = episodes_of(recording)
    assert episode.note.groups[0].why_not == "no BPF here"
    assert seconds_of(episode) == list(range(16, 33))


# --- disks and kills --------------------------------------------------------------------------------------------------


def test_a_disk_without_room_ends_the_episode_and_not_the_keeper(recording: Path, host_with_storms: Storms) -> None:
    """A limit of file size is what this process meets as a full disk: write(2) fails."""
    scenes = host_with_storms(80, web=range(20, 30), db=range(50, 55))
    keeper = EpisodeKeeper(recording, LIMITS)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for second, scene in enumerate(scenes):
            if second == 24:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
            keeper.add(scene)
            if second == 24:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    keeper.close()
    assert keeper.trouble == "File too large"
    cut, whole = episodes_of(recording)
    assert cut.note.ended_ns is None
    assert seconds_of(cut) == list(range(16, 24))
    assert whole.note.why_ended is EpisodeEnd.CLEARED


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from conftest import *
from kvmscope.capture.keeper import EpisodeKeeper
from kvmscope.capture.limits import EpisodeLimits
keeper = EpisodeKeeper(Path(sys.argv[1]), EpisodeLimits(before_s=5, after_s=3))
for scene in host_with_storms.__wrapped__()(26, web=range(20, 30)):
    keeper.add(scene)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_an_episode_whose_recorder_was_killed_is_readable_and_has_no_end(recording: Path) -> None:
    here = [str(Path(__file__).parent), *sys.path]
    done = subprocess.run([sys.executable, "-c", KILLED, str(recording), *here], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    [episode] = episodes_of(recording)
    assert (episode.note.ended_ns, episode.note.why_ended) == (None, None)
    assert rules(episode) == [("mmio-storm", "web")]
    assert seconds_of(episode) == list(range(16, 26))
