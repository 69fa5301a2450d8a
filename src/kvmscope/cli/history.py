"""``--from``, ``--at`` and ``--between``: commands look at a recording as they look at this host.

What a command looks at of a recording is in ``store.replay``; here: what was typed, and the notes that go with it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from ..errors import Unavailable, UsageError
from .echo import echo_notes
from .options import parse_duration, shortened

if TYPE_CHECKING:
    from ..collect import RecordedHost
    from ..store.replay import LookPlan, SceneMoment, TimeChoice

F = TypeVar("F", bound=Callable[..., Any])

_META = "kvmscope.history"
_TIMES = "14:05, 14:05:09, 2026-11-26T14:05:09Z or -5m"


_OPTIONS: Sequence[tuple[tuple[str, ...], Mapping[str, Any]]] = (
    (("--from", "place"), {"metavar": "PATH", "help": "Look at this recording instead of this host."}),
    (("--at",), {"metavar": "TIME", "help": f"What there was at this time of the recording: {_TIMES}."}),
    (
        ("--between",),
        {"nargs": 2, "metavar": "TIME TIME", "help": "All between these times of the recording, as one interval."},
    ),
)


@dataclass
class HistoryOptions:
    """What was typed. ``place``: a recording; without it the others have no meaning."""

    place: str | None = None
    at: str | None = None
    between: tuple[str, str] | None = None
    is_noted: bool = False


def history_options(function: F) -> F:
    """The options of a command that can look at a recording; ``session.open_host`` heeds them."""

    @functools.wraps(function)
    def command(*args: Any, place: str | None, at: str | None, between: tuple[str, str] | None, **options: Any) -> Any:
        click.get_current_context().meta[_META] = HistoryOptions(place, at, between)
        return function(*args, **options)

    for names, settings in reversed(_OPTIONS):
        command = click.option(*names, **settings)(command)
    return cast(F, command)


def is_recorded() -> bool:
    """Whether the command line names a recording. Raises UsageError for times without one."""
    asked: HistoryOptions = click.get_current_context().meta.get(_META) or HistoryOptions()
    if asked.place is None and (asked.at is not None or asked.between is not None):
        raise UsageError("--at and --between are times of a recording, which --from names")
    return asked.place is not None


def is_span() -> bool:
    """Whether the command line names two times of a recording, which are an interval."""
    asked: HistoryOptions | None = click.get_current_context().meta.get(_META)
    return asked is not None and asked.between is not None


def open_recorded(source: str, plan: LookPlan) -> RecordedHost:
    """The recording of this command line. Raises UsageError, RecordingError, Unavailable without pyarrow."""
    from ..collect import RecordedHost
    from ..store.replay import choose

    asked: HistoryOptions = click.get_current_context().meta[_META]
    assert asked.place is not None
    if source != "auto":
        raise UsageError("--source is for reading this host, and --from reads a recording")
    require_pyarrow()
    from ..store.recording import open_series

    series = open_series(asked.place)
    moments = series.moments()
    times = _times(asked, moments)
    chosen = choose(moments, plan, times)
    if not asked.is_noted:
        echo_notes(dict.fromkeys([*(f"damaged: {damage}" for damage in series.damage), _about(asked.place, chosen)]))
        asked.is_noted = True
    return RecordedHost(series, chosen, is_span=times.is_span and plan.is_one_window)


def require_pyarrow() -> None:
    """Raises Unavailable if the extra for recordings is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise Unavailable("recordings need pyarrow", remedy="pip install 'kvmscope[history]'") from None


def _about(place: str, chosen: Sequence[SceneMoment]) -> str:
    first, last = chosen[0].taken_ns, chosen[-1].taken_ns
    return f"from {place}, {_date(last)}" if first == last else f"from {place}, {_date(first)} to {_date(last)}"


def _date(time_ns: int) -> str:
    text = datetime.fromtimestamp(time_ns // 10**9, UTC).isoformat()
    return f"{text.removesuffix('+00:00')}.{time_ns // 10**6 % 1000:03}Z"


def _times(asked: HistoryOptions, moments: Sequence[SceneMoment]) -> TimeChoice:
    from ..store.replay import TimeChoice

    if asked.at is not None and asked.between is not None:
        raise UsageError("--at cannot be combined with --between")
    if not moments:
        return TimeChoice()
    end_ns = moments[-1].taken_ns
    if asked.at is not None:
        return TimeChoice(at_ns=parse_time(asked.at, end_ns))
    if asked.between is None:
        return TimeChoice()
    since_ns, until_ns = (parse_time(text, end_ns) for text in asked.between)
    if since_ns > until_ns:
        raise UsageError(f"{asked.between[0]} is after {asked.between[1]}")
    return TimeChoice(since_ns=since_ns, until_ns=until_ns)


def parse_time(text: str, end_ns: int) -> int:
    """A time of a recording that ends at ``end_ns``, CLOCK_REALTIME nanoseconds. Raises UsageError.

    RFC 3339, without an offset UTC; a time of day, the last one before the end; or ``-5m``, before the end.
    """
    if re.fullmatch(r"-[0-9.]+\s*[a-z]*", text):
        before_s = parse_duration(click.get_current_context(), click.Option(["--at"]), text[1:])
        return end_ns - round((before_s or 0) * 1e9)
    end = datetime.fromtimestamp(end_ns // 10**9, UTC)
    if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?", text):
        found = _datetime(f"{end:%Y-%m-%d}T{text.zfill(len(text) + (text[1] == ':'))}")
        if _ns(found) > end_ns:
            found -= timedelta(days=1)
        return _ns(found)
    return _ns(_datetime(text))


def _datetime(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{shortened(text)} is not a time such as {_TIMES}") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _ns(time: datetime) -> int:
    since = time - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
