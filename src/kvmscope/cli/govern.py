"""``kvmscope govern``: commands that change a setting of this host by evidence, and undo it."""

from __future__ import annotations

import click

from .lazy import lazy_group


@click.command("govern", cls=lazy_group("polling"), short_help="Adapt a setting of this host by evidence.")
def govern() -> None:
    """Adapts a setting of this host by evidence, within bounds, and puts it back at the end."""
