"""Opens the sides of a comparison that a user named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..analysis.difference_sides import MOST_SCENES
from ..store.places import spans_of_place
from ..view.diff import DiffSource


class OpenedSide(NamedTuple):
    """A side, the damage of its recording, and notes for the user."""

    damage: Sequence[Exception]
    notes: Sequence[str]
    source: DiffSource


@dataclass(frozen=True, slots=True)
class ChosenSide:
    """A place with times and hosts; none: all."""

    place: str
    between: tuple[str, str] | None
    hosts: tuple[str, ...]

    def open(self) -> OpenedSide:
        """Raises UsageError, RecordingError, Unavailable without pyarrow."""
        found = spans_of_place(self.place, self.between, self.hosts)
        source = DiffSource(self.place, [span.spread(MOST_SCENES) for span in found.spans])
        return OpenedSide(found.damage, found.notes, source)
