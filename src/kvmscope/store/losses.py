"""Scenes that were not recorded, and what happened to the clocks, until a scene is written that says so."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from ..sample import Gap
from ..scene import Scene


@dataclass
class LossLog:
    """``lost``: how many scenes by reason. ``events``: what else a reader of the next scene has to know."""

    lost: Counter[str] = field(default_factory=Counter)
    events: list[str] = field(default_factory=list)

    def lose(self, reason: str, count: int = 1) -> None:
        """``count`` scenes were not recorded, for this reason."""
        if count:
            self.lost[reason] += count

    def add(self, other: LossLog) -> None:
        """What another log has, too."""
        self.lost += other.lost
        self.events += other.events

    def told_by(self, scene: Scene) -> Scene:
        """The scene with a gap for each entry."""
        gaps = [Gap(event) for event in self.events]
        gaps += [Gap(_lost_text(reason, count)) for reason, count in self.lost.items()]
        if not gaps:
            return scene
        return replace(scene, sample=replace(scene.sample, gaps=(*scene.sample.gaps, *gaps)))


def _lost_text(reason: str, count: int) -> str:
    return f"{count} {'scene was' if count == 1 else 'scenes were'} not recorded before this one: {reason}"
