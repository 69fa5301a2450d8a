"""``kvmscope fleet load``: recordings into ClickHouse, so a fleet can be asked there."""

from __future__ import annotations

import re

import click

from ..errors import UsageError
from .echo import echo_answer, echo_damage
from .history import require_pyarrow
from .options import json_option

_KEEP = re.compile(r"(raw|10s|60s):([1-9][0-9]{0,4})d")


@click.command("load")
@click.argument("places", nargs=-1, required=True, metavar="DIR|URI...")
@click.option("--clickhouse", "url", required=True, metavar="URL", help="http://…, https://… or chdb:///DIR.")
@click.option("--keep", metavar="LIST", help="Delete what is older, such as raw:7d,10s:30d,60s:365d; else nothing.")
@json_option
def load(*, places: tuple[str, ...], url: str, keep: str | None, as_json: bool) -> None:
    """Add recordings to a ClickHouse, which gets tables, roll-ups and views if it has none. What is there is not added
    twice, so the same recordings can be loaded again while they grow.

    \b
    kvmscope fleet load --clickhouse http://clickhouse:8123 /var/lib/kvmscope/*
    kvmscope fleet load --clickhouse chdb:///var/lib/fleet --keep raw:7d,60s:365d s3://bucket/hosts/web-7
    """
    require_pyarrow()
    from ..engines.clickhouse import open_clickhouse
    from ..engines.clickhouse_load import load_recordings
    from ..engines.clickhouse_tables import Retention
    from ..view.loading import load_lines, load_view

    days = _days(keep)
    retention = Retention(days.pop(0, None), days)
    with open_clickhouse(url) as store:
        report = load_recordings(store, places, retention=retention)
        echo_damage(report.damage)
        view = load_view(store.name, report.recordings, report.scenes)
    echo_answer(view, load_lines(view), as_json=as_json)


def _days(keep: str | None) -> dict[int, int]:
    """Days by resolution in seconds, 0 for raw rows."""
    found = {}
    for part in keep.split(",") if keep else ():
        match = _KEEP.fullmatch(part.strip())
        if match is None:
            raise UsageError(f"--keep {keep!r:.60}: expected a list such as raw:7d,10s:30d,60s:365d")
        found[0 if match[1] == "raw" else int(match[1][:-1])] = int(match[2])
    return found
