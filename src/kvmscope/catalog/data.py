"""The files of the catalogue, which are in the directory of its modules.

tomllib takes 25 ms for them, in every start of a command. So the parsed values are cached as JSON in ``__pycache__``,
by the rules of Python's own compiled modules: written at the first use by a user who may write there, not written under
PYTHONDONTWRITEBYTECODE, and not used if the text of the TOML file differs from the cached one.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from .tomlfile import ReadToml, read_root

FOLDER = Path(__file__).parent
"""By path, as ``importlib.resources`` would load a dozen modules in every start of a command."""

TOML_FILES: Final = (
    "addresses",
    "caveats",
    "exit_reasons",
    "findings",
    "governor",
    "groups",
    "inhibits",
    "metrics",
    "questions",
    "review",
    "settings",
    "stats",
    "uncounted",
)


def read_toml(name: str, *, folder: Path = FOLDER) -> ReadToml:
    """One TOML file of the catalogue, or of another folder. Raises CatalogError if it is not TOML."""
    data = (folder / name).read_bytes()
    text = data.decode()
    values = _read_kept(folder, name, data)
    if values is None:
        values = read_root(text, name).data
        if not sys.dont_write_bytecode:
            with suppress(OSError):
                _keep(folder, name, data, values)
    return ReadToml(text, values)


def keep_all() -> None:
    """Cache the values of every file, even under PYTHONDONTWRITEBYTECODE. Raises OSError."""
    for name in (f"{stem}.toml" for stem in TOML_FILES):
        data = (FOLDER / name).read_bytes()
        _keep(FOLDER, name, data, read_root(data.decode(), name).data)


def _kept_path(folder: Path, name: str) -> Path:
    return folder / "__pycache__" / f"{name}.json"


def _read_kept(folder: Path, name: str, data: bytes) -> Mapping[str, Any] | None:
    """The cached values of exactly this text; None if there are none, or if the cache is damaged."""
    try:
        made_of, values = json.loads(_kept_path(folder, name).read_bytes())
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return values if made_of == _mark(data) and isinstance(values, dict) else None


def _keep(folder: Path, name: str, data: bytes, values: Mapping[str, Any]) -> None:
    """Write the cache atomically, as other processes may be reading."""
    path = _kept_path(folder, name)
    path.parent.mkdir(exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        new.write_text(json.dumps([_mark(data), values]), encoding="ascii")
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _mark(data: bytes) -> list[int]:
    """A checksum that detects edits of a text; not a protection, as users who can write here can write the modules."""
    return [len(data), zlib.crc32(data)]
