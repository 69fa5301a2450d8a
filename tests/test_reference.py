"""The generated pages of docs/reference/ are what the catalogue and the views say."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "reference"
TOOLS = ("reference.py", "schemas.py")


def _pages(tool: str) -> Mapping[str, str]:
    pages: Callable[[], Mapping[str, str]] = runpy.run_path(str(ROOT / "tools" / tool))["pages"]
    return pages()


TEXTS = {name: text for tool in TOOLS for name, text in _pages(tool).items()}


@pytest.mark.parametrize("name", TEXTS)
def test_a_page_is_what_the_catalogue_says(name: str) -> None:
    assert (PAGES / name).read_text(encoding="utf-8") == TEXTS[name], "run tools/reference.py, tools/schemas.py"


def test_no_other_page_says_that_it_was_generated() -> None:
    generated = {path.name for path in PAGES.glob("*.md") if "<!-- Made by" in path.read_text(encoding="utf-8")}
    assert generated == set(TEXTS)
