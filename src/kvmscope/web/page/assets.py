"""The files that the page loads, by their names: a closed set, read once."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

_TYPES: Final = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_FILES: Final = {
    "page.js": "assets",
    "charts.js": "assets",
    "text.js": "assets",
    "timeline.js": "assets",
    "views.js": "assets",
    "where.js": "assets",
    "page.css": "assets",
    "icon.svg": "assets",
    "uPlot.iife.min.js": "vendor",
    "uPlot.min.css": "vendor",
}


@dataclass(frozen=True, slots=True)
class PageAsset:
    """One file. ``packed``: compressed by gzip. ``tag``: changes with the content."""

    content: bytes
    packed: bytes
    media_type: str
    tag: str


@cache
def load_assets() -> dict[str, PageAsset]:
    """Every file by its name."""
    return {name: _load(folder, name) for name, folder in _FILES.items()}


def _load(folder: str, name: str) -> PageAsset:
    content = files(__package__).joinpath(folder, name).read_bytes()
    ending = name[name.rindex(".") :]
    packed = gzip.compress(content, mtime=0)
    return PageAsset(content, packed, _TYPES[ending], f'"{hashlib.sha256(content).hexdigest()[:16]}"')
