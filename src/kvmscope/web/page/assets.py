"""The files that the page loads, by their names: a closed set, read once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

_TYPES: Final = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_FILES: Final = {
    "page.js": "assets",
    "page.css": "assets",
    "icon.svg": "assets",
    "uPlot.iife.min.js": "vendor",
    "uPlot.min.css": "vendor",
}


@dataclass(frozen=True, slots=True)
class PageAsset:
    """One file. ``tag``: changes with its bytes."""

    content: bytes
    media_type: str
    tag: str


@cache
def load_assets() -> dict[str, PageAsset]:
    """Every file by its name."""
    return {name: _load(folder, name) for name, folder in _FILES.items()}


def _load(folder: str, name: str) -> PageAsset:
    content = files(__package__).joinpath(folder, name).read_bytes()
    ending = name[name.rindex(".") :]
    return PageAsset(content, _TYPES[ending], f'"{hashlib.sha256(content).hexdigest()[:16]}"')
