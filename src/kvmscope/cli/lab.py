"""``kvmscope lab``: small guests to try kvmscope on."""

from __future__ import annotations

import click

from .lazy import lazy_group


@click.command("lab", cls=lazy_group("run", "simulate", "fleet", "kernel"))
def lab() -> None:
    """Small guests that do a known number of things, to try kvmscope on."""
