"""``kvmscope detach``: remove what ``attach`` left."""

from __future__ import annotations

import click


@click.command("detach", short_help="Unload what attach loaded.")
def command() -> None:
    """Remove everything that `kvmscope attach`, of any version, left in the kernel. Needs root."""
    from ..sources.bpf.attach import detach

    click.echo("detached" if detach() else "nothing was attached")
