"""Files of an emulated machine are written where they were asked for."""

from __future__ import annotations

from pathlib import Path

from kvmscope.lab.transfers import save


def test_a_file_of_the_guest_is_written_under_the_name_that_was_asked_for(tmp_path: Path) -> None:
    assert save({"/root/a": b"1", "/root/ab": b"2"}, "/root/a", tmp_path / "mine")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"mine": b"1"}


def test_a_directory_of_the_guest_is_written_with_all_below_it(tmp_path: Path) -> None:
    assert save({"/root/d/x": b"1", "/root/d/y/z": b"2", "/root/dd": b"3"}, "/root/d", tmp_path / "mine")
    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"mine/x": b"1", "mine/y/z": b"2"}


def test_a_file_that_the_guest_lacks_is_not_written(tmp_path: Path) -> None:
    assert not save({}, "/root/d", tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
