"""A long recording is judged by DuckDB as it is by numpy: the answer is the same byte for byte.

``KVMSCOPE_EVENTFUL``: of how many recordings, 3 by default.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from eventful import eventful_scenes

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")

from kvmscope.cli import main
from kvmscope.lab.fleet import write_fleet
from kvmscope.lab.fleet_plan import FleetSize
from kvmscope.store.writer import RecordingWriter
from kvmscope.tasks import long_recordings

SEEDS = range(int(os.environ.get("KVMSCOPE_EVENTFUL", "3")))
JUDGED = "were judged in DuckDB"


@contextmanager
def recorded(directory: Path, seed: int) -> Iterator[None]:
    """Scenes of two recorders, one after the other. The second is still running; the last scenes are in its journal."""
    scenes = list(eventful_scenes(seed))
    restart = 15 + seed % 20
    with closing(RecordingWriter(directory, segment_s=20.0)) as writer:
        for scene in scenes[:restart]:
            writer.append(scene)
    with closing(RecordingWriter(directory, segment_s=20.0)) as writer:
        for scene in scenes[restart:]:
            writer.append(scene)
        writer.flush()
        yield


def doctor(directory: Path, *options: str) -> Result:
    between = ("--between", "2026-11-02T12:00:00Z", "2026-11-02T13:00:00Z")
    return CliRunner().invoke(main, ["doctor", "--from", str(directory), *between, *options], catch_exceptions=False)


def make_all_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every recording is long, and has several pieces."""
    monkeypatch.setattr(long_recordings, "LONG", 1)
    monkeypatch.setattr(long_recordings, "_FEW", 4)
    monkeypatch.setattr(long_recordings, "_PIECE_SCENES", 25)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("small") / "r"
    write_fleet(directory, FleetSize(hosts=1, vms=6, vcpus=2, samples=30, interval_s=2.0))
    return directory


@pytest.mark.parametrize("seed", SEEDS)
def test_answer_of_duckdb_is_that_of_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    options = ("--json", "--interval", "3s" if seed % 3 == 2 else "1s")
    with recorded(tmp_path / "r", seed):
        by_numpy = doctor(tmp_path / "r", *options)
        make_all_long(monkeypatch)
        by_duckdb = doctor(tmp_path / "r", *options)
    assert (JUDGED in by_numpy.stderr, JUDGED in by_duckdb.stderr) == (False, True)
    assert by_duckdb.stdout == by_numpy.stdout


def test_text_of_a_recording_without_events_is_that_of_numpy(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_numpy = doctor(small, "--not-judged")
    make_all_long(monkeypatch)
    by_duckdb = doctor(small, "--not-judged")
    assert "29 intervals were judged in DuckDB, and 3 of them replayed" in by_duckdb.stderr
    assert by_duckdb.stdout == by_numpy.stdout


def test_without_duckdb_a_long_recording_is_judged_by_numpy(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_numpy = doctor(small)
    make_all_long(monkeypatch)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    found = doctor(small)
    assert found.stdout == by_numpy.stdout
    assert "29 intervals are judged one by one: SQL over recordings needs DuckDB" in found.stderr


def test_damaged_recording_is_judged_by_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with recorded(tmp_path / "r", 0):
        pass
    damaged = sorted((tmp_path / "r" / "vcpus").rglob("*.parquet"))[0]
    data = bytearray(damaged.read_bytes())
    data[100] ^= 0xFF
    damaged.write_bytes(data)
    make_all_long(monkeypatch)
    found = CliRunner().invoke(main, ["doctor", "--from", str(tmp_path / "r"), "--for", "20s", "--interval", "1s"])
    assert "are judged one by one:" in found.stderr
    assert "checksum" in found.stderr
