"""The time spans with scenes, by host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from .values import Answer, Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineStretch:
    """A time span without a break."""

    begin: Annotated[Moment, "The first scene."]
    end: Annotated[Moment, "The last scene."]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineHost:
    """One host."""

    id: Annotated[str, "Opaque id of the host; empty if it is not known."]
    name: Annotated[str | None, "Its host name. Untrusted text."]
    live: Annotated[bool, "Whether it is the host that this server reads."]
    begin: Annotated[Moment, "The first scene."]
    end: Annotated[Moment, "The last scene."]
    scenes: Annotated[int, "Number of scenes."]
    step_s: Annotated[float, "Median of the seconds from a scene to the next; 0 if there is one scene."]
    stretches: Annotated[Sequence[TimelineStretch], "When there are scenes, the earliest first; the last hundreds."]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineView(Answer):
    """The hosts and times that can be viewed."""

    live: Annotated[bool, "Whether this server reads a host; else it has a recording alone."]
    recording: Annotated[str | None, "The recording; null if there is none."]
    start: Annotated[Moment | None, "The time that is shown at first; null for the newest."]
    hosts: Annotated[Sequence[TimelineHost], "Every host that there are scenes of."]
    damage: Annotated[Sequence[str], "What of the recording could not be read. Untrusted text."]
