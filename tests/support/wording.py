"""Words that no text of the project uses, with what to write instead; for the tests of texts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

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
    r"\b(to|cannot|can) be had\b": "available",
    r"\bwhoever\b": "name the person or the case",
    r"\b(fast|slow|cheap) way\b": "fast path, slow path",
    r"(?<!there )\bis no (?!longer)\w+\b": "is not a",
    r"\b(interrupt|NMI)s? at last\b": "interrupt-window exit",
    r"\btranslations?\b": "TLB",
    r"\bof whom\b": "name the noun",
    r"\bis also had for\b": "also evaluates for",
    r"\bas it must be\b": "valid",
}


def complaints(where: str, text: str, more: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """A line for each avoided word in a text; ``more``: patterns that are avoided in texts of this kind alone."""
    text = " ".join(text.split())
    for pattern, better in {**AVOIDED, **more}.items():
        if match := re.search(pattern, text, re.IGNORECASE):
            yield f"{where}: {match[0]!r} in {text[:200]!r}; write: {better}"
