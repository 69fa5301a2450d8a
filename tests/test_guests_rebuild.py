"""The lab's committed guests are what their sources assemble to."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GUESTS = ROOT / "src/kvmscope/lab/guests"


@pytest.mark.needs("binutils")
def test_every_committed_guest_is_what_its_source_assembles_to() -> None:
    result = subprocess.run([ROOT / "tools/build-guests.sh", "--check"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.needs("binutils")
def test_a_changed_byte_fails_the_check(tmp_path: Path) -> None:
    copy = tmp_path / "src/kvmscope/lab/guests"
    shutil.copytree(GUESTS, copy)
    script = tmp_path / "tools/build-guests.sh"
    script.parent.mkdir()
    shutil.copy(ROOT / "tools/build-guests.sh", script)
    image = copy / "pio.bin"
    image.write_bytes(image.read_bytes()[:-1] + b"\x00")
    result = subprocess.run([script, "--check"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "pio.bin" in result.stdout + result.stderr


def test_every_guest_has_a_source_and_every_source_a_guest() -> None:
    assert {path.stem for path in GUESTS.glob("*.bin")} == {path.stem for path in GUESTS.glob("*.S")}
