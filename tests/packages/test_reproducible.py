"""The same commit gives the same bytes: what a release has can be checked by whoever builds it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_a_second_build_gives_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    tool = [sys.executable, str(PROJECT / "tools/packages.py"), "--into", str(tmp_path), "debian13", "el10"]
    subprocess.run(tool, check=True)
    built = sorted(tmp_path.iterdir())
    assert {path.suffix for path in built} >= {".whl", ".gz", ".deb", ".rpm"}
    for path in built:
        if path.name != "SHA256SUMS":
            assert path.read_bytes() == (dist / path.name).read_bytes(), path.name


def test_the_checksums_are_those_of_the_files(dist: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], check=True, cwd=dist)
