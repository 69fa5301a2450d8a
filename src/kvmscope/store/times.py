"""Times of a recording as users write them: a date, a time of day, or a duration before the end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from ..errors import UsageError
from ..units import parse_seconds, quoted
from .replay import SceneMoment, TimeChoice

TIME_FORMS = "14:05, 14:05:09, 2026-11-26T14:05:09Z or -5m"


def choose_times(moments: Sequence[SceneMoment], at: str | None, between: tuple[str, str] | None) -> TimeChoice:
    """The requested times of a recording with these scenes. Raises UsageError."""
    if at is not None and between is not None:
        raise UsageError("--at cannot be combined with --between")
    if not moments or (at is None and between is None):
        return TimeChoice()
    if between is None:
        return TimeChoice(at_ns=_time_in(moments, at or ""))
    since_ns, until_ns = (_time_in(moments, text) for text in between)
    if since_ns > until_ns:
        raise UsageError(f"{between[0]} is after {between[1]}")
    return TimeChoice(since_ns=since_ns, until_ns=until_ns)


def _time_in(moments: Sequence[SceneMoment], text: str) -> int:
    """A time of day is before the end of the recording; if the clock was set back last, before its latest time."""
    found = parse_time(text, moments[-1].taken_ns)
    if found < min(moment.taken_ns for moment in moments) and not text.startswith("-"):
        return parse_time(text, max(moment.taken_ns for moment in moments))
    return found


def parse_time(text: str, end_ns: int) -> int:
    """A time of a recording that ends at ``end_ns``, CLOCK_REALTIME nanoseconds. Raises UsageError.

    RFC 3339, in UTC without an offset; a time of day: the last one before the end; or ``-5m``: before the end.
    """
    if re.fullmatch(r"-[0-9.]+\s*[a-z]*", text):
        return end_ns - round(_seconds(text[1:]) * 1e9)
    end = datetime.fromtimestamp(end_ns // 10**9, UTC)
    if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?", text):
        found = _datetime(f"{end:%Y-%m-%d}T{text.zfill(len(text) + (text[1] == ':'))}")
        if _ns(found) > end_ns:
            found -= timedelta(days=1)
        return _ns(found)
    return _ns(_datetime(text))


def _seconds(text: str) -> float:
    try:
        return parse_seconds(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _datetime(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{quoted(text)} is not a time such as {TIME_FORMS}") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _ns(time: datetime) -> int:
    since = time - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
