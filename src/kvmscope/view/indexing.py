"""The result of indexing a directory of recordings, as a view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..units import format_bytes
from .text import counted
from .values import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexView(Answer):
    """The answer of `fleet index`."""

    place: Annotated[str, "The directory whose recordings are indexed."]
    recordings: Annotated[int, "How many recordings it has."]
    segments: Annotated[int, "How many segments of them are indexed."]
    new_segments: Annotated[int, "How many of these were not indexed before."]
    size_bytes: Annotated[int, "Size of the index."]


def index_view(place: str, recordings: int, *, segments: int, new: int, size_bytes: int) -> IndexView:
    return IndexView(place=place, recordings=recordings, segments=segments, new_segments=new, size_bytes=size_bytes)


def index_lines(view: IndexView) -> list[str]:
    """The result in one line."""
    verb = "is" if view.segments == 1 else "are"
    indexed = f"{counted(view.segments, 'segment')} of {counted(view.recordings, 'recording')} {verb} indexed"
    return [f"{indexed}, {view.new_segments:,} of them new, in {format_bytes(view.size_bytes)}"]
