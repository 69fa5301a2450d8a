"""Temporary directories: removed when closed, and when their process was killed by the next one that makes some."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvmscope.console.temporary import OwnedDirectory

OWNER = """
import sys
from kvmscope.console.temporary import OwnedDirectory
folder = OwnedDirectory("test")
(folder.path / "spill").write_text("x")
print(folder.path, flush=True)
sys.stdin.read()
"""
MAKER = """
from kvmscope.console.temporary import OwnedDirectory
for _ in range(100):
    with OwnedDirectory("test") as folder:
        (folder.path / "spill").write_text("x")
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary directories of this process and its children are."""
    place = tmp_path / "t"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@contextmanager
def owner() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process that has a temporary directory, and which."""
    command = [sys.executable, "-c", OWNER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())


def test_directory_is_removed_with_its_files_when_it_is_closed(place: Path) -> None:
    with OwnedDirectory("test") as folder:
        (folder.path / "spill").write_text("x")
        assert folder.path.parent == place
    assert list(place.iterdir()) == []


def test_directory_of_a_living_process_stays_and_that_of_a_killed_one_is_removed() -> None:
    with owner() as (process, path):
        with OwnedDirectory("test"):
            assert (path / "spill").exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert path.exists()
    with OwnedDirectory("test"):
        assert not path.exists()


def test_what_a_person_has_made_stays_whatever_its_name_is(place: Path, tmp_path: Path) -> None:
    mine, other = place / "kvmscope-tmp-mine", tmp_path / "other"
    for folder in (mine, other):
        folder.mkdir()
        (folder / "file").write_text("x")
    (place / "kvmscope-tmp-link").symlink_to(other)
    (place / "kvmscope-tmp-file").write_text("x")
    with OwnedDirectory("test"):
        pass
    assert (mine / "file").exists()
    assert (other / "file").exists()
    assert {path.name for path in place.iterdir()} == {"kvmscope-tmp-mine", "kvmscope-tmp-link", "kvmscope-tmp-file"}


def test_processes_that_make_and_remove_directories_at_once_disturb_none(place: Path) -> None:
    makers = [subprocess.Popen([sys.executable, "-c", MAKER], stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [maker.communicate(timeout=60)[1] for maker in makers] == [""] * 3
    assert [maker.returncode for maker in makers] == [0] * 3
    assert list(place.iterdir()) == []


def test_without_a_place_for_it_there_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError):
        OwnedDirectory("test")
