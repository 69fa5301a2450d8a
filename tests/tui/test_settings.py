"""What stays from one run to the next, and files that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmscope.tui.settings import Settings, SettingsFile, settings_path


def test_settings_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "top.toml"
    settings = Settings(("apicv", "exits_per_s"), "halts_per_s", True, "light")
    SettingsFile.read(path).write(settings)
    again = SettingsFile.read(path)
    assert (again.settings, again.problem) == (settings, "")


def test_without_a_file_there_are_the_defaults(tmp_path: Path) -> None:
    file = SettingsFile.read(tmp_path / "top.toml")
    assert (file.settings, file.problem) == (Settings(), "")


@pytest.mark.parametrize(
    "text",
    [
        "sort = ",
        'sort = "nothing"',
        "columns = 5",
        'columns = ["exits_per_s", "nothing"]',
        'theme = "pink"',
        'upside_down = "yes"',
        "unknown = 1",
        "\x00",
        "sort = 'cost'\nsort = 'name'",
    ],
)
def test_a_damaged_file_is_said_to_be_so_and_not_written_over(tmp_path: Path, text: str) -> None:
    path = tmp_path / "top.toml"
    path.write_text(text, encoding="utf-8")
    file = SettingsFile.read(path)
    assert file.settings == Settings()
    assert str(path) in file.problem
    file.write(Settings(theme="light"))
    assert path.read_text(encoding="utf-8") == text


def test_bytes_that_are_no_text_are_damage_too(tmp_path: Path) -> None:
    path = tmp_path / "top.toml"
    path.write_bytes(b"\xff\xfe")
    assert "damaged" in SettingsFile.read(path).problem


def test_a_place_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = SettingsFile(tmp_path / "file" / "top.toml")
    file.write(Settings())
    assert "cannot be written" in file.problem


def test_the_file_is_where_xdg_has_it() -> None:
    assert settings_path({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}) == Path("/x/kvmscope/top.toml")
    assert settings_path({"XDG_CONFIG_HOME": "relative", "HOME": "/h"}) == Path("/h/.config/kvmscope/top.toml")
    assert settings_path({"HOME": "/h"}) == Path("/h/.config/kvmscope/top.toml")
