"""``kvmscope fleet``: the same questions over many hosts."""

from __future__ import annotations

import click

from .lazy import lazy_group


@click.command("fleet", cls=lazy_group("status", "doctor", "apicv", "diff", "schemas", "load"))
def fleet() -> None:
    """Ask many hosts at once: a directory of recordings, ClickHouse or Prometheus.

    \b
    kvmscope fleet doctor /var/lib/kvmscope
    kvmscope fleet apicv --clickhouse http://clickhouse:8123
    kvmscope fleet doctor --prometheus http://prometheus:9090
    """
