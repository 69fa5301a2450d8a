"""Tiers of a ring: what grows old is thinned, and what a reader is told stays true at every resolution."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from any_scene import assert_same

from kvmscope.sample import Block, Gap
from kvmscope.scene import Scene
from kvmscope.schema import Kind, Scope
from kvmscope.store import layout
from kvmscope.store.losses import LossLog
from kvmscope.store.recording import Recording
from kvmscope.store.ring import RingLimits, RingTier
from kvmscope.store.schedule import ClockReading, clock_events
from kvmscope.store.storage import Storage
from kvmscope.store.writer import RecordingWriter

SECOND = 10**9
TIERS = (RingTier(0, 60), RingTier(10, 300), RingTier(60, 3600))


def at(scene: Scene, second: int, *, added: int = 0, gaps: tuple[Gap, ...] = ()) -> Scene:
    """The scene at a second, its counts higher by ``added``."""
    sample = scene.sample
    blocks = tuple(Block(block.schema, _raised(block, added), block.rows) for block in sample.blocks)
    moved = replace(
        sample,
        taken_ns=sample.taken_ns + second * SECOND,
        monotonic_ns=sample.monotonic_ns + second * SECOND,
        blocks=blocks,
        gaps=(*sample.gaps, *gaps),
    )
    return replace(scene, sample=moved)


def _raised(block: Block, added: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
    values = block.values.copy()
    for stat in block.schema.descriptors:
        if stat.kind is Kind.CUMULATIVE:
            values[:, stat.offset // 8] += np.uint64(added)
    return values


def written(directory: Path, found: Iterator[Scene], limits: RingLimits) -> list[Scene]:
    """Record scenes to a ring; gives them."""
    scenes = list(found)
    writer = RecordingWriter(directory, limits=limits, segment_s=20)
    for scene in scenes:
        writer.append(scene)
    writer.close()
    return scenes


def seconds(directory: Path) -> list[int]:
    """When the scenes of a recording were taken, in seconds since its first one was recorded."""
    return [scene.sample.monotonic_ns // SECOND - 1000 for scene in Recording(str(directory)).scenes()]


@pytest.fixture
def scene(host_scenes: list[Scene]) -> Scene:
    first = host_scenes[0]
    return replace(first, sample=replace(first.sample, monotonic_ns=1000 * SECOND))


def test_older_scenes_are_thinned_and_the_oldest_deleted(tmp_path: Path, scene: Scene) -> None:
    directory = tmp_path / "ring"
    scenes = written(directory, (at(scene, n, added=n) for n in range(1200)), RingLimits(keep_s=900, tiers=TIERS))
    found = list(Recording(str(directory)).scenes())
    times = seconds(directory)
    assert times == sorted(set(times))
    assert 299 - 60 <= times[0] <= 299 + 60, "older than keep_s: deleted"
    steps = np.diff(times)
    young, middle = np.array(times[1:]) > 1200 - 60, (np.array(times[1:]) < 1200 - 120) & (np.array(times[:-1]) > 910)
    assert set(steps[young]) == {1}
    assert set(steps[middle]) == {10}
    assert steps.max() == 60
    by_time = {each.sample.taken_ns: each for each in scenes}
    for each in found:
        assert_same(each, by_time[each.sample.taken_ns])


@pytest.mark.parametrize("step_s", [-7200, 3600])
def test_a_step_of_the_wall_clock_makes_no_scene_older(tmp_path: Path, scene: Scene, step_s: int) -> None:
    def stepped(at_s: int) -> Scene:
        found = at(scene, at_s, added=at_s)
        taken_ns = found.sample.taken_ns + (step_s * SECOND if at_s >= 110 else 0)
        return replace(found, sample=replace(found.sample, taken_ns=taken_ns))

    limits = RingLimits(keep_s=100, tiers=(RingTier(0, 40), RingTier(10, 3600)))
    written(tmp_path / "steady", (at(scene, n, added=n) for n in range(150)), limits)
    written(tmp_path / "stepped", map(stepped, range(150)), limits)
    assert seconds(tmp_path / "stepped") == seconds(tmp_path / "steady")


def test_tiers_without_a_limit_of_time_end_with_the_last_tier(tmp_path: Path, scene: Scene) -> None:
    directory = tmp_path / "ring"
    limits = RingLimits(tiers=(RingTier(0, 60), RingTier(10, 300)))
    written(directory, (at(scene, n) for n in range(600)), limits)
    assert 600 - 300 - 40 <= seconds(directory)[0] <= 600 - 300 + 20


def test_losses_and_clock_events_of_dropped_scenes_are_said_by_the_next_that_is_kept(
    tmp_path: Path, scene: Scene
) -> None:
    clocks = (ClockReading(0, 0, 0), ClockReading(SECOND, 32 * SECOND, 32 * SECOND))
    [suspended] = clock_events(*clocks)

    def scenes() -> Iterator[Scene]:
        for n in range(600):
            losses = LossLog()
            if n % 7 == 0:
                losses.lose("the disk was too slow", 2)
            if n == 123:
                losses.events.append(suspended)
            yield losses.told_by(at(scene, n))

    directory = tmp_path / "ring"
    written(directory, scenes(), RingLimits(tiers=(RingTier(0, 60), RingTier(10, 3600))))
    assert len(seconds(directory)) < 200
    said = [gap.reason for each in Recording(str(directory)).scenes() for gap in each.sample.gaps]
    assert said.count(suspended) == 1
    lost = sum(int(reason.split()[0]) for reason in said if "not recorded" in reason)
    assert lost == 2 * len(range(0, 600, 7))


def test_a_reset_between_two_kept_scenes_begins_an_epoch_and_is_seen(tmp_path: Path, scene: Scene) -> None:
    """The counts fall at second 123, and are higher than ever before second 130."""
    directory = tmp_path / "ring"
    added = [100 + n if n < 123 else (0 if n == 123 else 10_000 + n) for n in range(600)]
    written(
        directory,
        (at(scene, n, added=added[n]) for n in range(600)),
        RingLimits(tiers=(RingTier(0, 60), RingTier(60, 700))),
    )
    times = seconds(directory)
    assert 123 in times
    assert sum(60 <= n < 500 for n in times) <= 10
    epochs: dict[int, set[int]] = {}
    for path in sorted(directory.glob("vcpus/**/*.parquet")):
        rows = pq.read_table(path, partitioning=None).to_pylist()
        for row in rows:
            if row["kvm.exits"] is not None:
                epochs.setdefault(row["boottime_ns"] // SECOND - 1000, set()).add(row["epoch"])
    assert len(set().union(*(found for n, found in epochs.items() if n < 123))) == 1
    assert not set().union(*(found for n, found in epochs.items() if n < 123)) & epochs[123]


def test_what_could_not_be_read_for_a_while_is_not_thinned_away(tmp_path: Path, scene: Scene) -> None:
    directory = tmp_path / "ring"
    vm = scene.sample.vms.vm_id(0)
    gap = Gap("its VMM does not answer", vm=vm)
    scenes = (at(scene, n, gaps=(gap,) if 143 <= n < 147 else ()) for n in range(600))
    written(directory, scenes, RingLimits(tiers=(RingTier(0, 60), RingTier(60, 700))))
    with_gap = {
        each.sample.monotonic_ns // SECOND - 1000
        for each in Recording(str(directory)).scenes()
        if gap in each.sample.gaps
    }
    assert with_gap == {143}
    assert 147 in seconds(directory), "and when it ended"


class StoppedError(Exception):
    """The recorder was killed here."""


def interrupted(monkeypatch: pytest.MonkeyPatch, at_call: int) -> Callable[[], int]:
    """Stops before the disk is changed for the so-manieth time; gives how often it was."""
    calls = Counter[str]()

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object) -> object:
            calls["all"] += 1
            if calls["all"] == at_call:
                raise StoppedError
            return real(*args)

        return call

    monkeypatch.setattr(Storage, "write", counted(Storage.write))
    monkeypatch.setattr(Storage, "delete", counted(Storage.delete))
    return lambda: calls["all"]


def test_thinning_that_is_interrupted_anywhere_reads_every_scene_once(
    tmp_path: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time before another write or deletion: what was there before or after it is read, and nothing twice."""
    for stop in range(1, 400):
        directory = tmp_path / f"ring-{stop}"
        writer = RecordingWriter(directory, segment_s=20)
        for n in range(100):
            writer.append(at(scene, n))
        writer.close()
        with monkeypatch.context() as patch:
            calls = interrupted(patch, stop)
            with contextlib.suppress(StoppedError):
                RecordingWriter(directory, limits=RingLimits(tiers=(RingTier(0, 20), RingTier(10, 300)))).close()
            is_over = calls() < stop
        times = seconds(directory)
        assert times == sorted(set(times))
        assert set(times) >= {*range(0, 60, 10), *range(80, 100)}
        RecordingWriter(directory).close()
        assert seconds(directory) == times
        assert len(layout.current_segments(files(directory))) * 4 == sum(
            p.endswith(".parquet") for p in files(directory)
        )
        if is_over:
            return
    pytest.fail("it never came to its end")


