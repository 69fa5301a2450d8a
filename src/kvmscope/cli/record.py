"""``kvmscope record``: scenes of this host to a recording, at a steady interval. ``store.recorder`` does it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..console.interrupts import until_ended
from ..errors import OutputError, PermissionNeeded
from .echo import echo_notes
from .history import require_pyarrow
from .options import count_option, interval_option, parse_size, source_option, time_option
from .progress import progress, progress_line
from .session import open_live_host

if TYPE_CHECKING:
    from ..collect import Host
    from ..store.recorder import Recorder, RecorderState

_SHOW_EVERY_S = 1.0
_REALTIME_PRIORITY = 1


@click.command("record", short_help="Record the host, to look back with the same commands.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@interval_option(help="How often to look.")
@time_option("--for", "for_s", help="How long to record; else until Ctrl-C.")
@time_option("--keep", help="Delete what is older than this.")
@click.option("--max-size", callback=parse_size, metavar="SIZE", help="Delete the oldest to stay below this size.")
@count_option("Count with this group too; may be given several times.")
@click.option(
    "--realtime", is_flag=True, help="Lock the memory and look with real-time priority, for hosts without idle CPUs."
)
@source_option
def command(
    *,
    directory: Path,
    interval: float,
    for_s: float | None,
    keep: float | None,
    max_size: int | None,
    groups: tuple[str, ...],
    realtime: bool,
    source: str,
) -> None:
    """Record all that can be read of this host to DIR, a new directory or an earlier recording.

    A scene that could not be read or written is reported in the next one, with the reason. docs/recordings.md describes
    the files, which other programs can read too.

    \b
    kvmscope record /var/lib/kvmscope --keep 24h --max-size 20G
    kvmscope record incident --interval 200ms --for 10m
    """
    require_pyarrow()
    from ..store.compactor import RingLimits
    from ..store.recorder import Recorder

    open_it = _opener(source, groups)
    host = open_it()
    try:
        with _disk_errors():
            recorder = Recorder(
                host,
                directory,
                interval_s=interval,
                for_s=for_s,
                limits=RingLimits(keep, max_size),
                reopen=open_it,
            )
    except BaseException:
        host.close()
        raise
    _run(recorder, directory, realtime=realtime)
    echo_notes([_summary(recorder.state, directory)])


def _run(recorder: Recorder, directory: Path, *, realtime: bool) -> None:
    try:
        with until_ended():
            recorder.start()
            if realtime:
                _be_realtime(recorder)
            with progress_line() as show:
                while not recorder.done.wait(_SHOW_EVERY_S):
                    show(_progress_text(recorder.state, directory))
    finally:
        with progress("writing what is left"), _disk_errors():
            recorder.stop()


def _opener(source: str, groups: tuple[str, ...]) -> Callable[[], Host]:
    """Opens the host as this command line says, in any thread."""
    context = click.get_current_context()

    def open_it() -> Host:
        if groups:
            from .. import collect

            return collect.open_host(source, groups=groups)
        with context.scope(cleanup=False):
            return open_live_host(source)

    return open_it


def _be_realtime(recorder: Recorder) -> None:
    """Raises PermissionNeeded."""
    from ..linux import libc

    try:
        libc.lock_memory()
        thread = recorder.looking_thread
        if thread is not None:
            os.sched_setscheduler(thread, os.SCHED_RR, os.sched_param(_REALTIME_PRIORITY))
    except OSError as error:
        raise PermissionNeeded(
            f"memory cannot be locked or priority raised: {error.strerror}",
            remedy="run it as root, or with CAP_IPC_LOCK and CAP_SYS_NICE",
            errno=error.errno,
        ) from None


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        where = f" ({os.fsdecode(error.filename)})" if error.filename else ""
        raise OutputError(f"{reason}{where}", error.errno or errno.EIO) from None


def _progress_text(state: RecorderState, directory: Path) -> str:
    lost = f", {state.lost} lost ({state.why_lost})" if state.lost else ""
    trouble = f" · compaction waits: {state.trouble}" if state.trouble else ""
    return f"recording to {directory}: {state.vms} VMs, {state.scenes} scenes{lost}{trouble} …"


def _summary(state: RecorderState, directory: Path) -> str:
    lost = f"; lost: {state.lost} ({state.why_lost})" if state.lost else ""
    return f"{state.scenes} scenes are in {directory}{lost}"
