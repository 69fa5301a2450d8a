"""The messages of a recorder while it records and at its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from .text import counted

if TYPE_CHECKING:  # these import pyarrow
    from ..store.recorder import RecorderState
    from ..store.target import RecordingTarget


class EpisodeCounts(Protocol):
    """The numbers of a recorder's episodes. ``trouble``: why one could not be written, or empty."""

    @property
    def begun(self) -> int: ...

    @property
    def trouble(self) -> str: ...

    @property
    def dropped(self) -> int: ...


def recording_progress(state: RecorderState, target: RecordingTarget) -> str:
    """The amount recorded so far, in a line."""
    lost = f", {state.lost} lost ({state.why_lost})" if state.lost else ""
    trouble = f" · {state.waiting} files wait: {state.trouble}" if state.trouble else ""
    return f"recording to {target.name}: {counted(state.vms, 'VM')}, {counted(state.scenes, 'scene')}{lost}{trouble} …"


def trouble_note(trouble: str) -> str:
    """The message that storing fails for now; if ``trouble`` is empty, that it works again."""
    return f"not stored yet, tried again: {trouble}" if trouble else "stored the scenes that had waited"


def recording_summary(state: RecorderState, target: RecordingTarget) -> Iterator[str]:
    """The amount recorded, and what could not be stored."""
    lost = f"; lost: {state.lost} ({state.why_lost})" if state.lost else ""
    are = "is" if state.scenes == 1 else "are"
    yield f"{counted(state.scenes, 'scene')} {are} in {target.name}{lost}"
    if state.trouble and state.waiting:
        what = "file is" if state.waiting == 1 else "files are"
        yield f"{state.waiting} {what} still in {target.directory}, for the next recorder there: {state.trouble}"
    elif state.trouble:
        yield f"the ring could not be trimmed: {state.trouble}"


def episode_notes(capture: EpisodeCounts, directory: str) -> Iterator[str]:
    """The messages about the episodes of a recorder that has ended."""
    if capture.begun:
        yield f"{counted(capture.begun, 'episode')} began; `kvmscope episodes {directory}` lists them"
    if capture.trouble:
        yield f"an episode could not be written: {capture.trouble}"
    if capture.dropped:
        yield f"{counted(capture.dropped, 'scene')} could not be checked for episodes, because checking took too long"
