"""A directory of the cache is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmscope.lab.userland import iter_files, replacing


def test_directory_appears_when_its_block_ends(tmp_path: Path) -> None:
    with replacing(tmp_path / "made") as partial:
        (partial / "file").touch()
        assert not (tmp_path / "made").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "file"]


def test_directory_that_was_there_stays_when_the_block_fails(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "old").touch()
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "made") as partial:
        (partial / "new").touch()
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "old"]


def test_directory_that_was_there_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "old").touch()
    (tmp_path / "made.partial").mkdir()
    (tmp_path / "made.partial" / "left over").touch()
    with replacing(tmp_path / "made") as partial:
        (partial / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "new"]


def test_bytecode_is_a_file_only_if_asked_for(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    for name in ("b.py", "a.py", "__pycache__/a.pyc"):
        (tmp_path / name).touch()
    assert [path.name for path in iter_files(tmp_path)] == ["a.py", "b.py"]
    assert [path.name for path in iter_files(tmp_path, bytecode=True)] == ["a.pyc", "a.py", "b.py"]
