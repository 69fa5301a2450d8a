"""``kvmscope govern``: commands that adapt a setting of this host to measurements, and restore it."""

from __future__ import annotations

import click

from ..console.commands import LateGroup, places_below


@click.command("govern", cls=LateGroup, package=__package__, places=places_below("govern", "polling"))
def govern() -> None:
    """Adapts a setting of this host to measurements, within bounds, and restores it at the end."""
