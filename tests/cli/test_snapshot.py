"""``kvmscope snapshot``: the file shows what the host showed, and takes the place of no other file."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

READERS = [
    ("status",),
    ("status", "web-1"),
    ("status", "--json"),
    ("doctor", "--interval", "1s", "--for", "2s"),
    ("doctor", "--interval", "1s", "--for", "2s", "--json"),
    ("apicv",),
    ("apicv", "--json"),
    ("read",),
    ("read", "web-1/0", "--json"),
    ("list", "--vms"),
    ("hist", "web-1"),
    ("explain", "exits"),
]


@pytest.fixture
def snapshot(kvmscope: Any, crafted: Any, tmp_path: Path) -> Path:
    path = tmp_path / "snapshot.zip"
    samples = [crafted.before, crafted.middle, crafted.after]
    result = kvmscope.run("snapshot", str(path), "--interval", "1ms", on=samples)
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    assert f"kvmscope doctor --from {path}" in result.stderr
    return path


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_every_reading_command_takes_it(kvmscope: Any, snapshot: Path, command: tuple[str, ...]) -> None:
    result = kvmscope.run(*command, "--from", str(snapshot))
    assert result.exit_code == 0, result.output
    assert "web-1" in result.stdout or command[0] in ("apicv", "list", "explain", "doctor")


def test_what_people_read_in_it_is_what_the_commands_show(kvmscope: Any, snapshot: Path) -> None:
    with zipfile.ZipFile(snapshot) as archive:
        names, status = archive.namelist(), archive.read("status.txt").decode()
    assert {"status.txt", "doctor.txt", "apicv.json", "schema.json", "check.txt", "check.json"} <= set(names)
    shown = kvmscope.run("status", "--all", "--interval", "1s", "--from", str(snapshot)).stdout
    assert status.splitlines()[2:] == shown.splitlines()[2:]


def test_a_file_that_is_there_stays_as_it_is(kvmscope: Any, snapshot: Path) -> None:
    before = snapshot.read_bytes()
    result = kvmscope.run("snapshot", str(snapshot))
    assert result.exit_code == 2
    assert "is not overwritten" in result.stderr
    assert snapshot.read_bytes() == before


def test_a_place_that_cannot_be_written_is_told(kvmscope: Any, crafted: Any) -> None:
    result = kvmscope.run(
        "snapshot", "/proc/none/s.zip", "--interval", "1ms", on=[crafted.before, crafted.middle, crafted.after]
    )
    assert result.exit_code == 5
    assert "/proc/none/s.zip" in result.stderr


def test_a_snapshot_of_a_recorded_time_is_of_that_time(kvmscope: Any, snapshot: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    made = kvmscope.run("snapshot", str(again), "--from", str(snapshot), "--interval", "1s", "--anonymise")
    assert made.exit_code == 0, made.output
    assert "web-1" not in kvmscope.run("status", "--from", str(again)).stdout
    with zipfile.ZipFile(again) as archive:
        assert "check.txt" not in archive.namelist()


def test_a_snapshot_of_an_episode_shows_its_finding(kvmscope: Any, grown: Any, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: make setup")
    calm = {"exits": 300, "mmio_exits": 3, "fpu_reload": 3, "halt_exits": 10}
    storm = {"exits": 20_000, "mmio_exits": 9_000, "fpu_reload": 9_000, "halt_exits": 10}
    place, path = tmp_path / "recording", tmp_path / "episode.zip"
    samples = grown(*([calm] * 4), *([storm] * 6), *([calm] * 6))
    kvmscope.run("record", str(place), "--interval", "50ms", "--for", "850ms", "--after", "3s", on=samples)
    made = kvmscope.run("snapshot", str(path), "--episode", f"{place}/episodes/0001", "--anonymise")
    assert made.exit_code == 0, made.output
    shown = kvmscope.run("doctor", "--from", str(path), "--interval", "1s", "--for", "3s").stdout
    assert "mmio-storm" in shown
    assert "old-nic" not in shown
    refused = kvmscope.run("snapshot", str(tmp_path / "no.zip"), "--episode", str(place))
    assert refused.exit_code == 2
    assert "is not an episode" in refused.stderr
    assert not (tmp_path / "no.zip").exists()


def test_its_schema_is_dumped_and_compared(kvmscope: Any, snapshot: Path, tmp_path: Path) -> None:
    dumped = tmp_path / "schema.json"
    assert kvmscope.run("schema", "dump", "--from", str(snapshot), "--json", str(dumped)).exit_code == 0
    with zipfile.ZipFile(snapshot) as archive:
        assert dumped.read_text() == archive.read("schema.json").decode()
    assert kvmscope.run("schema", "diff", str(snapshot), str(dumped)).exit_code == 0
    assert kvmscope.run("schema", "diff", str(snapshot), "6.1").exit_code == 1


WITHOUT_PYARROW = """
import sys
sys.modules["pyarrow"] = None
from kvmscope.cli import main
main(sys.argv[1:])
"""


def test_it_is_read_without_pyarrow(snapshot: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_PYARROW, "status", "--from", str(snapshot)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "web-1" in done.stdout


@pytest.mark.parametrize("data", [b"", b"dear", b"PK\x03\x04dear"])
def test_what_is_not_a_snapshot_is_refused(kvmscope: Any, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "letter").write_bytes(data)
    assert kvmscope.run("status", "--from", str(tmp_path / "letter")).exit_code == 4
    assert (tmp_path / "letter").read_bytes() == data
