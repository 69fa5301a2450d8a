"""The result of loading recordings into an engine, as a view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from .text import counted
from .values import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadView(Answer):
    """The answer of `fleet load`."""

    store: Annotated[str, "Where they were loaded to: a URL without its password."]
    recordings: Annotated[int, "Number of recordings that were read."]
    new_scenes: Annotated[int, "Number of scenes that were added."]


def load_view(store: str, recordings: int, scenes: int) -> LoadView:
    return LoadView(store=store, recordings=recordings, new_scenes=scenes)


def load_lines(view: LoadView) -> list[str]:
    """The result in one line."""
    return [f"{counted(view.new_scenes, 'new scene')} of {counted(view.recordings, 'recording')} are in {view.store}"]
