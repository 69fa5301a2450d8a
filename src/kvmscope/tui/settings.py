"""Settings that are kept between runs: the columns, the order and the theme, in ``$XDG_CONFIG_HOME/kvmscope/top.toml``.

Rule: an unusable file is reported and not overwritten, and the defaults apply.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..view.trouble import BY_COST, NAME
from ..view.vm_columns import ALWAYS, DEFAULT_COLUMNS, vm_columns

OWN_THEMES: Final = ("terminal", "terminal-light")
"""The terminal's own 16 colours on its own background."""

THEMES: Final = (*OWN_THEMES, "dark", "light")
"""``dark`` and ``light`` use fixed colours."""

_HEAD: Final = "# Written by kvmscope top.\n"


@dataclass(frozen=True, slots=True)
class Settings:
    """``sort``: ``cost``, ``name`` or a metric. ``columns``: keys in ``view.vm_columns``, the most important first."""

    columns: tuple[str, ...] = DEFAULT_COLUMNS
    sort: str = BY_COST
    is_upside_down: bool = False
    theme: str = THEMES[0]


@dataclass
class SettingsFile:
    """The file. ``problem``: why it is not used, or empty; a file with a problem is not written."""

    path: Path
    settings: Settings = field(default_factory=Settings)
    problem: str = ""

    @classmethod
    def read(cls, path: Path) -> SettingsFile:
        """The content of the file, or the defaults if there is no file."""
        try:
            settings = _settings(tomllib.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls(path)
        except OSError as error:
            return cls(path, problem=f"{path} cannot be read ({error.strerror}); defaults are used")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, _SettingsError) as error:
            return cls(path, problem=f"{path} is damaged ({error}); defaults are used and the file is left as it is")
        return cls(path, settings)

    def write(self, settings: Settings) -> None:
        """Save the settings; a damaged file is left as it is."""
        self.settings = settings
        if self.problem:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            whole = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            whole.write_text(_text(settings), encoding="utf-8")
            whole.replace(self.path)
        except OSError as error:
            self.problem = f"{self.path} cannot be written ({error.strerror}); settings are kept only until top ends"


def settings_path(environment: Mapping[str, str] = os.environ) -> Path:
    """The path of the file, by the XDG base directories."""
    home = environment.get("XDG_CONFIG_HOME", "")
    folder = Path(home) if home.startswith("/") else Path(environment.get("HOME", "/")) / ".config"
    return folder / "kvmscope" / "top.toml"


class _SettingsError(Exception):
    """A value in the file is invalid."""


def _settings(table: Mapping[str, Any]) -> Settings:
    known = ("columns", "sort", "upside_down", "theme")
    for key in table:
        if key not in known:
            raise _SettingsError(f"there is no setting {key[:40]!r}")
    default = Settings()
    columns, sort = table.get("columns", list(default.columns)), table.get("sort", default.sort)
    is_upside_down, theme = table.get("upside_down", default.is_upside_down), table.get("theme", default.theme)
    if not isinstance(columns, list) or not all(isinstance(key, str) and key in vm_columns() for key in columns):
        raise _SettingsError("columns: expected a list of names of columns")
    if not isinstance(sort, str) or sort not in sort_keys():
        raise _SettingsError("sort: expected cost, name or the name of a metric")
    if not isinstance(is_upside_down, bool):
        raise _SettingsError("upside_down: expected true or false")
    if theme not in THEMES:
        raise _SettingsError(f"theme: expected one of {', '.join(THEMES)}")
    kept = tuple(dict.fromkeys(key for key in columns if key not in ALWAYS))
    return Settings(kept, sort, is_upside_down, theme)


def sort_keys() -> tuple[str, ...]:
    """The keys by which VMs can be sorted."""
    return tuple(dict.fromkeys((BY_COST, NAME, *(each.sorts_by for each in vm_columns().values() if each.sorts_by))))


def _text(settings: Settings) -> str:
    columns = "".join(f'  "{key}",\n' for key in settings.columns)
    return (
        f'{_HEAD}columns = [\n{columns}]\nsort = "{settings.sort}"\n'
        f'upside_down = {"true" if settings.is_upside_down else "false"}\ntheme = "{settings.theme}"\n'
    )
