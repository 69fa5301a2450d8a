"""The state of rules after a window: for how many consecutive windows each has held for each subject, and whether it
fires.

Pure arrays, one row per rule and one column per subject. ``findings`` moves them by windows evaluated with numpy, and
``rule_history`` by windows evaluated by an engine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..sample import I64Array
from .window import BoolArray


@dataclass(frozen=True, slots=True)
class RuleStates:
    """``held``: for how many consecutive windows a rule has held. ``began_ns``: when that began, CLOCK_BOOTTIME."""

    held: I64Array
    fires: BoolArray
    began_ns: I64Array

    @classmethod
    def fresh(cls, rules: int, subjects: int) -> RuleStates:
        shape = (rules, subjects)
        return cls(np.zeros(shape, np.int64), np.zeros(shape, np.bool_), np.zeros(shape, np.int64))

    def aligned(self, previous_rows: I64Array) -> RuleStates:
        """The states for the subjects of the next sample, by their columns here; those that came (-1) start again."""
        rules, subjects = self.held.shape
        if not subjects:
            return RuleStates.fresh(rules, len(previous_rows))
        parts = (self.held[:, previous_rows], self.fires[:, previous_rows], self.began_ns[:, previous_rows])
        return RuleStates(*parts).without(previous_rows < 0)

    def without(self, where: BoolArray | None) -> RuleStates:
        """The same states, in which these subjects start again."""
        if where is None:
            return self
        return RuleStates(np.where(where, 0, self.held), self.fires & ~where, self.began_ns)

    def moved(self, holds: BoolArray, stays: BoolArray, *, windows: I64Array, began_ns: int) -> RuleStates:
        """The states after one more window, which began at ``began_ns``.

        ``holds``: where the condition holds. ``stays``: where a firing rule continues to fire. ``windows``: the number
        of consecutive windows in which each rule must hold, as a column.
        """
        goes_on = holds | (self.fires & stays)
        held = np.where(goes_on, self.held + 1, 0)
        fires = goes_on & (self.fires | (held >= windows))
        return RuleStates(held, fires, np.where(self.held == 0, began_ns, self.began_ns))
