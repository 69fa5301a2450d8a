"""``kvmscope dump``: chosen stats and metrics over time as CSV, JSON lines or OpenMetrics, in bounded memory."""

from __future__ import annotations

import sys
from functools import partial

import click

from ..errors import UsageError
from ..terminal.echo import echo_damage, echo_each, echo_notes
from .options import PLACE, WholeNumber, parse_duration, source_option
from .session import open_live_host

_FORMATS = ("csv", "jsonl", "openmetrics")
_MOST_LOOKS = 10**9


@click.command("dump", short_help="Stats and metrics over time as CSV, JSON lines or OpenMetrics.")
@click.argument("stats", nargs=-1, metavar="[STAT]…")
@click.option("--format", "form", type=click.Choice(_FORMATS), default="csv", show_default=True, help="What to write.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Also this metric; may contain * and ?.")
@click.option("--per", type=click.Choice(("vcpu", "vm")), default="vcpu", show_default=True, help="A row for each.")
@click.option("--vm", metavar="VM", help="Only this VM.")
@click.option("--from", "place", type=PLACE, metavar="PATH", help="Dump this recording instead of this host.")
@click.option("--between", nargs=2, metavar="TIME TIME", help="Only the time between these two.")
@click.option(
    "--interval", callback=parse_duration, metavar="TIME", help="Minimum time between two reads; 1s on a live host."
)
@click.option("--count", type=WholeNumber(1, _MOST_LOOKS), metavar="N", help="Reads of this host; by default 1.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label of every OpenMetrics series.")
@source_option
def command(
    *,
    stats: tuple[str, ...],
    form: str,
    metrics: tuple[str, ...],
    per: str,
    vm: str | None,
    place: str | None,
    between: tuple[str, str] | None,
    interval: float | None,
    count: int | None,
    labels: tuple[str, ...],
    source: str,
) -> None:
    """Write raw stats, all of them or those named, and metrics, at each time of a recording or at each read of this
    host. STAT may contain * and ?.

    An unknown value is an empty cell in CSV, null in JSON, and no series in OpenMetrics.

    \b
    kvmscope dump --from /var/lib/kvmscope exits 'halt_*' > stats.csv
    kvmscope dump --per vm --metric exits_per_s --interval 1s --count 60 --format jsonl
    kvmscope dump --from DIR --format openmetrics --label instance=node-1 > backfill.txt
    """
    from ..export.backfill import TimedText, constant_labels
    from ..schema import Scope
    from ..tasks.dumping import live_scenes, recorded_scenes
    from ..view.dump import DumpChoice, DumpReader, metrics_called
    from ..view.dump_text import CsvText, jsonl_lines

    if labels and form != "openmetrics":
        raise UsageError("--label needs --format openmetrics")
    choice = DumpChoice(stats, metrics_called(metrics), Scope(per), vm)
    if place is None:
        if between is not None:
            raise UsageError("--between needs a recording; name one by --from")
        scenes = live_scenes(partial(open_live_host, source), interval or 1.0, count or (2 if metrics else 1))
    elif source != "auto" or count is not None:
        raise UsageError("--source and --count are for reading this host, and --from reads a recording")
    else:
        scenes = recorded_scenes(place, between, interval, echo_damage)
    reader = DumpReader(choice)
    dumped = (reader.read(scene, is_first=is_first) for scene, is_first in scenes)
    if form == "openmetrics":
        with TimedText(constant_labels(labels)) as openmetrics:
            sys.stdout.writelines(openmetrics.text_of(dumped))
    elif form == "jsonl":
        echo_each(jsonl_lines(dumped))
    else:
        csv = CsvText([metric.name for metric in choice.metrics])
        echo_each(csv.lines(dumped))
        if csv.missing:
            echo_notes([f"the first scene has no {', '.join(csv.missing)}, so CSV has no columns for it"])
