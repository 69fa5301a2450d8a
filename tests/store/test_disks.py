"""Disks and clocks that misbehave, on file systems of their own: each is a gap with its reason."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kvmscope.linux import libc
from kvmscope.scene import Scene
from kvmscope.store.layout import journal_path
from kvmscope.store.recorder import Recorder
from kvmscope.store.recording import Recording
from kvmscope.store.relations import find_parts
from kvmscope.store.schedule import ClockReading, read_clocks
from kvmscope.store.writer import RecordingWriter

TICK_S = 0.005
SECOND = 10**9
_RDONLY, _REMOUNT, _BIND, _DETACH = 1, 32, 4096, 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        libc.mount("tmpfs", str(disk), "tmpfs", 0, "size=1m")
    except OSError as error:
        pytest.skip(f"no file system can be mounted: {error.strerror}")
    try:
        yield disk
    finally:
        libc.unmount(str(disk), _DETACH)


@pytest.fixture
def failing_file() -> Iterator[Callable[[Path], None]]:
    """Has reads of a file give EIO, as those of a bad disk do: the memory of this process at address 0."""
    mounted: list[Path] = []

    def fail(path: Path) -> None:
        try:
            libc.mount(f"/proc/{os.getpid()}/mem", str(path), "", _BIND, "")
        except OSError as error:
            pytest.skip(f"no file system can be mounted: {error.strerror}")
        mounted.append(path)

    yield fail
    for path in mounted:
        libc.unmount(str(path), _DETACH)


class HostOnDisk:
    """A host that gives the same scene, a second later each time."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.looks = 0
        self.fails_at = -1

    def look(self) -> Scene:
        self.looks += 1
        if self.looks == self.fails_at:
            raise MemoryError
        sample, later_ns = self._scene.sample, self.looks * SECOND
        moved = replace(sample, taken_ns=sample.taken_ns + later_ns, monotonic_ns=sample.monotonic_ns + later_ns)
        return replace(self._scene, sample=moved)

    def close(self) -> None:
        pass


def wait_for(is_so: Callable[[], bool]) -> None:
    turn, deadline = threading.Event(), 6000
    while not is_so():
        deadline -= 1
        assert deadline
        turn.wait(0.01)


def reasons(directory: Path) -> list[str]:
    return [gap.reason for scene in Recording(str(directory)).scenes() for gap in scene.sample.gaps]


def test_a_full_disk_is_a_gap_and_recording_goes_on_when_there_is_room(
    small_disk: Path, host_scenes: list[Scene]
) -> None:
    directory = small_disk / "recording"
    recorder = Recorder(HostOnDisk(host_scenes[0]), directory, interval_s=TICK_S)
    recorder.start()
    wait_for(lambda: recorder.state.scenes > 0)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(1 << 12))
    wait_for(lambda: "No space left on device" in recorder.state.why_lost)
    filler.unlink()
    kept = recorder.state.scenes
    wait_for(lambda: recorder.state.scenes > kept + 5)
    recorder.stop()
    recording = Recording(str(directory))
    times = [scene.sample.taken_ns for scene in recording.scenes()]
    assert len(times) == recorder.state.scenes
    assert times == sorted(set(times))
    lost = [reason for reason in reasons(directory) if "No space left on device" in reason]
    assert sum(int(reason.split()[0]) for reason in lost) >= 1


def test_a_journal_that_is_taken_away_is_lost_with_all_its_scenes(tmp_path: Path, host_scenes: list[Scene]) -> None:
    directory = tmp_path / "recording"
    recorder = Recorder(HostOnDisk(host_scenes[0]), directory, interval_s=TICK_S)
    recorder.start()
    wait_for(lambda: recorder.state.scenes > 3)
    next((directory / "journal").iterdir()).unlink()
    wait_for(lambda: "deleted or moved away" in recorder.state.why_lost)
    kept = recorder.state.scenes
    wait_for(lambda: recorder.state.scenes > kept + 3)
    recorder.stop()
    assert len(list(Recording(str(directory)).scenes())) == recorder.state.scenes
    lost = [reason for reason in reasons(directory) if "deleted or moved away" in reason]
    assert sum(int(reason.split()[0]) for reason in lost) >= 4


@pytest.mark.parametrize("leaves_directory", [True, False])
def test_a_recording_that_is_removed_or_moved_is_not_said_to_have_scenes(
    tmp_path: Path, host_scenes: list[Scene], leaves_directory: bool
) -> None:
    directory = tmp_path / "recording"
    recorder = Recorder(HostOnDisk(host_scenes[0]), directory, interval_s=TICK_S)
    recorder.start()
    wait_for(lambda: recorder.state.scenes > 3)
    directory.rename(tmp_path / "moved")
    if leaves_directory:
        directory.mkdir()
    wait_for(lambda: "No such file" in recorder.state.why_lost)
    recorder.stop()
    assert recorder.state.scenes == 0
    assert len(list(Recording(str(tmp_path / "moved")).scenes())) > 3


