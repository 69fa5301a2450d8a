"""``kvmscope detach``: remove what ``attach`` left."""

from __future__ import annotations

import click


@click.command("detach", short_help="Remove what attach left.")
def command() -> None:
    """Remove what `kvmscope attach` left in the kernel, of any version. Needs root."""
    from ..sources.bpf.attach import detach

    click.echo("detached" if detach() else "nothing was attached")
