"""``--from``, ``--at`` and ``--between``: options with which commands read a recording in place of this host."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from click.core import ParameterSource

from ..errors import UsageError
from ..terminal.echo import echo_notes
from .options import PLACE, json_option, source_option

if TYPE_CHECKING:
    from ..collect import RecordedHost
    from ..store.places import PlaceChoice
    from ..store.replay import LookPlan

F = TypeVar("F", bound=Callable[..., Any])

_CHOICE, _IS_NOTED = "kvmscope.history", "kvmscope.history.noted"
_TIMES = "14:05, 14:05:09, 2026-11-26T14:05:09Z or -5m"


def history_options(function: F) -> F:
    """Adds the options of a command that can read a recording; ``session.open_host`` evaluates them."""

    @click.option("--from", "place", type=PLACE, metavar="PATH", help="Read this recording instead of this host.")
    @click.option("--at", metavar="TIME", help=f"Show this time of the recording: {_TIMES}.")
    @click.option("--between", nargs=2, metavar="TIME TIME", help="Show the time between these two, as one interval.")
    @functools.wraps(function)
    def command(*args: Any, place: str | None, at: str | None, between: tuple[str, str] | None, **options: Any) -> Any:
        if place is not None:
            from ..store.places import PlaceChoice  # not loaded at a start that reads no recording

            click.get_current_context().meta[_CHOICE] = PlaceChoice(place, at, between)
        elif at is not None or between is not None:
            raise UsageError("--at and --between need a recording; name one by --from")
        return function(*args, **options)

    return cast(F, command)


def reading_options(function: F) -> F:
    """Adds the options of every command that reads the host or a recording, and reports."""
    return history_options(source_option(json_option(function)))


def chosen_place() -> PlaceChoice | None:
    """The recording that the command line names, with its times; None if it names none."""
    return cast("PlaceChoice | None", click.get_current_context().meta.get(_CHOICE))


def is_recorded() -> bool:
    """Whether the command line names a recording."""
    return chosen_place() is not None


def is_span() -> bool:
    """Whether the command line names two times of a recording, which bound an interval."""
    choice = chosen_place()
    return choice is not None and choice.between is not None


def is_left_as_it_is(*options: str) -> bool:
    """Whether the command line has none of these options."""
    source = click.get_current_context().get_parameter_source
    return all(source(option) is ParameterSource.DEFAULT for option in options)


def refuse_counting() -> None:
    """Raises UsageError for ``--count`` with a recording."""
    if is_recorded():
        raise UsageError("--count is for reading this host; a recording has only what was counted while it was made")


def open_recorded(source: str, plan: LookPlan | None) -> RecordedHost:
    """The recording of this command line. Raises UsageError, RecordingError, Unavailable without pyarrow."""
    from ..collect import GrowingRecording, RecordedHost
    from ..store.replay import LookPlan

    choice, meta = chosen_place(), click.get_current_context().meta
    assert choice is not None
    look = choice.look(source, plan or LookPlan())
    if not meta.get(_IS_NOTED):
        echo_notes(look.notes)
        meta[_IS_NOTED] = True
    if look.can_grow:
        return GrowingRecording(look.series, look.chosen)
    return RecordedHost(look.series, look.chosen, is_span=look.is_span, looks_at_each=look.is_whole)
