"""``kvmscope schema``: the stats of a kernel, compared between kernels and with the stats that a program relies on."""

from __future__ import annotations

import click

from ..console.commands import LateGroup, places_below


@click.command(
    "schema",
    cls=LateGroup,
    package=__package__,
    places=places_below("schema", "dump", "diff", "check", "review"),
    short_help="Compare the stats of kernels.",
)
def schema() -> None:
    """Dump the stats of a kernel, compare them with those of another, or check them against what a program relies
    on."""
