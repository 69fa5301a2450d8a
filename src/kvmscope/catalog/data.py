"""The files of the catalogue, which lie beside its modules.

tomllib takes 25 ms for them, in every start of a command. So what it read is kept as JSON in ``__pycache__``, by the
rules of Python's own compiled modules: it is made at the first use by a user who may write there, it is not written
under PYTHONDONTWRITEBYTECODE, and a file of any other text than that which it was made of is not used.
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
"""``importlib.resources`` would load a dozen modules in every start of a command."""

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
    """Keep what each file says, also where Python is not to write what it compiles. Raises OSError."""
    for name in (f"{stem}.toml" for stem in TOML_FILES):
        data = (FOLDER / name).read_bytes()
        _keep(FOLDER, name, data, read_root(data.decode(), name).data)


def _kept_path(folder: Path, name: str) -> Path:
    return folder / "__pycache__" / f"{name}.json"


def _read_kept(folder: Path, name: str, data: bytes) -> Mapping[str, Any] | None:
    """What was kept of this very text; None if nothing was, or if it is damaged."""
    try:
        made_of, values = json.loads(_kept_path(folder, name).read_bytes())
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return values if made_of == _mark(data) and isinstance(values, dict) else None


def _keep(folder: Path, name: str, data: bytes, values: Mapping[str, Any]) -> None:
    """At once or not at all, as others may be reading."""
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
    """Tells a text from those that it is edited into; it is no defence, as who can write here can write the modules."""
    return [len(data), zlib.crc32(data)]
