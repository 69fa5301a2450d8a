"""A recording or a snapshot, by the path or URI that a person names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..units import rfc3339
from .replay import LookPlan, SceneMoment, SceneSeries, TimeChoice, choose, omissions
from .requirements import require_pyarrow
from .snapshot import SnapshotFile, is_snapshot
from .spans import SceneSpan, open_spans
from .times import choose_times


def open_place(place: str) -> SceneSeries:
    """The recording or snapshot of this place; a snapshot needs no pyarrow.

    Raises UsageError, RecordingError, Unavailable without pyarrow.
    """
    if is_snapshot(place):
        return SnapshotFile(Path(place))
    require_pyarrow()
    from .recording import open_series  # it loads pyarrow

    return open_series(place)


@dataclass(frozen=True, slots=True)
class PlaceChoice:
    """A place and what is asked of it: a time or two, as they were typed."""

    place: str
    at: str | None = None
    between: tuple[str, str] | None = None

    def open(self, source: str = "auto") -> tuple[SceneSeries, Sequence[SceneMoment], TimeChoice]:
        """What is there, when its scenes were taken, and which of these times were asked for.

        Raises as ``open_place`` does, and UsageError for a ``source``, which is of a live host.
        """
        if source != "auto":
            raise UsageError("--source is for reading this host, and --from reads a recording")
        series = open_place(self.place)
        moments = series.moments()
        return series, moments, choose_times(moments, self.at, self.between)

    def look(self, source: str, plan: LookPlan) -> RecordedLook:
        """The scenes that a command with this plan looks at. Raises as ``open`` does."""
        series, moments, times = self.open(source)
        if times == TimeChoice() and not plan.goes_on:
            times = TimeChoice(at_ns=_focus_ns(series, self.place))
        chosen = choose(moments, plan, times)
        damaged = (f"damaged: {damage}" for damage in series.damage)
        notes = dict.fromkeys([*damaged, self._about(chosen), *omissions(moments, plan, times)])
        return RecordedLook(series, chosen, tuple(notes), is_span=times.is_span and plan.is_one_window)

    def _about(self, chosen: Sequence[SceneMoment]) -> str:
        first, last = rfc3339(chosen[0].taken_ns), rfc3339(chosen[-1].taken_ns)
        return f"from {self.place}, {first}" if first == last else f"from {self.place}, {first} to {last}"


@dataclass(frozen=True, slots=True)
class RecordedLook:
    """The chosen scenes of a series. ``notes``: what to say of them. ``is_span``: they are one interval."""

    series: SceneSeries
    chosen: Sequence[SceneMoment]
    notes: tuple[str, ...]
    is_span: bool


@dataclass(frozen=True, slots=True)
class PlaceSpans:
    """What a place has between two times: ``spans`` of its hosts, and what of it could not be read."""

    spans: Sequence[SceneSpan]
    damage: Sequence[Exception]
    notes: tuple[str, ...]


def spans_of_place(place: str, between: tuple[str, str] | None, hosts: Sequence[str] = ()) -> PlaceSpans:
    """Of these hosts of a recording, or of all. Raises UsageError, RecordingError."""
    series = open_place(place)
    found = open_spans(series, choose_times(series.moments(), None, between), hosts)
    left = f"{place}: {found.left_out} scenes of other boots or sources are left out"
    return PlaceSpans(found.spans, series.damage, (left,) if found.left_out else ())


def _focus_ns(series: SceneSeries, place: str) -> int | None:
    """The time of an episode that is shown if none was typed; None for what is not one."""
    if isinstance(series, SnapshotFile):
        return series.focus_ns
    from .episodes import focus_of  # likewise

    return focus_of(place)
