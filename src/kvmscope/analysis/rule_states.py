"""The state of rules after a window: for how many consecutive windows each has held for each subject, and whether it
fires.

Pure arrays, a row a rule and a column a subject. ``findings`` moves them by windows that numpy evaluated, and
``rule_history`` by windows that an engine did.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..sample import I64Array
from .window import BoolArray


@dataclass(frozen=True, slots=True)
class RuleStates:
    """``held``: in how many windows a rule has held in a row. ``began_ns``: when that began, CLOCK_BOOTTIME."""

    held: I64Array
    fires: BoolArray
    began_ns: I64Array

    @classmethod
    def fresh(cls, rules: int, subjects: int) -> RuleStates:
        shape = (rules, subjects)
        return cls(np.zeros(shape, np.int64), np.zeros(shape, np.bool_), np.zeros(shape, np.int64))

    def aligned(self, previous_rows: I64Array) -> RuleStates:
        """The same for the subjects of the next sample, each by its column here; those that came (-1) start again."""
        rules, subjects = self.held.shape
        if not subjects:
            return RuleStates.fresh(rules, len(previous_rows))
        parts = (self.held[:, previous_rows], self.fires[:, previous_rows], self.began_ns[:, previous_rows])
        return RuleStates(*parts).without(previous_rows < 0)

    def without(self, where: BoolArray | None) -> RuleStates:
        """The same, with these subjects starting again."""
        if where is None:
            return self
        return RuleStates(np.where(where, 0, self.held), self.fires & ~where, self.began_ns)

    def moved(self, holds: BoolArray, stays: BoolArray, *, windows: I64Array, began_ns: int) -> RuleStates:
        """After one more window, which began at ``began_ns``.

        ``holds``: where the condition holds. ``stays``: where a rule that fires goes on to. ``windows``: in how many
        windows in a row each rule must hold, a column.
        """
        goes_on = holds | (self.fires & stays)
        held = np.where(goes_on, self.held + 1, 0)
        fires = goes_on & (self.fires | (held >= windows))
        return RuleStates(held, fires, np.where(self.held == 0, began_ns, self.began_ns))
