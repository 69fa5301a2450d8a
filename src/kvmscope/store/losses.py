"""Scenes that were not recorded and events of the clocks, kept until a written scene reports them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ..sample import Gap
from ..scene import Scene
from .schedule import CLOCK_EVENT


@dataclass
class LossLog:
    """``lost``: number of lost scenes by reason. ``events``: other events for readers of the next scene."""

    lost: Counter[str] = field(default_factory=Counter)
    events: list[str] = field(default_factory=list)

    def lose(self, reason: str, count: int = 1) -> None:
        """Note that ``count`` scenes were not recorded for this reason."""
        if count:
            self.lost[reason] += count

    def add(self, other: LossLog) -> None:
        """Add the entries of another log."""
        self.lost += other.lost
        self.events += other.events

    def told_by(self, scene: Scene) -> Scene:
        """The scene with a gap for each entry."""
        if self.is_empty:
            return scene
        return replace(scene, sample=replace(scene.sample, gaps=(*scene.sample.gaps, *self.gaps())))

    @property
    def is_empty(self) -> bool:
        return not self.events and not self.lost

    def gaps(self) -> tuple[Gap, ...]:
        """A gap for each entry."""
        return (
            *(Gap(event) for event in self.events),
            *(Gap(_lost_text(reason, count)) for reason, count in self.lost.items()),
        )

    def take_up(self, gaps: Iterable[Gap]) -> None:
        """Add the entries in the gaps of a scene that is dropped, as made by ``gaps``."""
        for gap in gaps:
            found = _LOST.fullmatch(gap.reason)
            if found:
                self.lose(found[2], int(found[1]))
            else:
                self.events.append(gap.reason)


def is_of_recording(gap: Gap) -> bool:
    """Whether a gap reports an event of the recording or of the clocks, and not missing data of its scene."""
    is_of_host = gap.vm is None and gap.vcpu is None and gap.provider is None and gap.stat is None
    return is_of_host and bool(_LOST.fullmatch(gap.reason) or CLOCK_EVENT.fullmatch(gap.reason))


def _lost_text(reason: str, count: int) -> str:
    return f"{count} {'scene was' if count == 1 else 'scenes were'} not recorded before this one: {reason}"


_LOST = re.compile(r"(\d{1,15}) scenes? (?:was|were) not recorded before this one: (.*)", re.DOTALL)
