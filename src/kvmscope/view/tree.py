"""Text as a tree of lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .text import Style


@dataclass(frozen=True, slots=True)
class TextNode:
    """A line, and the lines below it."""

    text: str
    style: Style = Style.PLAIN
    below: tuple[TextNode, ...] = ()


def indented(nodes: Iterable[TextNode], depth: int = 0) -> Iterator[str]:
    """The tree by indentation alone."""
    for node in nodes:
        yield "  " * depth + node.text
        yield from indented(node.below, depth + 1)
