"""README, the docs and what commands print use plain technical English: patterns that must not come back.

The catalogue's texts have a test of their own (tests/catalog/test_wording.py).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pages
import pytest
from wording import complaints

PROJECT = Path(__file__).parent.parent
PAGES = (*pages.PAGES, PROJECT / "CHANGELOG.md")
SOURCES = sorted((PROJECT / "src/kvmscope").rglob("*.py"))


def paragraphs(page: str) -> Iterator[str]:
    """The prose of a page: without code, neither blocks nor spans; a row of a table or a list each on its own."""
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^    .*$", "", prose, flags=re.MULTILINE)
    prose = re.sub(r"`[^`\n]*`", "CODE", prose)
    yield from re.split(r"\n\s*\n|\n(?=[|#-])", prose)


def texts_of(source: Path) -> Iterator[tuple[int, str]]:
    """Strings with a blank in them that are not docstrings, and the docstrings of commands, which are their help."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            if id(node) not in silent:
                yield node.lineno, node.value
        elif isinstance(node, ast.FunctionDef) and _is_command(node):
            yield node.lineno, ast.get_docstring(node) or ""


def _is_command(node: ast.FunctionDef) -> bool:
    return any(re.search(r"\bcommand\b|\bgroup\b", ast.unparse(each)) for each in node.decorator_list)


def module_docstring(source: Path) -> str:
    return ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""


@pytest.mark.parametrize("page", PAGES, ids=pages.name_of)
def test_pages_use_plain_words(page: Path) -> None:
    found = [line for text in paragraphs(page.read_text(encoding="utf-8")) for line in complaints(page.name, text)]
    assert not found, "\n".join(found)


def test_what_commands_print_uses_plain_words() -> None:
    found = [
        line
        for source in SOURCES
        for number, text in texts_of(source)
        for line in complaints(f"{source.relative_to(PROJECT)}:{number}", text)
    ]
    assert not found, "\n".join(found)


def test_docstrings_of_modules_use_plain_words() -> None:
    found = [
        line for source in SOURCES for line in complaints(str(source.relative_to(PROJECT)), module_docstring(source))
    ]
    assert not found, "\n".join(found)


def test_an_avoided_word_in_a_paragraph_is_found_and_in_code_is_not() -> None:
    page = "Loads it anew.\n\n`anew` is an option.\n\n```\nanew\n```\n\n    anew\n"
    assert len([line for text in paragraphs(page) for line in complaints("page", text)]) == 1
