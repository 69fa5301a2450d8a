"""The catalogue's files: what is kept of them is what tomllib reads, and never of another text."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from kvmscope.catalog.data import FOLDER, TOML_FILES, read_toml
from kvmscope.errors import CatalogError

KEPT = Path("__pycache__", "some.toml.json")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    text = 'name = "naïve"\nparts = [1, 2.5, true]\n[inner]\nkey = "v"\n'
    (tmp_path / "some.toml").write_text(text, encoding="utf-8")
    return tmp_path


def test_every_file_of_the_catalogue_is_known() -> None:
    assert {path.stem for path in FOLDER.glob("*.toml")} == set(TOML_FILES)


@pytest.mark.parametrize("name", TOML_FILES)
def test_what_is_kept_is_what_tomllib_reads(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    (tmp_path / "some.toml").write_text(text, encoding="utf-8")
    first, second = read_toml("some.toml", folder=tmp_path), read_toml("some.toml", folder=tmp_path)
    assert (tmp_path / KEPT).exists()
    assert first == second == text
    assert first.values == second.values == tomllib.loads(text)


def test_a_file_that_was_edited_is_read_again(folder: Path) -> None:
    before = read_toml("some.toml", folder=folder)
    (folder / "some.toml").write_text(before.replace("1", "3"), encoding="utf-8")
    assert read_toml("some.toml", folder=folder).values["parts"] == [3, 2.5, True]
    assert read_toml("some.toml", folder=folder).values["parts"] == [3, 2.5, True]


@pytest.mark.parametrize("damage", [b"", b"[", b"\xff", b"7", b"[1]", b'[[1, 2], {"name": "other"}]', b"[" * 100_000])
def test_what_is_damaged_is_made_again(folder: Path, damage: bytes) -> None:
    values = read_toml("some.toml", folder=folder).values
    (folder / KEPT).write_bytes(damage)
    assert read_toml("some.toml", folder=folder).values == values
    assert (folder / KEPT).read_bytes() != damage


def test_kept_values_that_are_no_table_are_not_used(folder: Path) -> None:
    values = read_toml("some.toml", folder=folder).values
    kept = (folder / KEPT).read_text(encoding="ascii")
    mark = kept.partition("]")[0]
    (folder / KEPT).write_text(f"{mark}], 5]", encoding="ascii")
    assert read_toml("some.toml", folder=folder).values == values


def test_nothing_is_written_where_python_is_not_to_write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert read_toml("some.toml", folder=folder).values["inner"] == {"key": "v"}
    assert [path.name for path in folder.iterdir()] == ["some.toml"]


def test_a_folder_that_cannot_be_written_is_read_all_the_same(folder: Path) -> None:
    (folder / "__pycache__").write_text("a file, where the folder would be", encoding="utf-8")
    assert read_toml("some.toml", folder=folder).values["inner"] == {"key": "v"}


def test_a_file_that_is_no_toml_is_an_error_with_its_place(folder: Path) -> None:
    (folder / "some.toml").write_text('name = "a\n', encoding="utf-8")
    with pytest.raises(CatalogError, match=r"some\.toml:1"):
        read_toml("some.toml", folder=folder)
    assert not (folder / KEPT).exists()
