"""What SECURITY.md says is tested has its test, and the pages name the version that pyproject.toml has."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from pages import PAGES, PROJECT, name_of

NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (PROJECT / "SECURITY.md").read_text(encoding="utf-8"))
VERSION: str = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_a_claim_of_security_has_the_test_that_it_names(file: str, test: str) -> None:
    assert f"\ndef {test}(" in (PROJECT / file).read_text(encoding="utf-8")


def test_security_names_tests() -> None:
    assert len(NAMED) > 20


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_packages_are_named_with_the_version_of_the_project(page: Path) -> None:
    found = re.findall(r"kvmscope[-_](\d+\.\d+\.\d+)", page.read_text(encoding="utf-8"))
    assert set(found) <= {VERSION}
