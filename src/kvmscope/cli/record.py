"""``kvmscope record``: scenes of this host to a recording, at a steady interval. ``store.recorder`` does it."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..console.interrupts import until_ended
from ..console.progress import progress, progress_line
from ..errors import OutputError, PermissionNeeded, UsageError
from ..units import quoted
from .echo import echo_notes
from .episode_options import EpisodeOptions, episode_notes, episode_options
from .history import require_pyarrow
from .options import FilePath, count_option, interval_option, parse_duration, parse_size, source_option, time_option
from .session import live_opener

if TYPE_CHECKING:
    from ..capture.consumer import EpisodeCapture
    from ..store.recorder import Recorder, RecorderState
    from ..store.ring import RingLimits, RingTier
    from ..store.storage import Storage

_SHOW_EVERY_S = 1.0
_REALTIME_PRIORITY = 1
_NICE = -20


def _parse_tiers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[RingTier, ...] | None:
    """``all:1h,10s:24h``; none of them for ``none``, None if nothing was given."""
    if value is None or value == "none":
        return None if value is None else ()
    from ..store.ring import RingTier

    tiers = []
    for part in value.split(","):
        resolution, colon, until = part.strip().partition(":")
        resolution_s = 0.0 if resolution == "all" else parse_duration(ctx, param, resolution)
        until_s = parse_duration(ctx, param, until) if colon else None
        if resolution_s is None or until_s is None or resolution_s % 1 or until_s <= resolution_s:
            raise click.BadParameter(f"{quoted(part)} is not a tier such as all:1h or 10s:24h, in whole seconds")
        tiers.append(RingTier(int(resolution_s), until_s))
    if any(a.resolution_s >= b.resolution_s or a.until_s >= b.until_s for a, b in pairwise(tiers)):
        raise click.BadParameter("each tier has to be coarser than the one before, and to last longer")
    return tuple(tiers)


@click.command("record", short_help="Record the host, to look back with the same commands.")
@click.argument("place", metavar="DIR|URI")
@interval_option(help="How often to look.")
@time_option("--for", "for_s", help="How long to record; else until Ctrl-C.")
@time_option("--keep", help="Delete what is older than this.")
@click.option("--max-size", callback=parse_size, metavar="SIZE", help="Delete the oldest to stay below this size.")
@click.option(
    "--tiers",
    callback=_parse_tiers,
    metavar="LIST",
    help="What a ring keeps by age, such as all:1h,10s:24h,60s:720h (its default), or none to keep all at full rate.",
)
@click.option(
    "--spool",
    metavar="DIR",
    type=FilePath(),
    help="With a URI: where scenes are until they are uploaded.",
)
@count_option("Count with this group too; may be given several times.")
@click.option(
    "--realtime", is_flag=True, help="Lock the memory and look with real-time priority, for hosts without idle CPUs."
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
    episodes: EpisodeOptions,
    source: str,
) -> None:
    """Record all that can be read of this host to DIR, a new directory or an earlier recording, or to an object store.

    A scene that could not be read or written is reported in the next one, with the reason. With --keep, --max-size or
    --tiers the recording is a ring: what grows old is thinned, then deleted. docs/recordings.md describes the files,
    which other programs can read too.

    Around each finding that begins, DIR/episodes keeps every look, and counts with the groups of --count-during;
    `kvmscope episodes DIR` lists them.

    \b
    kvmscope record /var/lib/kvmscope --keep 24h --max-size 20G
    kvmscope record incident --interval 200ms --for 10m
    kvmscope record /var/lib/kvmscope --keep 24h --count-during mmu_lock
    kvmscope record s3://bucket/hosts/web-7 --spool /var/spool/kvmscope
    """
    require_pyarrow()
    episodes.check(source)
    target = _Target.of(place, spool)
    limits = _limits(interval, keep, max_size, tiers)
    from ..store.recorder import Recorder

    open_it = partial(live_opener(source), groups)
    host = open_it()
    capture = episodes.capture(target.directory, interval_s=interval, source=source, counted=groups)
    try:
        with _disk_errors():
            recorder = Recorder(
                host,
                target.directory,
                interval_s=interval,
                for_s=for_s,
                limits=limits,
                upload_to=target.upload_to,
                reopen=open_it,
                consumer=capture,
                looks_per_scene=episodes.looks_per_scene(interval),
            )
    except BaseException:
        host.close()
        raise
    _run(recorder, capture, target, realtime=realtime)
    echo_notes([*_summary(recorder.state, target), *episode_notes(capture, target.directory)])


def _run(recorder: Recorder, capture: EpisodeCapture | None, target: _Target, *, realtime: bool) -> None:
    try:
        with until_ended():
            if realtime:
                _be_favoured()
            if capture is not None:
                capture.start()
            recorder.start()
            if realtime:
                _look_in_real_time(recorder)
            told = ""
            with progress_line() as show:
                show(_progress_text(recorder.state, target))
                while not recorder.done.wait(_SHOW_EVERY_S):
                    show(_progress_text(recorder.state, target))
                    told = _tell_trouble(recorder.state, told)
    finally:
        with progress("writing what is left"), _disk_errors():
            try:
                recorder.stop()
            finally:
                if capture is not None:
                    capture.stop()


@dataclass(frozen=True, slots=True)
class _Target:
    """What is recorded to. ``directory``: that of the recording, or the spool of what goes to an object store."""

    name: str
    directory: Path
    upload_to: Storage | None

    @classmethod
    def of(cls, place: str, spool: Path | None) -> _Target:
        """Raises UsageError for a URI that pyarrow does not know, and for a spool without one."""
        from ..store.storage import Storage, local_directory

        directory = local_directory(place)
        if directory is None:
            remote = Storage(place)
            return cls(remote.place, spool or _default_spool(remote.place), remote)
        if spool is not None:
            raise UsageError("--spool is for a recording in an object store; a directory needs none")
        return cls(str(directory), directory, None)


def _default_spool(place: str) -> Path:
    """A directory for each place: below /var/lib for root, else where the user's programs keep state."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    base = Path("/var/lib") if os.geteuid() == 0 else state
    name = re.sub(r"[^0-9A-Za-z.-]+", "_", place)[:60]
    return base / "kvmscope" / "spool" / f"{name}-{hashlib.blake2b(place.encode(), digest_size=4).hexdigest()}"


