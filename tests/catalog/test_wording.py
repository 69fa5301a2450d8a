"""The catalogue's texts use plain technical English and the field's terms: patterns that must not come back."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest

FILES = ("caveats", "findings", "groups", "inhibits", "metrics", "review", "stats")
AVOIDED = {
    r"\bwake-ups?\b": "wakeup",
    r"\banew\b": "again, restart, reload",
    r"\bmeanwhile\b": "during the interval",
    r"\b(mend|mended|mends)\b": "fixed",
    r"\b(told|cannot be told)\b": "reported, unknown",
    r"\bby itself\b": "on its own",
    r"\bin vain\b": "failed",
    r"\bguests? of (the|its|their) (guest|own)\b": "nested guest",
    r"\bso that (it|they|a|the)\b": "so, for a result",
    r"\b(stands?|standing) still\b": "stops, does not increase",
    r"\blets? go of\b": "releases",
    r"\bhas(n't| not)? got\b": "has",
    r"\breturns? to the VMM\b": "userspace exit",
    r"^Times (that|it)\b": "Number of",
    r"^Of (the|all|these)\b": "Share of",
    r"\bto be had\b": "available",
    r"\bwhoever\b": "name the person or the case",
    r"\b(fast|slow|cheap) way\b": "fast path, slow path",
    r"\bis no (?!longer)\w+\b": "is not a",
    r"\b(interrupt|NMI)s? at last\b": "interrupt-window exit",
    r"\btranslations?\b": "TLB",
}


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
    found = [
        f"{where}: {match[0]!r} in {text!r}; write: {better}"
        for where, text in texts(root)
        if " " in text
        for pattern, better in AVOIDED.items()
        if (match := re.search(pattern, text, re.IGNORECASE))
    ]
    assert not found, "\n".join(found)
