"""A recorder at work: ``status --watch --from`` and ``replay`` show each scene as it is recorded, until it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from crafted import MACHINE, VcpuSpec, VmSpec, identities, make_sample

pytest.importorskip("pyarrow", reason="pyarrow is not installed: make setup")

from kvmscope.scene import Scene
from kvmscope.store.writer import RecordingWriter

INTERVAL_S = 0.2
EXITS_A_SCENE = 1_000
DEADLINE_S = 60.0


class SceneRecorder:
    """Appends a scene each interval on a thread, from journal to journal and into segments, until it is stopped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._writer = RecordingWriter(path)
        self._is_stopped = threading.Event()
        self._append()
        self._append()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._is_stopped.set()
        self._thread.join()
        self._writer.close()

    def _run(self) -> None:
        while not self._is_stopped.wait(INTERVAL_S):
            self._append()
            if self.count % 8 == 0:
                self._writer.close()
                self._writer = RecordingWriter(self.path)

    def _append(self) -> None:
        vms = [VmSpec("busy", [VcpuSpec(0, {"exits": self.count * EXITS_A_SCENE})])]
        sample = replace(make_sample(vms), taken_ns=time.time_ns(), monotonic_ns=time.monotonic_ns())
        self._writer.append(Scene(sample, identities(vms), MACHINE, {}))
        self.count += 1


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[SceneRecorder]:
    recorder = SceneRecorder(tmp_path / "recording")
    yield recorder
    recorder.stop()


def kvmscope(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "kvmscope", *arguments]


def test_status_watches_a_recording_as_it_grows_and_ends_after_its_recorder(recorder: SceneRecorder) -> None:
    command = kvmscope("status", "--watch", "--json", "--interval", "200ms", "--from", str(recorder.path))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            shown = json.loads(line)
            if recorder.count > 20:
                recorder.stop()
        assert process.wait() == 0
    assert shown["vms"][0]["name"] == "busy"
    last = subprocess.run(
        kvmscope("status", "--json", "--interval", "200ms", "--from", str(recorder.path)),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(last)["time"] == shown["time"], "the last scene of all was shown"


def test_replay_follows_a_recording_that_grows_once_it_is_at_its_end(recorder: SceneRecorder) -> None:
    ours, theirs = pty.openpty()
    command = kvmscope("replay", str(recorder.path), "--interval", "200ms")
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        try:
            screen = PlayedScreen(ours)
            screen.read_until(lambda: screen.place >= 2)
            os.write(ours, b"\x1b[F")
            screen.read_until(lambda: screen.is_in("live"))
            begin = recorder.count
            screen.read_until(lambda: screen.is_in("live") and screen.place >= begin + 10)
            recorder.stop()
            screen.read_until(lambda: screen.is_in("stopped"))
            assert screen.place == recorder.count
            os.write(ours, b"q")
            assert process.wait(60) == 0
        finally:
            process.kill()
    os.close(ours)


class PlayedScreen:
    """The last line of a replay, as it was written last."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._written = ""

    def read_until(self, is_there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not is_there():
            assert time.monotonic() < deadline, self._written[-2000:]
            if select.select([self._fd], [], [], 1)[0]:
                self._written += os.read(self._fd, 1 << 16).decode("utf-8", "replace")

    @property
    def place(self) -> int:
        return int(self._last[0])

    def is_in(self, mode: str) -> bool:
        return self._last[1].startswith(mode)

    @property
    def _last(self) -> tuple[str, str]:
        """The number of the scene, and whether it plays."""
        return ("0", "") if not (found := re.findall(r"  (\d+)/\d+  (\w+)", self._written)) else found[-1]
