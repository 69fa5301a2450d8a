"""The patches of examples/additions still apply, and what they add works: CONTRIBUTING sends newcomers to them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import PROJECT

ADDITIONS = PROJECT / "examples" / "additions"
PATCHES = sorted(ADDITIONS.glob("*.patch"))
CONTRIBUTING = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TESTS = (
    *("tests/host/test_vmm.py::test_a_process_is_taken_for_what_it_is[examplevm]", "tests/test_vmm_notes.py"),
    *("tests/sources/test_spool.py", "tests/view/test_ages.py", "tests/statusbar"),
    "tests/catalog/test_groups.py",
)
"""Those that the patches bring, and that hold what they add."""


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_patch_applies_to_this_tree(patch: Path) -> None:
    done = subprocess.run(["git", "apply", "--check", patch], capture_output=True, text=True, check=False, cwd=PROJECT)
    assert done.returncode == 0, f"{done.stderr}Apply it by hand, and write the patch again: git diff -U1"


def test_contributing_names_each_patch() -> None:
    assert len(PATCHES) == 5
    assert [patch.name for patch in PATCHES if f"examples/additions/{patch.name}" not in CONTRIBUTING] == []


def test_what_the_patches_add_works(tmp_path: Path) -> None:
    """All of them together, in a copy."""
    for name in ("src", "tests", "docs"):
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    subprocess.run(["git", "apply", *PATCHES], check=True, cwd=tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
    )
    assert done.returncode == 0, done.stdout[-3000:]
