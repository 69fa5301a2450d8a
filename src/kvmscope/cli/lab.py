"""``kvmscope lab``: small guests to try kvmscope on."""

from __future__ import annotations

import click

from ..console.commands import LateGroup, places_below


@click.command(
    "lab", cls=LateGroup, package=__package__, places=places_below("lab", "run", "simulate", "fleet", "kernel")
)
def lab() -> None:
    """Small guests with known behaviour, to try kvmscope on."""
