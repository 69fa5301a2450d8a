"""``kvmscope fleet``: commands over many hosts."""

from __future__ import annotations

import click

from ..console.commands import LateGroup, places_below


@click.command(
    "fleet",
    cls=LateGroup,
    package=__package__,
    places=places_below("fleet", "status", "doctor", "apicv", "diff", "schemas", "index", "load"),
)
def fleet() -> None:
    """Query many hosts at once: a directory of recordings, ClickHouse or Prometheus.

    \b
    kvmscope fleet doctor /var/lib/kvmscope
    kvmscope fleet apicv --clickhouse http://clickhouse:8123
    kvmscope fleet doctor --prometheus http://prometheus:9090
    """
