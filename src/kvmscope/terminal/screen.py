"""Styled lines and trees of ``view`` on a terminal, in colour."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..view.text import Line, Style
from ..view.tree import TextNode

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text
    from rich.tree import Tree

_STYLES = {
    Style.PLAIN: "",
    Style.HEAD: "bold",
    Style.DIM: "dim",
    Style.GOOD: "bold green",
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


def rich_trees(nodes: Iterable[TextNode]) -> Group:
    """The trees as rich prints them, one below the other."""
    from rich.console import Group
    from rich.text import Text
    from rich.tree import Tree

    def grow(node: TextNode) -> Tree:
        tree = Tree(Text(node.text, _STYLES[node.style]), guide_style="dim")
        tree.children.extend(map(grow, node.below))
        return tree

    return Group(*map(grow, nodes))
