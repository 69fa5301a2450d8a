"""Untrusted text made fit for a terminal.

A VM's name is chosen by the user who started the VM. Printed raw, it can move the cursor, colour the screen, set the
window title, hide itself or reorder its line. All such text goes to a terminal through ``printable``. Not for JSON or
files (those have the text unchanged, if it is Unicode: ``without_surrogates``), and not a reversible escaping.

Rule: characters that a terminal interprets, or that a reader cannot see, are written as ``\\x1b`` or ``\\u202e``, and a
byte that is not UTF-8 as ``\\xff``. Markup of a terminal library (``[red]``) is ordinary text here: pass the result to
such a library as plain text.

Source: Unicode general categories and Default_Ignorable_Code_Point (DerivedCoreProperties.txt, 15.0).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

ELLIPSIS = "…"

DEFAULT_MAX_LENGTH = 64
"""Longer than names chosen by people; those of libvirt, Firecracker and cloud tools are shorter."""

_MAX_COMBINING = 2
"""The most combining marks on one letter: two are in use (Vietnamese, Hebrew); many would overlap other lines."""

_FIRST_BYTE = 0xDC80
"""The code point to which "surrogateescape" maps the byte 0x80."""

_SURROGATE = re.compile("[\ud800-\udfff]")

# Letters, marks and symbols that are invisible despite their category. The rest of
# Default_Ignorable_Code_Point is in categories that str.isprintable() already refuses.
_INVISIBLE = frozenset(
    chr(code)
    for first, last in (
        (0x034F, 0x034F),  # combining grapheme joiner
        (0x115F, 0x1160),  # Hangul fillers
        (0x17B4, 0x17B5),  # Khmer inherent vowels
        (0x180B, 0x180F),  # Mongolian variation selectors
        (0x2800, 0x2800),  # blank Braille pattern
        (0x3164, 0x3164),  # Hangul filler
        (0xFE00, 0xFE0F),  # variation selectors
        (0xFFA0, 0xFFA0),  # halfwidth Hangul filler
        (0xFFFC, 0xFFFC),  # object replacement
        (0xE0100, 0xE01EF),  # variation selectors supplement
    )
    for code in range(first, last + 1)
)


def printable(text: str, *, max_length: int = DEFAULT_MAX_LENGTH) -> str:
    """``text`` without anything that a terminal would interpret or a reader would not see.

    The result has at most ``max_length`` characters (1 or more) and ends in ``…`` if it was cut, never within one
    replacement. Ordinary names come back unchanged, and so does every result of this function.
    """
    if max_length < 1:
        raise ValueError("max_length must be 1 or more")
    if len(text) <= max_length and text.isascii() and text.isprintable():
        return text
    # A result of this length never needs more characters of input, and names can be megabytes long.
    pieces: list[str] = []
    length = 0
    for piece in _pieces(text[: max_length + 1]):
        pieces.append(piece)
        length += len(piece)
    if length <= max_length:
        return "".join(pieces)
    while length > max_length - len(ELLIPSIS):
        length -= len(pieces.pop())
    return "".join(pieces) + ELLIPSIS


def without_surrogates(text: str) -> str:
    """The text in a form that JSON can encode: a byte that is not UTF-8, a lone surrogate in Python, as ``\\xff``."""
    return text if text.isascii() else _SURROGATE.sub(lambda found: _escaped(found[0]), text)


def _pieces(text: str) -> Iterator[str]:
    """Each character in printable form: itself, or its code."""
    marks = _MAX_COMBINING  # a mark without a letter before it would combine with the text left of the name
    for char in text:
        if not char.isprintable() or char in _INVISIBLE:
            marks = 0
            yield _escaped(char)
        elif not unicodedata.category(char).startswith("M"):
            marks = 0
            yield char
        elif marks < _MAX_COMBINING:
            marks += 1
            yield char
        else:
            yield _escaped(char)


def _escaped(char: str) -> str:
    code = ord(char)
    if _FIRST_BYTE <= code < _FIRST_BYTE + 0x80:
        code -= 0xDC00
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
