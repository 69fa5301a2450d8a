"""A recorder: whatever source, disk and signals do, what is recorded is read back, and what is lost is told."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kvmscope.errors import Unavailable, UsageError
from kvmscope.host.text import without_surrogates
from kvmscope.scene import Scene
from kvmscope.store.layout import segment_of
from kvmscope.store.recorder import QUEUED_AT_MOST, Recorder, SceneSource
from kvmscope.store.recording import Recording
from kvmscope.store.ring import RingLimits
from kvmscope.store.writer import RecordingWriter

TICK_S = 0.002


class SceneList:
    """Gives a scene again and again, each a second after the one before; may fail or hang at some."""

    def __init__(self, scene: Scene, *, fails_at: tuple[int, ...] = ()) -> None:
        self._scene = scene
        self._fails_at = fails_at
        self.looks = 0
        self.is_closed = False

    def look(self) -> Scene:
        self.looks += 1
        if self.looks in self._fails_at:
            raise Unavailable("the iterator was detached")
        return at(self._scene, self.looks)

    def close(self) -> None:
        self.is_closed = True


def at(scene: Scene, second: int) -> Scene:
    sample = scene.sample
    moved = replace(
        sample, taken_ns=sample.taken_ns + second * 10**9, monotonic_ns=sample.monotonic_ns + second * 10**9
    )
    return replace(scene, sample=moved)


def record(source: SceneSource, directory: Path, *, ticks: int, reopen: bool = False) -> Recorder:
    recorder = Recorder(
        source,
        directory,
        interval_s=TICK_S,
        for_s=TICK_S * (ticks - 1),
        reopen=(lambda: source) if reopen else None,
    )
    recorder.start()
    assert recorder.done.wait(60)
    recorder.stop()
    return recorder


def reasons(recording: Recording) -> list[str]:
    return [gap.reason for scene in recording.scenes() for gap in scene.sample.gaps]


def lost_by(found: list[str], why: str) -> int:
    return sum(int(reason.split()[0]) for reason in found if why in reason)


def test_all_that_was_seen_is_read_back_and_the_rest_is_told(tmp_path: Path, host_scenes: list[Scene]) -> None:
    source = SceneList(host_scenes[0])
    recorder = record(source, tmp_path / "recording", ticks=20)
    recording = Recording(str(tmp_path / "recording"))
    found = list(recording.scenes())
    assert source.is_closed
    assert recorder.state.scenes == len(found) == source.looks
    assert recording.damage == []
    assert lost_by(reasons(recording), "took longer") <= 20 - len(found) == recorder.state.lost


def test_names_that_are_not_utf_8_are_recorded(tmp_path: Path, host_scenes: list[Scene]) -> None:
    first, *others = host_scenes[0].identities
    scene = replace(host_scenes[0], identities=(replace(first, name="w\udcffb"), *others))
    record(SceneList(scene), tmp_path / "recording", ticks=3)
    recording = Recording(str(tmp_path / "recording"))
    assert {without_surrogates(found.identities[0].name) for found in recording.scenes()} == {r"w\xffb"}
    assert recording.damage == []


class Taken:
    """A consumer that keeps what it is given."""

    def __init__(self) -> None:
        self.scenes: list[Scene] = []

    def offer(self, scene: Scene) -> None:
        self.scenes.append(scene)


def test_a_consumer_has_every_look_and_the_recording_one_an_interval(tmp_path: Path, host_scenes: list[Scene]) -> None:
    source, taken = SceneList(host_scenes[0]), Taken()
    recorder = Recorder(
        source,
        tmp_path / "recording",
        interval_s=5 * TICK_S,
        for_s=30 * TICK_S,
        consumer=taken,
        looks_per_scene=5,
    )
    recorder.start()
    assert recorder.done.wait(60)
    recorder.stop()
    recorded = [scene.sample.taken_ns for scene in Recording(str(tmp_path / "recording")).scenes()]
    seen = [scene.sample.taken_ns for scene in taken.scenes]
    assert len(seen) == source.looks
    assert set(recorded) <= set(seen)
    assert len(recorded) + recorder.state.lost >= 7
    assert lost_by(reasons(Recording(str(tmp_path / "recording"))), "took longer") <= recorder.state.lost


def test_a_source_that_fails_is_opened_again_and_the_gap_says_why(tmp_path: Path, host_scenes: list[Scene]) -> None:
    record(SceneList(host_scenes[0], fails_at=(2, 3)), tmp_path / "recording", ticks=8, reopen=True)
    told = reasons(Recording(str(tmp_path / "recording")))
    assert "2 scenes were not recorded before this one: the iterator was detached" in told


def test_a_disk_that_stands_still_delays_no_look(
    tmp_path: Path, host_scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    """fsync that does not return is what a disk does that stands still; it is the kernel's call that waits here."""
    stands, goes = threading.Event(), threading.Event()
    real = os.fsync

    def stuck(fd: int) -> None:
        if threading.current_thread().name == "kvmscope-write":
            stands.set()
            assert goes.wait(60)
        real(fd)

    monkeypatch.setattr(os, "fsync", stuck)
    source = SceneList(host_scenes[0])
    recorder = Recorder(source, tmp_path / "recording", interval_s=TICK_S)
    recorder.start()
    assert stands.wait(60)
    wait_for(lambda: source.looks > 3 * QUEUED_AT_MOST)
    assert recorder.state.scenes <= 1
    goes.set()
    wait_for(lambda: recorder.state.scenes > QUEUED_AT_MOST + 1)
    recorder.stop()
    assert lost_by(reasons(Recording(str(tmp_path / "recording"))), "the disk was too slow") >= QUEUED_AT_MOST


