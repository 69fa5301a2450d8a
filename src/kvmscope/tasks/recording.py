"""What ``record`` does: a recorder and what keeps episodes beside it, from their start to their end."""

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
from ..console.streams import writing_errors
from ..errors import UsageError
from ..linux import priority
from ..view.groups import check_groups
from ..view.recording import recording_progress, trouble_note

if TYPE_CHECKING:  # loading them loads pyarrow
    from ..capture.consumer import EpisodeCapture
    from ..store.recorder import Recorder
    from ..store.target import RecordingTarget

_COUNTING_SOURCES = ("auto", "bpf", "pinned")
_SHOW_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class EpisodePlan:
    """Which episodes a recorder keeps. ``rate_s``: how often it looks for them, if its interval is longer."""

    is_on: bool
    rate_s: float
    limits: EpisodeLimits

    def looks_per_scene(self, interval_s: float) -> int:
        """Into how many looks an interval of the recording is divided."""
        return max(1, round(interval_s / self.rate_s)) if self.is_on else 1

    def check(self, source: str) -> None:
        """Raises UsageError for groups that there are not, or that ``source`` does not count."""
        check_groups(self.limits.groups)
        if self.limits.groups and not self.is_on:
            raise UsageError("--count-during counts in episodes, which --no-episodes switches off")
        if self.limits.groups and source not in _COUNTING_SOURCES:
            raise UsageError(f"groups are counted by the sources 'bpf' and 'pinned', not {source!r}")

    def capture(
        self, directory: Path, *, interval_s: float, source: str, counted: Sequence[str]
    ) -> EpisodeCapture | None:
        """What keeps episodes of a recording; None if there are to be none. ``counted``: groups of the recording."""
        if not self.is_on:
            return None
        from ..capture.consumer import EpisodeCapture

        def open_it(groups: Sequence[str]) -> Host:
            return open_host(source, groups=[*counted, *groups])

        groups = tuple(name for name in dict.fromkeys(self.limits.groups) if name not in counted)
        rate_s = interval_s / self.looks_per_scene(interval_s)
        return EpisodeCapture(directory, replace(self.limits, groups=groups), open_host=open_it, interval_s=rate_s)


def run_recorder(
    recorder: Recorder,
    capture: EpisodeCapture | None,
    target: RecordingTarget,
    *,
    realtime: bool,
    note: Callable[[str], None],
) -> None:
    """Records until the end or an interruption, and writes what is left. A terminal shows how far it is; without one,
    ``note`` is told when something cannot be stored, and when it can be again.
    """
    try:
        with until_ended():
            if realtime:
                priority.favour_process()
            if capture is not None:
                capture.start()
            recorder.start()
            if realtime and recorder.looking_thread is not None:
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
            if recorder.state.trouble != told and not sys.stderr.isatty():
                told = recorder.state.trouble
                note(trouble_note(told))
