"""``kvmscope fleet load``: loads recordings into ClickHouse, to query a fleet there."""

from __future__ import annotations

import click

from ..console.progress import progress
from ..store.requirements import require_pyarrow
from ..terminal.echo import echo_answer, echo_damage
from .options import PLACE, json_option


@click.command("load")
@click.argument("places", type=PLACE, nargs=-1, required=True, metavar="DIR|URI...")
@click.option("--clickhouse", "url", required=True, metavar="URL", help="http://…, https://… or chdb:///DIR.")
@click.option("--keep", metavar="LIST", help="Delete older data, such as raw:7d,10s:30d,60s:365d; by default nothing.")
@json_option
def load(*, places: tuple[str, ...], url: str, keep: str | None, as_json: bool) -> None:
    """Add recordings to a ClickHouse, which gets tables, roll-ups and views if it has none. Data that is already there
    is not added twice, so growing recordings can be loaded again.

    \b
    kvmscope fleet load --clickhouse http://clickhouse:8123 /var/lib/kvmscope/*
    kvmscope fleet load --clickhouse chdb:///var/lib/fleet --keep raw:7d,60s:365d s3://bucket/hosts/web-7
    """
    require_pyarrow()
    from ..engines.clickhouse import open_clickhouse
    from ..engines.clickhouse_load import load_recordings
    from ..engines.clickhouse_tables import parse_retention
    from ..view.loading import load_lines, load_view

    retention = parse_retention(keep or "")
    with open_clickhouse(url) as store:
        with progress("loading"):
            report = load_recordings(store, places, retention=retention)
        echo_damage(report.damage)
        view = load_view(store.name, report.recordings, report.scenes)
    echo_answer(view, load_lines(view), as_json=as_json)
