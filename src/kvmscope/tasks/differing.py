"""The sides of a comparison, by what a person named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..analysis.difference_sides import MOST_SCENES
from ..store.places import spans_of_place
from ..view.diff import DiffSource


class OpenedSide(NamedTuple):
    """A side, what of its recording could not be read, and what to say of it."""

    damage: Sequence[Exception]
    notes: Sequence[str]
    source: DiffSource


@dataclass(frozen=True, slots=True)
class ChosenSide:
    """A place, times of it, and hosts; none for all of them."""

    place: str
    between: tuple[str, str] | None
    hosts: tuple[str, ...]

    def open(self) -> OpenedSide:
        """Raises UsageError, RecordingError, Unavailable without pyarrow."""
        found = spans_of_place(self.place, self.between, self.hosts)
        source = DiffSource(self.place, [span.spread(MOST_SCENES) for span in found.spans])
        return OpenedSide(found.damage, found.notes, source)
