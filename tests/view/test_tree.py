"""Trees of lines."""

from __future__ import annotations

from kvmscope.view.text import Style
from kvmscope.view.tree import TextNode, indented


def test_a_line_below_is_indented() -> None:
    tree = TextNode("a", Style.HEAD, (TextNode("b", below=(TextNode("c"),)), TextNode("d")))
    assert list(indented([tree, TextNode("e")])) == ["a", "  b", "    c", "  d", "e"]
