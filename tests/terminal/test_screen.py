"""Styled lines on a terminal."""

from __future__ import annotations

from kvmscope.terminal.screen import rich_text
from kvmscope.view.text import Span, Style, plain, styled

LINES = [styled("head", Style.HEAD), (Span("name  "), Span("0", Style.DIM)), styled("[red]no markup[/red]"), styled("")]


def test_the_text_is_that_of_the_lines_and_its_styles_stand_where_theirs_do() -> None:
    text = rich_text(LINES)
    assert text.plain == "head\nname  0\n[red]no markup[/red]"
    assert [(text.plain[span.start : span.end], span.style) for span in text.spans if span.style] == [
        ("head", "bold"),
        ("0", "dim"),
    ]


def test_plain_lines_have_neither_styles_nor_blanks_at_their_ends() -> None:
    assert list(plain([styled("a  ", Style.ALERT), (Span("b "), Span(" "))])) == ["a", "b"]