def test_a_journal_that_is_taken_away_before_the_end_is_lost(tmp_path: Path, host_scenes: list[Scene]) -> None:
    directory = tmp_path / "recording"
    recorder = Recorder(HostOnDisk(host_scenes[0]), directory, interval_s=3600.0)
    recorder.start()
    wait_for(lambda: recorder.state.scenes == 1)
    next((directory / "journal").iterdir()).unlink()
    recorder.stop()
    assert (recorder.state.scenes, recorder.state.lost) == (0, 1)
    assert "deleted or moved away" in recorder.state.why_lost


def test_a_full_disk_makes_compaction_wait_and_loses_nothing(small_disk: Path, host_scenes: list[Scene]) -> None:
    directory = small_disk / "recording"
    source = HostOnDisk(host_scenes[0])
    writer = RecordingWriter(directory, on_cut=lambda: None)
    for _ in range(20):
        writer.append(source.look())
    writer.close()
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(1 << 12))
    writer.compactor.run()
    assert writer.compactor.trouble == "No space left on device"
    assert writer.compactor.waiting == 1
    assert len(list(Recording(str(directory)).scenes())) == 20
    filler.unlink()
    writer.compactor.run()
    assert (writer.compactor.trouble, writer.compactor.waiting) == ("", 0)
    assert len(list(Recording(str(directory)).scenes())) == 20


def test_a_disk_that_turns_read_only_keeps_what_is_there_and_is_reported(
    small_disk: Path, host_scenes: list[Scene]
) -> None:
    directory = small_disk / "recording"
    source = HostOnDisk(host_scenes[0])
    writer = RecordingWriter(directory, on_cut=lambda: None, segment_s=1)
    writer.append(source.look())
    writer.close()
    libc.mount("tmpfs", str(small_disk), "tmpfs", _REMOUNT | _RDONLY, "")
    writer.compactor.run()
    assert writer.compactor.trouble == "Read-only file system"
    assert len(list(Recording(str(directory)).scenes())) == 1
    with pytest.raises(OSError, match="Read-only file system"):
        RecordingWriter(small_disk / "another")
    libc.mount("tmpfs", str(small_disk), "tmpfs", _REMOUNT, "")
    writer.compactor.run()
    assert writer.compactor.trouble == ""


def test_a_suspend_and_a_step_of_the_wall_clock_are_gaps_of_the_next_scene(
    tmp_path: Path, host_scenes: list[Scene]
) -> None:
    """The clocks of this host, with a suspend after the third reading and a step back after the tenth."""
    readings = 0

    def clocks() -> ClockReading:
        nonlocal readings
        readings += 1
        now = read_clocks()
        slept_ns = 31 * SECOND if readings > 3 else 0
        step_ns = -3600 * SECOND if readings > 10 else 0
        return ClockReading(now.monotonic_ns, now.boottime_ns + slept_ns, now.realtime_ns + slept_ns + step_ns)

    directory = tmp_path / "recording"
    recorder = Recorder(HostOnDisk(host_scenes[0]), directory, interval_s=TICK_S, for_s=40 * TICK_S, clocks=clocks)
    recorder.start()
    assert recorder.done.wait(60)
    recorder.stop()
    said = [reason for reason in reasons(directory) if "not recorded" not in reason]
    assert any("the host was suspended for 31" in reason for reason in said)
    assert any("the wall clock was set back by 36" in reason for reason in said)


def test_a_look_without_memory_is_a_gap(tmp_path: Path, host_scenes: list[Scene]) -> None:
    directory = tmp_path / "recording"
    source = HostOnDisk(host_scenes[0])
    source.fails_at = 3
    recorder = Recorder(source, directory, interval_s=TICK_S, for_s=10 * TICK_S)
    recorder.start()
    assert recorder.done.wait(60)
    recorder.stop()
    assert any("1 scene was not recorded before this one: no memory" in reason for reason in reasons(directory))


def test_a_journal_that_the_disk_does_not_give_hides_no_segment(
    tmp_path: Path, host_scenes: list[Scene], failing_file: Callable[[Path], None]
) -> None:
    writer = RecordingWriter(tmp_path / "r")
    for scene in host_scenes[:2]:
        writer.append(scene)
    writer.close()
    journal = tmp_path / "r" / journal_path(2)
    journal.touch()
    failing_file(journal)
    recording = Recording(str(tmp_path / "r"))
    assert len(recording.moments()) == 2
    found = find_parts(str(tmp_path / "r"))
    assert (len(found.segments), found.loose) == (1, ())
    for damage in (recording.damage, found.damage):
        assert list(map(str, damage)) == [f"{journal}: it cannot be read: Input/output error"]
