"""What pip gets: a wheel with the program and its data alone, from a source distribution with all that is developed."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
SOURCES = PROJECT / "src"
DAY_S = 1_600_000_000
NOT_DISTRIBUTED = (".ci/", ".github/", ".gitignore")
pytest.importorskip("build", reason="build is not installed: pip install 'kvmscope[package]'")


@dataclass(frozen=True, slots=True)
class Built:
    """The paths of both, built in one go: the wheel is made from the unpacked source distribution."""

    wheel: Path
    source: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    directory = tmp_path_factory.mktemp("dist")
    build(directory, PROJECT)
    (wheel,), (source,) = directory.glob("*.whl"), directory.glob("*.tar.gz")
    return Built(wheel, source)


def build(into: Path, project: Path, *options: str) -> None:
    """Without isolation, as what builds it is installed."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(into), *options, str(project)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(DAY_S)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


def tracked_files() -> set[str]:
    done = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=False, cwd=PROJECT)
    if done.returncode != 0:
        pytest.skip("this is not a checkout by git")
    return {name for name in done.stdout.splitlines() if (PROJECT / name).exists()}


def test_the_wheel_has_every_file_of_the_package_and_no_other(built: Built) -> None:
    in_wheel = {name for name in zipfile.ZipFile(built.wheel).namelist() if ".dist-info/" not in name}
    developed = {name.removeprefix("src/") for name in tracked_files() if name.startswith("src/")}
    assert in_wheel == developed
    assert {Path(name).suffix for name in in_wheel} >= {".o", ".bin", ".toml", ".json", ".js", ".css", ".svg", ".j2"}


def test_the_source_distribution_has_all_that_is_developed(built: Built) -> None:
    with tarfile.open(built.source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    missing = {name for name in tracked_files() - names if not name.startswith(NOT_DISTRIBUTED)}
    assert not missing


def test_without_extras_it_depends_on_numpy_alone(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    always = [need for need in metadata.get_all("Requires-Dist", []) if "extra ==" not in need]
    assert [need.partition(">")[0] for need in always] == ["numpy"]


def test_it_builds_to_the_same_bytes_elsewhere(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.source) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # the Python of Debian 12 is older than it
        archive.extractall(tmp_path / "source")
    (project,) = (tmp_path / "source").iterdir()
    build(tmp_path / "dist", project, "--wheel")
    assert (tmp_path / "dist" / built.wheel.name).read_bytes() == built.wheel.read_bytes()
