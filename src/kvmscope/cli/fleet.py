"""``kvmscope fleet``: many hosts at once."""

from __future__ import annotations

import click

from .lazy import lazy_group


@click.command("fleet", cls=lazy_group("load", "status", "doctor", "apicv", "diff", "schemas"))
def fleet() -> None:
    """Many hosts at once: their recordings in ClickHouse.

    \b
    kvmscope fleet load --clickhouse http://clickhouse:8123 /var/lib/kvmscope
    """
