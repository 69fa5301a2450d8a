"""The look of each style of text: in the terminal's own 16 colours, and never by colour alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..view.text import Style


@dataclass(frozen=True, slots=True)
class Look:
    """``colour``: one of the terminal's own, by its ANSI name; None for the terminal's foreground."""

    colour: str | None = None
    is_bold: bool = False
    is_dim: bool = False
    is_reversed: bool = False


LOOKS: Final[Mapping[Style, Look]] = {
    Style.PLAIN: Look(),
    Style.HEAD: Look(is_bold=True),
    Style.DIM: Look(is_dim=True),
    Style.GOOD: Look("green"),
    Style.ALERT: Look(is_bold=True, is_reversed=True),
    Style.WARNING: Look("yellow"),
    Style.PROBLEM: Look("red", is_bold=True),
}