def files(directory: Path) -> list[str]:
    return [str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()]


def test_a_reader_goes_on_where_the_ring_has_thinned(tmp_path: Path, scene: Scene) -> None:
    directory = tmp_path / "ring"
    writer = RecordingWriter(directory, segment_s=20)
    for n in range(100):
        writer.append(at(scene, n))
    writer.close()
    recording = Recording(str(directory))
    moments = recording.moments()
    RecordingWriter(directory, limits=RingLimits(tiers=(RingTier(0, 20), RingTier(10, 300)))).close()
    kept = set(seconds(directory))
    for n, moment in enumerate(moments):
        if n in kept:
            assert recording.scene(moment).sample.taken_ns == moment.taken_ns
        else:
            with pytest.raises(Exception, match="thinned these scenes"):
                recording.scene(moment)


def test_what_is_damaged_is_left_out_of_thinning_and_deleted_when_its_time_is_over(
    tmp_path: Path, scene: Scene
) -> None:
    directory = tmp_path / "ring"
    writer = RecordingWriter(directory, segment_s=20)
    for n in range(200):
        writer.append(at(scene, n))
    writer.close()
    segments = sorted((directory / "vcpus").rglob("*.parquet"))
    segments[2].write_bytes(segments[2].read_bytes()[:-100])
    (directory / layout.journal_path(700)).write_bytes(b"not a journal " * 200)
    writer = RecordingWriter(directory, limits=RingLimits(tiers=(RingTier(0, 20), RingTier(10, 3000))))
    assert writer.compactor.trouble == ""
    assert segments[2].exists()
    assert set(seconds(directory)) & set(range(40, 60)) == set()
    writer.close()
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    writer = RecordingWriter(directory, limits=RingLimits(size_bytes=max(1, size // 20)))
    writer.close()
    assert not segments[2].exists()
    assert len(list((directory / "journal").iterdir())) <= 1


def test_a_journal_that_is_none_is_deleted_by_age_and_by_size(tmp_path: Path, scene: Scene) -> None:
    for limits in (RingLimits(keep_s=50), RingLimits(size_bytes=1)):
        directory = tmp_path / f"ring-{limits.size_bytes}"
        (directory / "journal").mkdir(parents=True)
        (directory / layout.ABOUT).write_text(layout.about_text())
        broken = directory / layout.journal_path(1)
        broken.write_bytes(b"not a journal " * 200)
        os.utime(broken, ns=(scene.sample.taken_ns, scene.sample.taken_ns))
        writer = RecordingWriter(directory, limits=limits)
        for n in range(100):
            writer.append(at(scene, n))
        writer.close()
        assert not broken.exists()
        assert seconds(directory)[-1] == 99


def test_blocks_keep_their_schemas_where_segments_of_several_are_merged(
    tmp_path: Path, host_scenes: list[Scene]
) -> None:
    directory = tmp_path / "ring"
    first = replace(host_scenes[0], sample=replace(host_scenes[0].sample, monotonic_ns=1000 * SECOND))
    only_vms = replace(first.sample, blocks=tuple(first.sample.blocks_of(Scope.VM)))
    other = replace(first, sample=only_vms)
    scenes = written(
        directory,
        (at(first if n < 200 else other, n) for n in range(400)),
        RingLimits(tiers=(RingTier(0, 30), RingTier(10, 700))),
    )
    by_time = {each.sample.taken_ns: each for each in scenes}
    found = list(Recording(str(directory)).scenes())
    assert len(found) < 100
    for each in found:
        assert_same(each, by_time[each.sample.taken_ns])
