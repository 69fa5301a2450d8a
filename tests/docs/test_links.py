"""Links between pages lead somewhere, and every page is reached from README."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import DOCS, PAGES, PROJECT, anchors, links, name_of, pages_behind


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in links(page):
        there = (page.parent / target) if target else page
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{target}#{anchor}"


def test_no_page_is_out_of_reach() -> None:
    """From README, by links alone."""
    seen: set[Path] = set()
    ahead = {PROJECT / "README.md"}
    while ahead:
        page = ahead.pop()
        if page.suffix == ".md" and page not in seen and page.is_file():
            seen.add(page)
            ahead |= pages_behind(page)
    assert [name_of(page) for page in PAGES if page not in seen] == []


def test_pages_lie_in_the_folder_of_what_a_reader_needs() -> None:
    loose = {page.name for page in DOCS.glob("*.md")}
    assert loose <= {"index.md", "questions.md", "glossary.md", "release.md"}
    assert {path.name for path in DOCS.iterdir() if path.is_dir()} == {
        *("tutorial", "howto", "reference", "explanation"),
        *("images", "schemas"),
    }
