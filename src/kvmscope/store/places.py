"""Opens a recording or a snapshot by the path or URI that a user gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..units import rfc3339
from .episode_note import EpisodeNote
from .replay import (
    MS_NS,
    LookPlan,
    SceneMoment,
    SceneSeries,
    TimeChoice,
    choose,
    omissions,
    readable_moments,
)
from .requirements import require_pyarrow
from .snapshot import SnapshotFile, is_snapshot
from .spans import SceneSpan, open_spans
from .times import choose_times


def open_place(place: str) -> SceneSeries:
    """The recording or snapshot at this place; a snapshot needs no pyarrow.

    Raises UsageError, RecordingError, Unavailable without pyarrow.
    """
    if is_snapshot(place):
        return SnapshotFile(Path(place))
    require_pyarrow()
    from .recording import open_series  # loads pyarrow

    return open_series(place)


@dataclass(frozen=True, slots=True)
class PlaceChoice:
    """A place with the requested time or times, as typed."""

    place: str
    at: str | None = None
    between: tuple[str, str] | None = None

    def open(self, source: str = "auto") -> tuple[SceneSeries, Sequence[SceneMoment], TimeChoice]:
        """The series, the moments of its scenes, and the requested times.

        Raises as ``open_place`` does, and UsageError for a ``source``, which applies to a live host only.
        """
        if source != "auto":
            raise UsageError("--source is for reading this host, and --from reads a recording")
        series = open_place(self.place)
        moments = readable_moments(series)
        return series, moments, choose_times(moments, self.at, self.between)

    def look(self, source: str, plan: LookPlan) -> RecordedLook:
        """The scenes that a command with this plan looks at. Raises as ``open`` does."""
        series, moments, times = self.open(source)
        episode = None
        if times == TimeChoice() and not plan.goes_on:
            episode = _episode_note(series, self.place)
            times = _times_of_episode(episode, moments, plan)
        chosen = choose(moments, plan, times)
        damaged = (f"damaged: {damage}" for damage in series.damage)
        notes = dict.fromkeys([*damaged, self._about(chosen), *omissions(moments, plan, times)])
        return RecordedLook(
            series,
            chosen,
            tuple(notes),
            is_span=times.is_span and plan.is_one_window,
            is_whole=plan.whole_episode and episode is not None,
            can_grow=series.can_grow and plan.goes_on and not times.is_span,
        )

    def _about(self, chosen: Sequence[SceneMoment]) -> str:
        first, last = rfc3339(chosen[0].taken_ns), rfc3339(chosen[-1].taken_ns)
        return f"from {self.place}, {first}" if first == last else f"from {self.place}, {first} to {last}"


@dataclass(frozen=True, slots=True)
class RecordedLook:
    """The chosen scenes of a series. ``notes``: remarks for the user. ``is_span``: they are one interval.

    ``is_whole``: they are an episode, whose intervals are from each scene to the next. ``can_grow``: they reach to the
    end of a recording that a recorder may be appending to.
    """

    series: SceneSeries
    chosen: Sequence[SceneMoment]
    notes: tuple[str, ...]
    is_span: bool
    is_whole: bool
    can_grow: bool


@dataclass(frozen=True, slots=True)
class PlaceSpans:
    """The data of a place between two times: ``spans`` of its hosts, and the damage found."""

    spans: Sequence[SceneSpan]
    damage: Sequence[Exception]
    notes: tuple[str, ...]


def spans_of_place(place: str, between: tuple[str, str] | None, hosts: Sequence[str] = ()) -> PlaceSpans:
    """The spans of these hosts of a recording, or of all. Raises UsageError, RecordingError."""
    series = open_place(place)
    found = open_spans(series, choose_times(readable_moments(series), None, between), hosts)
    left = f"{place}: {found.left_out} scenes of other boots or sources are left out"
    return PlaceSpans(found.spans, series.damage, (left,) if found.left_out else ())


def _episode_note(series: SceneSeries, place: str) -> EpisodeNote | None:
    """The note of an episode or of a snapshot of one; None for anything else."""
    if isinstance(series, SnapshotFile):
        return series.episode
    from .episodes import note_of  # loads pyarrow too

    return note_of(place)


def _times_of_episode(note: EpisodeNote | None, moments: Sequence[SceneMoment], plan: LookPlan) -> TimeChoice:
    """The time of an episode that is shown by default."""
    if note is None:
        return TimeChoice()
    if plan.whole_episode and moments:
        until_ns = moments[-1].taken_ns if note.cleared_ns is None else note.cleared_ns - MS_NS
        return TimeChoice(since_ns=moments[0].taken_ns, until_ns=until_ns)
    return TimeChoice(at_ns=note.focus_ns)
