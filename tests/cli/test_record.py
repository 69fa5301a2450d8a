"""``kvmscope record``: what it sees is read back, it ends as it is told, and says what went wrong."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed: make setup")

from kvmscope.store.recording import Recording

pytestmark = pytest.mark.whole_host  # it waits for the VMs of its simulated host, and no others

KVMSCOPE = [sys.executable, "-m", "kvmscope"]


@pytest.fixture
def simulated() -> Iterator[None]:
    from kvmscope.lab import simulate

    with simulate.start(vms=3):
        yield


def test_what_is_seen_is_read_back(kvmscope: Any, crafted: Any, tmp_path: Path) -> None:
    samples = [crafted.make_sample([crafted.vm("web-1", [crafted.vcpu(0)])], at_s=second) for second in range(6)]
    result = kvmscope.run("record", str(tmp_path / "new"), "--interval", "10ms", "--for", "50ms", on=samples)
    assert (result.exit_code, result.stdout) == (0, "")
    found = list(Recording(str(tmp_path / "new")).scenes())
    assert f"{len(found)} scenes are in " in result.stderr
    assert 1 <= len(found) <= 6
    assert [scene.sample.taken_ns for scene in found] == [sample.taken_ns for sample in samples[: len(found)]]


@pytest.mark.whole_host  # a simulated host is published to every reader of this machine
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.usefixtures("simulated")
def test_a_signal_ends_it_with_a_whole_recording(tmp_path: Path, number: signal.Signals) -> None:
    ours, theirs = pty.openpty()
    command = [*KVMSCOPE, "record", "new", "--interval", "20ms", "--source", "published"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        shown = ""
        while "3 VMs" not in shown:
            shown += os.read(ours, 4096).decode()
        process.send_signal(number)
        with contextlib.suppress(OSError):  # the terminal ends with the last process on it
            while True:
                shown += os.read(ours, 4096).decode()
        assert process.stdout is not None
        assert process.stdout.read() == ""
        assert process.wait(60) == 0, shown
        assert " scenes are in new" in shown
    os.close(ours)
    recording = Recording(str(tmp_path / "new"))
    assert len(list(recording.scenes())) > 1
    assert recording.damage == []
    assert list((tmp_path / "new" / "journal").iterdir()) == []


def test_a_directory_of_something_else_stays_as_it_is(kvmscope: Any, crafted: Any, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    result = kvmscope.run("record", str(tmp_path), "--for", "1s", on=[crafted.before])
    assert result.exit_code == 2
    assert "is not empty and not a recording" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_place_that_cannot_be_written_is_told(kvmscope: Any, crafted: Any) -> None:
    result = kvmscope.run("record", "/proc/self/new", "--for", "1s", on=[crafted.before])
    assert result.exit_code == 5
    assert "the output could not be written" in result.stderr


@pytest.mark.parametrize("size", ["0", "5", "1K", "-1G", "many", "1P"])
def test_a_size_that_is_none_is_refused(kvmscope: Any, tmp_path: Path, size: str) -> None:
    result = kvmscope.run("record", str(tmp_path / "new"), f"--max-size={size}")
    assert result.exit_code == 2
    assert "is not a size such as" in result.stderr
