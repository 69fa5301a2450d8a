"""The work of ``record``: runs a recorder and the capture of episodes from start to end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..capture.limits import EpisodeLimits
from ..collect import Host, open_host
from ..console.interrupts import until_ended
from ..console.progress import progress, progress_line
from ..console.streams import is_screen, writing_errors
from ..errors import UsageError
from ..linux import priority
from ..view.groups import check_groups
from ..view.recording import recording_progress, trouble_note

if TYPE_CHECKING:  # loading them loads pyarrow
    from ..capture.consumer import EpisodeCapture
    from ..store.recorder import Recorder
    from ..store.ring import RingLimits
    from ..store.target import RecordingTarget

_COUNTING_SOURCES = ("auto", "bpf", "pinned")
_SHOW_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class EpisodePlan:
    """Which episodes a recorder keeps. ``rate_s``: how often to look for them, if its interval is longer."""

    is_on: bool
    rate_s: float
    limits: EpisodeLimits

    def looks_per_scene(self, interval_s: float) -> int:
        """The number of looks in an interval of the recording."""
        return max(1, round(interval_s / self.rate_s)) if self.is_on else 1

    def check(self, source: str) -> None:
        """Raises UsageError for groups that do not exist or that ``source`` cannot count."""
        check_groups(self.limits.groups)
        if self.limits.groups and not self.is_on:
            raise UsageError("--count-during cannot be combined with --no-episodes")
        if self.limits.groups and source not in _COUNTING_SOURCES:
            raise UsageError(f"groups are counted by the sources 'bpf' and 'pinned', not {source!r}")

    def capture(
        self, directory: Path, *, interval_s: float, source: str, counted: Sequence[str]
    ) -> EpisodeCapture | None:
        """The capture of episodes beside a recording; None if no episodes are kept. ``counted``: groups of the
        recording."""
        if not self.is_on:
            return None
        from ..capture.consumer import EpisodeCapture

        def open_it(groups: Sequence[str]) -> Host:
            return open_host(source, groups=[*counted, *groups])

        groups = tuple(name for name in dict.fromkeys(self.limits.groups) if name not in counted)
        rate_s = interval_s / self.looks_per_scene(interval_s)
        return EpisodeCapture(directory, replace(self.limits, groups=groups), open_host=open_it, interval_s=rate_s)


@dataclass(frozen=True, slots=True)
class RecordingPlan:
    """What to record, and where to. ``for_s``: duration, None for no end. ``is_realtime``: with locked memory and
    real-time priority."""

    target: RecordingTarget
    interval_s: float
    for_s: float | None
    limits: RingLimits
    episodes: EpisodePlan
    source: str
    groups: tuple[str, ...]
    is_realtime: bool


def record(
    plan: RecordingPlan, open_it: Callable[[], Host], note: Callable[[str], None]
) -> tuple[Recorder, EpisodeCapture | None]:
    """Record until the end or an interruption, and write the rest. Returns the recorder and the capture, both stopped.

    A terminal shows the progress; without one, ``note`` is called when data cannot be stored, and when it can be again.
    Raises UsageError, SourceError, OutputError, RecordingError.
    """
    from ..store.recorder import Recorder

    host, target, interval_s = open_it(), plan.target, plan.interval_s
    capture = plan.episodes.capture(target.directory, interval_s=interval_s, source=plan.source, counted=plan.groups)
    try:
        with writing_errors():
            recorder = Recorder(
                host,
                target.directory,
                interval_s=interval_s,
                for_s=plan.for_s,
                limits=plan.limits,
                upload_to=target.upload_to,
                reopen=open_it,
                consumer=capture,
                looks_per_scene=plan.episodes.looks_per_scene(interval_s),
            )
    except BaseException:
        host.close()
        raise
    _run(recorder, capture, target, is_realtime=plan.is_realtime, note=note)
    return recorder, capture


def _run(
    recorder: Recorder,
    capture: EpisodeCapture | None,
    target: RecordingTarget,
    *,
    is_realtime: bool,
    note: Callable[[str], None],
) -> None:
    try:
        with until_ended():
            if is_realtime:
                priority.favour_process()
            if capture is not None:
                capture.start()
            recorder.start()
            if is_realtime and recorder.looking_thread is not None:
                priority.run_in_real_time(recorder.looking_thread)
            _show(recorder, target, note)
    finally:
        with progress("writing what is left"), writing_errors():
            try:
                recorder.stop()
            finally:
                if capture is not None:
                    capture.stop()


def _show(recorder: Recorder, target: RecordingTarget, note: Callable[[str], None]) -> None:
    told = ""
    with progress_line() as show:
        show(recording_progress(recorder.state, target))
        while not recorder.done.wait(_SHOW_EVERY_S):
            show(recording_progress(recorder.state, target))
            if recorder.state.trouble != told and not is_screen(sys.stderr):
                told = recorder.state.trouble
                note(trouble_note(told))
