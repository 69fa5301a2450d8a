"""The catalogue's texts use plain technical English and the field's terms: patterns that must not come back."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from wording import complaints

HEAD_LAST = {r"^Times (that|it)\b": "Number of", r"^Of (the|all|these)\b": "Share of"}
"""Beginnings of descriptions whose head noun comes last."""

FILES = ("caveats", "findings", "groups", "inhibits", "metrics", "review", "stats")


def texts(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, " ".join(value.split())
    elif isinstance(value, dict):
        for key, each in value.items():
            name = value.get("name", value.get("slug", ""))
            yield from texts(
                each, f"{where}.{name or key}" if isinstance(each, list | dict) else f"{where}.{name}.{key}"
            )
    elif isinstance(value, list):
        for each in value:
            yield from texts(each, where)


@pytest.mark.parametrize("name", FILES)
def test_texts_use_the_terms_of_the_field(name: str) -> None:
    root = tomllib.loads(files("kvmscope.catalog").joinpath(f"{name}.toml").read_text(encoding="utf-8"))
    found = [line for where, text in texts(root) if " " in text for line in complaints(where, text, HEAD_LAST)]
    assert not found, "\n".join(found)
