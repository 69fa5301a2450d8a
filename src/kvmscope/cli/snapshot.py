"""``kvmscope snapshot``: one file with what the commands show now, to attach to a report."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..console.progress import progress
from ..console.streams import writing_errors
from ..errors import UsageError
from ..store.replay import LookPlan
from ..store.requirements import require_pyarrow
from .echo import echo_notes
from .history import history_options, is_recorded, is_span
from .options import interval_option, source_option
from .session import open_live_host, open_with_registers

if TYPE_CHECKING:
    from ..scene import Scene
    from ..store.episode_note import EpisodeNote

_WINDOWS = 2


@click.command("snapshot", short_help="One file with what the commands show now, to attach to a report.")
@click.argument("file", required=False, metavar="[FILE]")
@click.option(
    "--anonymise",
    "--anonymize",
    is_flag=True,
    help="Replace names, uuids, paths, ids and what else identifies; the same value always by the same pseudonym.",
)
@click.option("--episode", metavar="PATH", help="Of this episode of a recording, all of it.")
@interval_option("2s")
@history_options
@source_option
def command(*, file: str | None, anonymise: bool, episode: str | None, interval: float, source: str) -> None:
    """Write what `status`, `apicv`, `doctor`, `schema` and `check` show now to FILE, a new file; - is stdout. Two
    intervals are read. Every command that reads looks at FILE by --from.

    \b
    kvmscope snapshot
    kvmscope snapshot report.zip --anonymise
    kvmscope snapshot --episode /var/lib/kvmscope/episodes/0007
    kvmscope doctor --from report.zip
    """
    from ..store.snapshot import encode_snapshot
    from ..tasks.snapshot import make_snapshot
    from ..tasks.sources import check_host

    target = _target(file)
    note: EpisodeNote | None = None
    if episode is not None:
        if is_recorded():
            raise UsageError("--episode names what to look at, and so does --from")
        require_pyarrow()
        from ..store.episodes import open_episode

        scenes, note = open_episode(episode)
    else:
        scenes = list(_looks(source, interval))
    check = None if episode is not None or is_recorded() else check_host(open_live_host)
    data = encode_snapshot(make_snapshot(scenes, note, check, anonymise=anonymise))
    _write(target, data)
    echo_notes([f"{target} has {len(data) / 1024:.0f} KiB; kvmscope doctor --from {target}"] if target != "-" else [])


def _target(file: str | None) -> str:
    """Where to write. Raises UsageError for a file that is there."""
    if file is None:
        file = f"kvmscope-snapshot-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.zip"
    if file == "-":
        if sys.stdout.isatty():
            raise UsageError("a terminal cannot show a snapshot; name a file, or pipe it")
        return file
    if Path(file).exists():
        raise UsageError(f"{file} exists, and is not written over")
    return file


def _looks(source: str, interval_s: float) -> Iterator[Scene]:
    """The scenes of two intervals, or of the recorded time that was asked for."""
    plan = LookPlan((interval_s,) * _WINDOWS, is_one_window=False)
    with open_with_registers(source, plan) as host, progress("reading two intervals"):
        yield host.look()
        count = 0
        while host.has_more and (is_span() or count < _WINDOWS):
            yield host.look_after(0 if is_span() else interval_s)
            count += 1


def _write(target: str, data: bytes) -> None:
    if target == "-":
        sys.stdout.buffer.write(data)
        return
    with writing_errors(), Path(target).open("xb") as file:
        file.write(data)
