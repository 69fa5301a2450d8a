"""Lintian and rpmlint find nothing in the packages but what contrib/packaging states, each with its reason."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

RPMLINT = Path(__file__).parents[2] / "contrib/packaging/rpmlint.toml"


def what_it_says(*command: str) -> str:
    """Of a checker that this machine has."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed: tools/debian-packages.txt")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout


def test_lintian_finds_nothing(release: str, dist: Path) -> None:
    (package,) = dist.glob(f"*{release.replace('debian', 'deb')}_*.deb")
    assert what_it_says("lintian", "--allow-root", str(package)) == ""


@pytest.mark.parametrize("target", ["el10", "fc43"])
def test_rpmlint_finds_nothing(target: str, dist: Path) -> None:
    (package,) = dist.glob(f"*.{target}.*.rpm")
    said = what_it_says("rpmlint", "--config", str(RPMLINT), str(package))
    assert " 0 errors, 0 warnings" in said, said
