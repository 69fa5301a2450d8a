"""The note of an episode: why it was recorded, what began and ended in it, and which groups counted; to text and back.

Rule: the scenes are the record; the note says what to look for in them. It is rewritten at each change, so if the
recorder is killed, the episode has a note without an end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from ..analysis.findings import EndCause
from ..catalog.findings import Severity
from ..codec import plain
from ..errors import FormatError, RecordingError

VERSION: Final = 1
_FORMAT: Final = "kvmscope-episode"


class EpisodeEnd(Enum):
    """Why an episode ended: its findings ended, a limit of time or size was reached, or the recorder was stopped."""

    CLEARED = "cleared"
    LONGEST = "longest"
    LARGEST = "largest"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class NotedFinding:
    """A finding of an episode. ``evidence`` and ``cost_cpus`` are those of its costliest window.

    ``began_ns``: beginning of the first window in which its rule held. ``ended_ns``, ``end``: None until it ends.
    All times are CLOCK_REALTIME.
    """

    rule: str
    severity: Severity
    title: str
    vm: str
    name: str
    vcpu: int | None
    began_ns: int
    cost_cpus: float | None
    evidence: Mapping[str, float | None]
    ended_ns: int | None = None
    end: EndCause | None = None


@dataclass(frozen=True, slots=True)
class NotedGroup:
    """A group that was requested. ``cpus``: the largest measured or expected cost, None if unknown.

    ``on_ns``: time of the first scene with the group, None if it never counted. ``off_ns``: when it was stopped before
    the end. ``why_not``: why it did not count, or not until the end; else empty.
    """

    name: str
    on_ns: int | None = None
    off_ns: int | None = None
    cpus: float | None = None
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class EpisodeNote:
    """``since_ns``: time of the first scene. ``began_ns``: when the first finding was seen.

    ``focus_ns``: the last time at which its main finding was seen. ``more_findings``: number of findings beyond the
    limit of a note. ``ended_ns``, ``why_ended``: None as long as it is being recorded, and permanently if the recorder
    was killed.
    """

    since_ns: int
    began_ns: int
    findings: tuple[NotedFinding, ...] = ()
    more_findings: int = 0
    groups: tuple[NotedGroup, ...] = ()
    focus_ns: int | None = None
    ended_ns: int | None = None
    why_ended: EpisodeEnd | None = None

    @property
    def cleared_ns(self) -> int | None:
        """When the last of its findings ended; None if any has not ended or there is none."""
        ends = [finding.ended_ns for finding in self.findings]
        return max((end for end in ends if end is not None), default=None) if None not in ends else None


def note_text(note: EpisodeNote) -> str:
    """The note as JSON."""
    head = {"format": _FORMAT, "version": VERSION}
    return json.dumps(head | plain.dump(EpisodeNote, note), allow_nan=False) + "\n"


def parse_note(text: str, path: str) -> EpisodeNote:
    """Parse the text of ``note_text``. Raises RecordingError, which names ``path``."""
    try:
        found: Any = json.loads(text)
        if not isinstance(found, dict) or found.get("format") != _FORMAT:
            raise RecordingError("it does not describe an episode", path=path)
        if found.get("version") != VERSION:
            reason = f"the episode has version {found.get('version')!r:.20}; this kvmscope reads {VERSION}"
            raise RecordingError(f"{reason}: use a newer one", path=path)
        note: EpisodeNote = plain.load(EpisodeNote, found, what="note")
    except (ValueError, RecursionError, FormatError) as error:
        raise RecordingError(f"the note of the episode is damaged: {error!s:.120}", path=path) from None
    return note
