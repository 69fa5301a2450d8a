"""The wheel by pip in an environment of its own: what it pulls, how large that is, and that it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MOST_BYTES = 120_000_000


class Environment:
    """A virtual environment with the wheel and some extras."""

    def __init__(self, folder: Path, wheel: Path, extras: str) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        self.bin = folder / "bin"
        self._at_first = self.size()
        self.run("pip", "install", "--quiet", f"{wheel}{extras}")

    def run(self, program: str, *arguments: str) -> str:
        done = subprocess.run([self.bin / program, *arguments], capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def packages(self) -> set[str]:
        return {each["name"].lower() for each in json.loads(self.run("pip", "list", "--format=json"))}

    def size(self) -> int:
        return sum(path.lstat().st_size for path in self.bin.parent.rglob("*") if path.is_file())

    def added_bytes(self) -> int:
        return self.size() - self._at_first


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


def test_without_extras_it_pulls_numpy_alone_and_is_a_library(tmp_path: Path, wheel: Path) -> None:
    environment = Environment(tmp_path, wheel, "")
    assert environment.packages() - {"pip", "setuptools", "wheel"} == {"kvmscope", "numpy"}
    assert environment.run("python", "-c", "import kvmscope; print(kvmscope.open_host.__module__)")


def test_the_command_line_takes_at_most_120_mb(tmp_path: Path, wheel: Path) -> None:
    environment = Environment(tmp_path, wheel, "[cli]")
    assert environment.added_bytes() <= MOST_BYTES
    assert "Commands:" in environment.run("kvmscope", "--help")
    assert "halt polling" in environment.run("kvmscope", "explain", "poll-waste").lower()
    assert "source" in environment.run("kvmscope", "check")
