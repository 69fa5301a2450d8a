"""``kvmscope snapshot``: one file with the present state, to attach to a bug report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from ..store.replay import LookPlan
from ..store.requirements import require_pyarrow
from ..terminal.echo import echo_notes
from .history import history_options, is_recorded, is_span
from .options import interval_option, source_option
from .session import open_live_host, open_with_registers

if TYPE_CHECKING:
    from ..store.episode_note import EpisodeNote


@click.command("snapshot", short_help="One file with the present state, to attach to a bug report.")
@click.argument("file", required=False, metavar="[FILE]")
@click.option(
    "--anonymise",
    "--anonymize",
    is_flag=True,
    help="Replace names, uuids, paths, ids and other identifying values, each with the same pseudonym everywhere.",
)
@click.option("--episode", metavar="PATH", help="Include all of this episode of a recording.")
@interval_option("2s")
@history_options
@source_option
def command(*, file: str | None, anonymise: bool, episode: str | None, interval: float, source: str) -> None:
    """Write what `status`, `apicv`, `doctor`, `schema` and `check` show now to FILE, a new file; - is stdout. It reads
    two intervals. Every command that reads a host also reads FILE with --from.

    \b
    kvmscope snapshot
    kvmscope snapshot report.zip --anonymise
    kvmscope snapshot --episode /var/lib/kvmscope/episodes/0007
    kvmscope doctor --from report.zip
    """
    from ..store.snapshot import encode_snapshot
    from ..tasks.snapshot import choose_file, make_snapshot, read_scenes, write_snapshot
    from ..tasks.sources import check_host

    target = choose_file(file)
    note: EpisodeNote | None = None
    if episode is not None:
        if is_recorded():
            raise UsageError("--episode cannot be combined with --from")
        require_pyarrow()
        from ..store.episodes import open_episode

        scenes, note = open_episode(episode)
    else:
        plan = LookPlan((interval, interval), is_one_window=False)
        with open_with_registers(source, plan) as host:
            scenes = read_scenes(host, len(plan.steps_s), 0.0 if is_span() else interval, all_of_it=is_span())
    check = None if episode is not None or is_recorded() else check_host(open_live_host)
    data = encode_snapshot(make_snapshot(scenes, note, check, anonymise=anonymise))
    write_snapshot(target, data)
    echo_notes([f"{target} has {len(data) / 1024:.0f} KiB; kvmscope doctor --from {target}"] if target != "-" else [])
