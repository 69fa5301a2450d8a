"""``kvmscope record``: writes scenes of this host to a recording at a steady interval, by ``store.recorder``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..store.requirements import require_pyarrow
from ..store.ring import RingTier, parse_tiers, ring_limits
from ..terminal.echo import echo_notes
from ..view.recording import episode_notes, recording_summary
from .episode_options import episode_options
from .options import PLACE, FilePath, count_option, interval_option, parse_size, parse_with, source_option, time_option
from .session import live_opener

if TYPE_CHECKING:
    from ..tasks.recording import EpisodePlan


@click.command("record", short_help="Record the host, to look back with the same commands.")
@click.argument("place", type=PLACE, metavar="DIR|URI")
@interval_option(help="Time between two scenes.")
@time_option("--for", "for_s", help="How long to record; by default until Ctrl-C.")
@time_option("--keep", help="Delete what is older than this.")
@click.option("--max-size", callback=parse_size, metavar="SIZE", help="Delete the oldest to stay below this size.")
@click.option(
    "--tiers",
    callback=parse_with(parse_tiers),
    metavar="LIST",
    help="What a ring keeps by age, such as all:1h,10s:24h,60s:720h (its default), or none to keep all at full rate.",
)
@click.option(
    "--spool",
    metavar="DIR",
    type=FilePath(),
    help="With a URI: directory that holds scenes until they are uploaded.",
)
@count_option("Count with this group too; may be given several times.")
@click.option(
    "--realtime", is_flag=True, help="Lock the memory and read with real-time priority, for hosts without idle CPUs."
)
@episode_options
@source_option
def command(
    *,
    place: str,
    interval: float,
    for_s: float | None,
    keep: float | None,
    max_size: int | None,
    tiers: tuple[RingTier, ...] | None,
    spool: Path | None,
    groups: tuple[str, ...],
    realtime: bool,
    episodes: EpisodePlan,
    source: str,
) -> None:
    """Record everything that can be read on this host to DIR, a new directory or an earlier recording, or to an object
    store.

    A scene that could not be read or written is reported in the next one, with the reason. With --keep, --max-size or
    --tiers the recording is a ring: old scenes are thinned, then deleted. docs/reference/recordings.md describes the
    files, which other programs can read too.

    For each new finding, DIR/episodes keeps every scene around it, and the groups of --count-during count; `kvmscope
    episodes DIR` lists them.

    \b
    kvmscope record /var/lib/kvmscope --keep 24h --max-size 20G
    kvmscope record incident --interval 200ms --for 10m
    kvmscope record /var/lib/kvmscope --keep 24h --count-during mmu_lock
    kvmscope record s3://bucket/hosts/web-7 --spool /var/spool/kvmscope
    """
    require_pyarrow()
    episodes.check(source)
    from ..store.target import choose_target
    from ..tasks.recording import RecordingPlan, record

    target = choose_target(place, spool)
    plan = RecordingPlan(
        target, interval, for_s, ring_limits(interval, keep, max_size, tiers), episodes, source, groups, realtime
    )
    recorder, capture = record(plan, partial(live_opener(source), groups), note=lambda line: echo_notes([line]))
    echo_notes(recording_summary(recorder.state, target))
    if capture is not None:
        echo_notes(episode_notes(capture, str(target.directory)))