def _limits(
    interval_s: float, keep_s: float | None, size_bytes: int | None, tiers: tuple[RingTier, ...] | None
) -> RingLimits:
    """A ring if something makes it one; with a tier at least as fine as the interval all scenes are kept."""
    from ..store.ring import DEFAULT_TIERS, RingLimits, RingTier

    if keep_s is None and size_bytes is None and not tiers:
        return RingLimits()
    asked = DEFAULT_TIERS if tiers is None else tiers
    kept = (RingTier(tier.resolution_s if tier.resolution_s > interval_s else 0, tier.until_s) for tier in asked)
    return RingLimits(keep_s, size_bytes, tuple(kept))


def _be_favoured() -> None:
    """Lock the memory, and favour every thread that is started from now on. Raises PermissionNeeded.

    Python runs one thread at a time: while another thread of it is preempted, the thread that looks cannot run either,
    whatever its own priority is.
    """
    from ..linux import libc

    with _priority_errors():
        libc.lock_memory()
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)


def _look_in_real_time(recorder: Recorder) -> None:
    """Raises PermissionNeeded."""
    with _priority_errors(), suppress(ProcessLookupError):  # it has ended already
        if recorder.looking_thread is not None:
            os.sched_setscheduler(recorder.looking_thread, os.SCHED_RR, os.sched_param(_REALTIME_PRIORITY))


@contextmanager
def _priority_errors() -> Iterator[None]:
    try:
        yield
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


def _progress_text(state: RecorderState, target: _Target) -> str:
    lost = f", {state.lost} lost ({state.why_lost})" if state.lost else ""
    trouble = f" · {state.waiting} files wait: {state.trouble}" if state.trouble else ""
    return f"recording to {target.name}: {state.vms} VMs, {state.scenes} scenes{lost}{trouble} …"


def _tell_trouble(state: RecorderState, told: str) -> str:
    """Where nobody watches a terminal: note what cannot be stored when that begins and when it ends."""
    if state.trouble != told and not sys.stderr.isatty():
        ended = "stored again what had waited"
        echo_notes([f"not stored yet, tried again: {state.trouble}" if state.trouble else ended])
    return state.trouble


def _summary(state: RecorderState, target: _Target) -> Iterator[str]:
    lost = f"; lost: {state.lost} ({state.why_lost})" if state.lost else ""
    yield f"{state.scenes} scenes are in {target.name}{lost}"
    if state.trouble and state.waiting:
        what = "file is" if state.waiting == 1 else "files are"
        yield f"{state.waiting} {what} still in {target.directory}, for the next recorder there: {state.trouble}"
    elif state.trouble:
        yield f"the ring could not be trimmed: {state.trouble}"
