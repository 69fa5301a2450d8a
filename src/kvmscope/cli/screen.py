"""Styled lines of ``view`` on a terminal, in colour, or as plain text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..view.text import Line, Style

if TYPE_CHECKING:
    from rich.text import Text

_STYLES = {
    Style.PLAIN: "",
    Style.HEAD: "bold",
    Style.DIM: "dim",
    Style.ALERT: "bold reverse yellow",
    Style.WARNING: "yellow",
    Style.PROBLEM: "bold red",
}


def rich_text(lines: Iterable[Line]) -> Text:
    """The lines as rich prints them."""
    from rich.text import Text

    text = Text("\n", no_wrap=True, overflow="crop").join(
        Text.assemble(*((span.text, _STYLES[span.style]) for span in line)) for line in lines
    )
    text.rstrip()
    return text
