"""The characters that a terminal can show: all of Unicode, or ASCII where the locale has no more."""

from __future__ import annotations

import locale
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..host.text import ELLIPSIS
from ..view.history import ASCII_BLOCKS, BLOCKS
from ..view.text import cells, cut

_SPELT: Final = str.maketrans({"≥": ">=", "≤": "<=", "→": "->", "∞": "inf", "…": "~", "µ": "u"})
_ONE_CELL: Final[Mapping[str, str]] = {
    "–": "-",
    "·": "|",
    "…": "~",
    "•": "*",
    "─": "-",
    "│": "|",
    "●": "o",
    "×": "x",
    "▲": "<",
    "▼": ">",
    "✓": "x",
    "█": "#",
    "µ": "u",
    "°": "o",
    "“": '"',
    "”": '"',
    "’": "'",
}
_TRANSLATED: Final = str.maketrans(dict(_ONE_CELL))
_PARTS_OF_BLOCKS: Final = str.maketrans(dict.fromkeys("▏▎▍▌▋▊▉", "#"))


@dataclass(frozen=True, slots=True)
class Charset:
    """The characters of all text. ``levels``: from small to large, for sparklines and charts."""

    is_ascii: bool = False

    @property
    def levels(self) -> str:
        return ASCII_BLOCKS if self.is_ascii else BLOCKS

    def text(self, text: str) -> str:
        """The text in these characters; it may be wider than before, so cut and pad it after this."""
        return text if not self.is_ascii or text.isascii() else self.one_cell(text.translate(_SPELT))

    def one_cell(self, text: str) -> str:
        """The text in these characters, with its width unchanged: a character without a substitute becomes ``?``."""
        if not self.is_ascii or text.isascii():
            return text
        text = text.translate(_TRANSLATED).translate(_PARTS_OF_BLOCKS)
        return "".join(char if char.isascii() else "?" * cells(char) for char in text)

    def cut(self, text: str, width: int) -> str:
        """The text in at most ``width`` cells, in these characters."""
        shown = cut(self.text(text), width)
        return shown.replace(ELLIPSIS, "~") if self.is_ascii else shown


def charset_of_locale() -> Charset:
    """The character set for the locale of this process: Unicode if it is UTF-8."""
    codeset = locale.nl_langinfo(locale.CODESET)
    return Charset(is_ascii=codeset.upper().replace("-", "") != "UTF8")
