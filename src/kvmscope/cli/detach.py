"""``kvmscope detach``: take away what ``attach`` left."""

from __future__ import annotations

import click


@click.command("detach", short_help="Take away what attach left.")
def command() -> None:
    """Take away what `kvmscope attach` left in the kernel, of any version. Needs root."""
    from ..sources.bpf.attach import detach

    click.echo("detached" if detach() else "nothing was attached")
