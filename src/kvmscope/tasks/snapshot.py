"""Makes snapshots: scenes, and the output of commands for them, for readers without kvmscope."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from ..codec.schema_json import encode
from ..collect import SceneHost
from ..console.progress import progress
from ..console.streams import write_file
from ..errors import UsageError
from ..scene import Scene
from ..store.episode_note import EpisodeNote
from ..store.snapshot import Snapshot, SnapshotAbout
from ..store.snapshot_scenes import SceneRedaction
from ..view.check import CheckView, check_lines
from ..view.doctor_text import report_lines
from ..view.jsonout import dump, to_value
from ..view.screen import StatusScreen
from ..view.text import plain
from ..view.watch import Watch
from .kernels import kernel_of

_WIDTH = 120


def choose_file(file: str | None) -> str:
    """Where to write a snapshot, ``-`` for stdout. Raises UsageError for an existing file, and for a terminal."""
    if file is None:
        file = f"kvmscope-snapshot-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.zip"
    if file == "-":
        if sys.stdout.isatty():
            raise UsageError("a terminal cannot show a snapshot; name a file, or pipe it")
        return file
    if Path(file).exists():
        raise UsageError(f"{file} exists, and is not overwritten")
    return file


def read_scenes(host: SceneHost, intervals: int, interval_s: float, *, all_of_it: bool) -> list[Scene]:
    """The scenes of this number of intervals; with ``all_of_it``, all scenes of a recorded time."""
    with progress("reading two intervals"):
        scenes = [host.look()]
        while (all_of_it or len(scenes) <= intervals) and host.wait_for_more():
            scenes.append(host.look_after(interval_s))
    return scenes


def write_snapshot(target: str, data: bytes) -> None:
    """Write to a new file, or to stdout for ``-``. Raises OutputError."""
    if target == "-":
        sys.stdout.buffer.write(data)
        return
    write_file(Path(target), data, is_new=True)


def make_snapshot(
    scenes: Sequence[Scene], note: EpisodeNote | None, check: CheckView | None, *, anonymise: bool
) -> Snapshot:
    """A snapshot of consecutive scenes. ``note``: of their episode, if any. ``check``: what can be read on this host,
    None for recorded scenes. ``anonymise``: redact everything with one new key."""
    if anonymise:
        redaction = SceneRedaction(scenes)
        check = None if check is None else _redacted_check(check, redaction)
        note = None if note is None else redaction.note(note)
        scenes = [redaction.scene(scene) for scene in scenes]
    about = SnapshotAbout(version("kvmscope"), time.time_ns(), anonymise)
    return Snapshot(about, scenes, note, dict(_texts(scenes, check)))


def _redacted_check(check: CheckView, redaction: SceneRedaction) -> CheckView:
    names = redaction.names
    host = replace(
        check.host,
        name=None if check.host.name is None else names.name(check.host.name),
        kernel=None if check.host.kernel is None else redaction.release(check.host.kernel),
        user="root" if check.host.is_root else names.name(check.host.user),
        unknown={fact: names.text(reason) for fact, reason in check.host.unknown.items()},
    )
    sources = [
        replace(
            each,
            reason=None if each.reason is None else names.text(each.reason),
            remedy=None if each.remedy is None else names.text(each.remedy),
            gaps=tuple(map(names.text, each.gaps)),
        )
        for each in check.sources
    ]
    return replace(check, host=host, sources=tuple(sources))


def _texts(scenes: Sequence[Scene], check: CheckView | None) -> Iterator[tuple[str, str]]:
    """The output of commands for the scenes, for readers without kvmscope, and the result of ``check``."""
    watch = Watch(keeps_ended=True)
    views = [view for scene in scenes if (view := watch.add(scene)) is not None]
    if views:
        report = views[-1].report()
        screen = StatusScreen(limit=sys.maxsize)
        yield (
            "status.txt",
            "\n".join(plain(screen.lines(screen.overview(views[-1].since(views[0])), width=_WIDTH))) + "\n",
        )
        yield "doctor.txt", "\n".join(report_lines(report, width=_WIDTH, lists_unchecked=True)) + "\n"
        yield "apicv.json", dump(to_value(views[-1].apicv)) + "\n"
    yield "schema.json", encode(kernel_of(scenes[-1]))
    if check is not None:
        yield "check.txt", "\n".join(check_lines(check)) + "\n"
        yield "check.json", dump(to_value(check)) + "\n"
