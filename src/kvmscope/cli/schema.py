"""``kvmscope schema``: which stats there are, compared between kernels and with what a program relies on."""

from __future__ import annotations

import click

from .lazy import lazy_group


@click.command("schema", cls=lazy_group("dump", "diff", "check", "review"), short_help="Compare the stats of kernels.")
def schema() -> None:
    """Which stats a kernel has: written down, compared with another kernel, or held to what a program relies on."""
