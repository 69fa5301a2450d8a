"""The files of the catalogue, which lie beside its modules."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
"""``importlib.resources`` would load a dozen modules in every start of a command."""


def read_data(name: str) -> str:
    """The text of one file."""
    return (FOLDER / name).read_text(encoding="utf-8")
