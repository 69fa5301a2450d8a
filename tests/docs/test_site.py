"""The site is built from the same pages, without a warning."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from pages import DOCS, PROJECT

pytest.importorskip("material", reason="mkdocs-material is not installed: make setup")


def test_the_site_builds_without_a_warning_and_asks_no_other_host(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
        env={"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(PROJECT / "src")},
    )
    assert done.returncode == 0, done.stderr
    assert {str(page.relative_to(DOCS).with_suffix(".html")) for page in DOCS.rglob("*.md")} <= {
        str(page.relative_to(tmp_path)) for page in tmp_path.rglob("*.html")
    }
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', index) == []


def test_a_link_out_of_the_site_becomes_the_path_of_the_file() -> None:
    hook = runpy.run_path(str(PROJECT / "tools" / "site.py"))["on_page_markdown"]
    page = SimpleNamespace(file=SimpleNamespace(src_uri="reference/sql.md"))
    text = (
        "[a](../../pyproject.toml), [pyproject.toml](../../pyproject.toml), [b](library.md#x), ![c](../images/top.svg)"
    )
    assert hook(text, page=page) == (
        "a (`pyproject.toml`), `pyproject.toml`, [b](library.md#x), ![c](../images/top.svg)"
    )