def wait_for(is_so: object) -> None:
    assert callable(is_so)
    turn, deadline = threading.Event(), 6000
    while not is_so():
        deadline -= 1
        assert deadline
        turn.wait(0.01)


FULL = """
import resource, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from crafted import BEFORE, MACHINE, identities, make_sample
from kvmscope.scene import Scene
from kvmscope.store.losses import LossLog
from kvmscope.store.writer import RecordingWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = RecordingWriter(Path(sys.argv[1]), segment_s=1e9)
losses, failed = LossLog(), 0
for second in range(60):
    no_room = 20 <= second < 40
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 if no_room else resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    scene = Scene(make_sample(BEFORE, at_s=second), identities(BEFORE), MACHINE, {})
    try:
        writer.append(losses.told_by(scene))
        losses = LossLog()
    except OSError as error:
        failed += 1
        losses.lose(error.strerror)
print(failed)
writer.close()
"""


def test_a_disk_without_room_loses_the_scenes_of_that_time_alone(tmp_path: Path) -> None:
    """A limit of file size is what this process meets as a full disk: write(2) fails."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "recording"), *sys.path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "20\n"), done.stderr
    recording = Recording(str(tmp_path / "recording"))
    assert len(list(recording.scenes())) == 40
    assert recording.damage == []
    assert reasons(recording) == ["20 scenes were not recorded before this one: File too large"]
    assert list((tmp_path / "recording" / "journal").iterdir()) == []


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from crafted import BEFORE, MACHINE, identities, make_sample
from kvmscope.scene import Scene
from kvmscope.store.writer import RecordingWriter
writer = RecordingWriter(Path(sys.argv[1]), segment_s=7)
first = int(sys.argv[2])
for second in range(first, first + 100_000):
    writer.append(Scene(make_sample(BEFORE, at_s=second), identities(BEFORE), MACHINE, {}))
    print(second, flush=True)
"""


def killed_at_random(directory: Path, times: int) -> Iterator[tuple[int, list[int]]]:
    """Kill a writer after some scenes, and go on with the next; gives the last one that it told, and what is read."""
    chance, first = random.Random(times), 0
    for _ in range(times):
        command = [sys.executable, "-c", KILLED, str(directory), str(first), *sys.path]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(1, 40)):
                process.stdout.readline()
            threading.Event().wait(chance.random() * 0.01)
            process.kill()
            told = process.stdout.read().split()
        recording = Recording(str(directory))
        found = [scene.sample.taken_ns // 10**9 for scene in recording.scenes()]
        first = found[-1] - found[0] + 1
        yield int(told[-1]) if told else -1, [second - found[0] for second in found]


def test_a_recorder_that_is_killed_loses_nothing_that_it_had_appended(tmp_path: Path) -> None:
    """``KVMSCOPE_KILLS=200`` kills it that often; some 2 s each."""
    times = int(os.environ.get("KVMSCOPE_KILLS", "20"))
    for told, found in killed_at_random(tmp_path / "recording", times):
        assert found == list(range(len(found))), "each once, in order"
        assert found[-1] >= told


def test_a_ring_keeps_its_time_and_its_size(tmp_path: Path, host_scenes: list[Scene]) -> None:
    directory = tmp_path / "recording"
    writer = RecordingWriter(directory, limits=RingLimits(keep_s=80), segment_s=1e9)
    for second in range(400):
        writer.append(at(host_scenes[0], second))
    writer.close()
    found = [scene.sample.taken_ns // 10**9 for scene in Recording(str(directory)).scenes()]
    assert 79 <= found[-1] - found[0] < 80 + 2 * 80 / 8 + 2
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    writer = RecordingWriter(directory, limits=RingLimits(size_bytes=size // 2))
    writer.close()
    left = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    assert left <= size // 2
    assert any(segment_of(str(path.relative_to(directory))) for path in directory.rglob("*.parquet"))


def test_two_recorders_do_not_write_one_recording(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "recording")
    with pytest.raises(UsageError, match="another kvmscope"):
        RecordingWriter(tmp_path / "recording")
    writer.close()
    RecordingWriter(tmp_path / "recording").close()


def test_what_a_killed_compaction_left_is_removed(tmp_path: Path, host_scenes: list[Scene]) -> None:
    directory = tmp_path / "recording"
    writer = RecordingWriter(directory)
    writer.append(host_scenes[0])
    writer.close()
    [scenes] = (directory / "scenes").rglob("*.parquet")
    scenes.unlink()
    RecordingWriter(directory).close()
    assert list(directory.rglob("*.parquet")) == []


LOADED_BY_THE_FIRST_SCENE = """
import sys
from pathlib import Path
from crafted import BEFORE, MACHINE, identities, make_sample
from kvmscope.scene import Scene
from kvmscope.store.writer import RecordingWriter
scene = Scene(make_sample(BEFORE), identities(BEFORE), MACHINE, {})
writer = RecordingWriter(Path(sys.argv[1]))
before = set(sys.modules)
writer.append(scene)
print([name for name in sys.modules if name not in before])
writer.close()
"""


def test_the_first_scene_loads_nothing_that_looking_would_wait_for(tmp_path: Path) -> None:
    """While a module is loaded, no other thread of Python runs: pyarrow loads pandas, for a second or more."""
    pytest.importorskip("pandas", reason="pandas is not installed, so that pyarrow cannot load it")
    command = [sys.executable, "-c", LOADED_BY_THE_FIRST_SCENE, str(tmp_path / "recording")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout == "[]\n"
