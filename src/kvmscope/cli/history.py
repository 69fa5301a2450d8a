"""``--from``, ``--at`` and ``--between``: commands look at a recording as they look at this host.

What a command looks at of a recording is in ``store.replay``, how its times are written in ``store.times``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from ..errors import Unavailable, UsageError
from ..units import rfc3339
from .echo import echo_notes
from .options import json_option, source_option

if TYPE_CHECKING:
    from ..collect import RecordedHost
    from ..store.replay import LookPlan, SceneMoment, SceneSeries, TimeChoice

F = TypeVar("F", bound=Callable[..., Any])

_META = "kvmscope.history"
_TIMES = "14:05, 14:05:09, 2026-11-26T14:05:09Z or -5m"


@dataclass
class HistoryOptions:
    """What was typed. ``place``: a recording; without it the others have no meaning."""

    place: str | None = None
    at: str | None = None
    between: tuple[str, str] | None = None
    is_noted: bool = False


def history_options(function: F) -> F:
    """The options of a command that can look at a recording; ``session.open_host`` heeds them."""

    @click.option("--from", "place", metavar="PATH", help="Look at this recording instead of this host.")
    @click.option("--at", metavar="TIME", help=f"What there was at this time of the recording: {_TIMES}.")
    @click.option(
        "--between", nargs=2, metavar="TIME TIME", help="All between these times of the recording, as one interval."
    )
    @functools.wraps(function)
    def command(*args: Any, place: str | None, at: str | None, between: tuple[str, str] | None, **options: Any) -> Any:
        click.get_current_context().meta[_META] = HistoryOptions(place, at, between)
        return function(*args, **options)

    return cast(F, command)


def reading_options(function: F) -> F:
    """The options of every command that reads the host or a recording, and reports."""
    return history_options(source_option(json_option(function)))


def choose_place(place: str) -> None:
    """Look at this recording, as --from would have it."""
    click.get_current_context().meta[_META] = HistoryOptions(place)


def is_recorded() -> bool:
    """Whether the command line names a recording. Raises UsageError for times without one."""
    asked = _asked()
    if asked.place is None and (asked.at is not None or asked.between is not None):
        raise UsageError("--at and --between are times of a recording, which --from names")
    return asked.place is not None


def is_span() -> bool:
    """Whether the command line names two times of a recording, which are an interval."""
    return _asked().between is not None


def refuse_counting() -> None:
    """Raises UsageError for ``--count`` with a recording."""
    if is_recorded():
        raise UsageError("--count counts on this host; a recording has what was counted when it was made")


def open_recorded(source: str, plan: LookPlan) -> RecordedHost:
    """The recording of this command line. Raises UsageError, RecordingError, Unavailable without pyarrow."""
    from ..collect import RecordedHost
    from ..store.replay import TimeChoice, choose, omissions

    series, moments, times = open_moments(source)
    asked = _asked()
    assert asked.place is not None
    if times == TimeChoice() and not plan.goes_on:
        times = TimeChoice(at_ns=_focus_ns(series, asked.place))
    chosen = choose(moments, plan, times)
    if not asked.is_noted:
        damaged = (f"damaged: {damage}" for damage in series.damage)
        echo_notes(dict.fromkeys([*damaged, _about(asked.place, chosen), *omissions(moments, plan, times)]))
        asked.is_noted = True
    return RecordedHost(series, chosen, is_span=times.is_span and plan.is_one_window)


def open_moments(source: str) -> tuple[SceneSeries, Sequence[SceneMoment], TimeChoice]:
    """The recording of this command line, when its scenes were taken, and which of these times were asked for.

    Raises UsageError, RecordingError, Unavailable without pyarrow.
    """
    asked = _asked()
    assert asked.place is not None
    if source != "auto":
        raise UsageError("--source is for reading this host, and --from reads a recording")
    from ..store.times import choose_times

    series = open_place(asked.place)
    moments = series.moments()
    return series, moments, choose_times(moments, asked.at, asked.between)


def asked_place() -> str | None:
    """The recording that the command line names by --from."""
    return _asked().place


def open_place(place: str) -> SceneSeries:
    """The recording or snapshot of this place; a snapshot needs no pyarrow. Raises as ``open_moments`` does."""
    from ..store.snapshot import SnapshotFile, is_snapshot

    if is_snapshot(place):
        return SnapshotFile(Path(place))
    require_pyarrow()
    from ..store.recording import open_series

    return open_series(place)


def _focus_ns(series: SceneSeries, place: str) -> int | None:
    """The time of an episode that is shown if none was typed; None for what is not one."""
    from ..store.snapshot import SnapshotFile

    if isinstance(series, SnapshotFile):
        return series.focus_ns
    from ..store.episodes import focus_of

    return focus_of(place)


def require_pyarrow() -> None:
    """Raises Unavailable if the extra for recordings is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise Unavailable("recordings need pyarrow", remedy="pip install 'kvmscope[history]'") from None


def _asked() -> HistoryOptions:
    return click.get_current_context().meta.get(_META) or HistoryOptions()


def _about(place: str, chosen: Sequence[SceneMoment]) -> str:
    first, last = rfc3339(chosen[0].taken_ns), rfc3339(chosen[-1].taken_ns)
    return f"from {place}, {first}" if first == last else f"from {place}, {first} to {last}"
