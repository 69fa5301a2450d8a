"""``kvmscope dump``: chosen stats and metrics over time as CSV, JSON lines or OpenMetrics. Memory does not grow."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from .echo import echo_damage, echo_notes
from .history import require_pyarrow
from .options import WholeNumber, parse_duration, source_option
from .session import open_live_host

if TYPE_CHECKING:
    from ..scene import Scene
    from ..view.dump import DumpChoice, DumpedScene

_FORMATS = ("csv", "jsonl", "openmetrics")
_LABEL = r"([a-zA-Z_][a-zA-Z0-9_]*)=(.*)"
_MOST_LOOKS = 10**9


@click.command("dump", short_help="Stats and metrics over time as CSV, JSON lines or OpenMetrics.")
@click.argument("stats", nargs=-1, metavar="[STAT]…")
@click.option("--format", "form", type=click.Choice(_FORMATS), default="csv", show_default=True, help="What to write.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Also this metric; may contain * and ?.")
@click.option("--per", type=click.Choice(("vcpu", "vm")), default="vcpu", show_default=True, help="A row for each.")
@click.option("--vm", metavar="VM", help="This VM alone.")
@click.option("--from", "place", metavar="PATH", help="Dump this recording instead of this host.")
@click.option("--between", nargs=2, metavar="TIME TIME", help="What the recording has between these times.")
@click.option("--interval", callback=parse_duration, metavar="TIME", help="Least time between two reads; live 1s.")
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

    What is unknown is an empty cell of CSV, null in JSON, and no series in OpenMetrics.

    \b
    kvmscope dump --from /var/lib/kvmscope exits 'halt_*' > stats.csv
    kvmscope dump --per vm --metric exits_per_s --interval 1s --count 60 --format jsonl
    kvmscope dump --from DIR --format openmetrics --label instance=node-1 > backfill.txt
    """
    from ..schema import Scope
    from ..view.dump import DumpChoice, DumpReader, metrics_called

    if labels and form != "openmetrics":
        raise UsageError("--label is of the series of --format openmetrics")
    constant = _labels(labels)
    choice = DumpChoice(stats, metrics_called(metrics), Scope(per), vm)
    if place is None:
        if between is not None:
            raise UsageError("--between is of a recording, which --from names")
        scenes = _live(source, interval or 1.0, count or (2 if metrics else 1))
    else:
        scenes = _recorded(place, source, between, interval, count)
    reader = DumpReader(choice)
    dumped = (reader.read(scene, is_first=is_first) for scene, is_first in scenes)
    _WRITERS[form](dumped, choice, constant)


def _live(source: str, interval_s: float, count: int) -> Iterator[tuple[Scene, bool]]:
    """Scenes of this host, and whether each is the first."""
    with open_live_host(source) as host:
        yield host.look(), True
        for _ in range(count - 1):
            yield host.look_after(interval_s), False


def _recorded(
    place: str, source: str, between: tuple[str, str] | None, interval_s: float | None, count: int | None
) -> Iterator[tuple[Scene, bool]]:
    """Scenes of a recording, and whether each is the first of its boot and source."""
    require_pyarrow()
    from ..store.recording import open_series
    from ..store.spans import all_spans
    from ..store.times import choose_times

    if source != "auto" or count is not None:
        raise UsageError("--source and --count are for reading this host, and --from reads a recording")
    series = open_series(place)
    spans = all_spans(series, choose_times(series.moments(), None, between))
    for span in spans:
        for number, scene in enumerate(span if interval_s is None else span.every(interval_s)):
            yield scene, number == 0
    echo_damage(series.damage)


def _labels(typed: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in typed:
        match = re.fullmatch(_LABEL, text, re.DOTALL)
        if match is None or match[1] in ("vm", "vcpu", "le") or match[1].startswith("__"):
            raise UsageError(f"--label {text!r}: expected NAME=VALUE, where NAME is a label that kvmscope does not set")
        found[match[1]] = match[2]
    return found


def _write_csv(scenes: Iterable[DumpedScene], choice: DumpChoice, labels: dict[str, str]) -> None:
    from ..view.dump_text import CsvText

    del labels
    text: CsvText | None = None
    for scene in scenes:
        if text is None:
            _refuse_nothing(scene)
            text = CsvText(scene.columns, [metric.name for metric in choice.metrics])
            click.echo(text.head())
        for line in text.lines(scene):
            click.echo(line)
    if text is not None and text.missing:
        echo_notes([f"the first scene has no {', '.join(text.missing)}, so CSV has no columns for it"])


def _write_jsonl(scenes: Iterable[DumpedScene], choice: DumpChoice, labels: dict[str, str]) -> None:
    from ..view.dump_text import jsonl_lines

    del choice, labels
    for number, scene in enumerate(scenes):
        if not number:
            _refuse_nothing(scene)
        for line in jsonl_lines([scene]):
            click.echo(line)


def _write_openmetrics(scenes: Iterable[DumpedScene], choice: DumpChoice, labels: dict[str, str]) -> None:
    from ..export.backfill import TimedText

    del choice
    with TimedText(labels) as text:
        for number, scene in enumerate(scenes):
            if not number:
                _refuse_nothing(scene)
            text.add(scene)
        for piece in text.pieces():
            sys.stdout.write(piece.decode())


def _refuse_nothing(scene: DumpedScene) -> None:
    """UsageError if the named stats are none of the first scene's, though it has VMs."""
    if scene.choice.stats and len(scene.scene.sample.vms) and not scene.columns:
        raise UsageError(f"there is no stat {', '.join(scene.choice.stats)} of a {scene.choice.level.value} here")


_WRITERS = {"csv": _write_csv, "jsonl": _write_jsonl, "openmetrics": _write_openmetrics}
