"""The states of rules over many windows, from where each rule holds in them and where it would continue to fire.

Displayed findings also need evidence. ``RuleHistory`` reports which windows have to be judged in full for that: those
in which findings ended, and those in which these were last seen; and the states with which each of them begins.
Pure. Windows are numbered from 1: window 7 ends with the scene at place 7. Columns are the subjects of all VMs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from ..sample import I64Array
from .rule_states import RuleStates
from .window import BoolArray

_RECENT: Final = 3
"""The number of last windows whose states are kept: what ended in a window is shown from two windows before."""
_FEW: Final = 64


@dataclass(frozen=True, slots=True)
class _PackedStates:
    """States that are mostly 0: ``places`` are the indices of the others in the flat arrays."""

    shape: tuple[int, ...]
    places: I64Array
    held: I64Array
    fires: BoolArray
    began_ns: I64Array

    @classmethod
    def of(cls, states: RuleStates) -> _PackedStates:
        places = np.flatnonzero(states.held)
        held, fires, began_ns = states.held.ravel(), states.fires.ravel(), states.began_ns.ravel()
        return cls(states.held.shape, places, held[places], fires[places], began_ns[places])

    def unpacked(self) -> RuleStates:
        rules, subjects = self.shape
        states = RuleStates.fresh(rules, subjects)
        states.held.ravel()[self.places] = self.held
        states.fires.ravel()[self.places] = self.fires
        states.began_ns.ravel()[self.places] = self.began_ns
        return states


class RuleHistory:
    """Moves states window by window, and keeps those with which the windows to be judged in full begin."""

    def __init__(self, windows: I64Array, subjects: int) -> None:
        """``windows``: the number of consecutive windows in which each rule must hold."""
        self._windows = windows[:, None]
        self.states = RuleStates.fresh(len(windows), subjects)
        self.number = 0
        self._ended = np.zeros(self.states.held.shape, np.int64)
        """The window in which each finding ended last, 0 for none."""
        self._recent: dict[int, RuleStates] = {0: self.states}
        self._kept: dict[int, _PackedStates] = {}
        self._most_kept = _FEW

    def move(self, holds: BoolArray, stays: BoolArray, *, began_ns: int, came: BoolArray, gone: BoolArray) -> None:
        """Add the next window, which began at ``began_ns``; ``came`` and ``gone``: subjects that did so in it."""
        before = self.states.without(came | gone)
        self.put(before.moved(holds, stays, windows=self._windows, began_ns=began_ns))

    def put(self, states: RuleStates) -> None:
        """Add the next window, which was judged elsewhere, by its states."""
        self.number += 1
        ended = self.states.fires & ~states.fires
        self.states = states
        if ended.any():
            self._ended[ended] = self.number
            self._keep((self.number - 1, self.number))
        self._recent[self.number] = states
        self._recent.pop(self.number - _RECENT, None)

    def ends(self) -> list[int]:
        """The windows in which findings ended for the last time, and the window before each."""
        over = self._ended[~self.states.fires]
        return self._with_those_before(over)

    def before(self, number: int) -> RuleStates:
        """The states with which a window begins; ``number``: one of ``ends``, or one of the last two windows."""
        recent = self._recent.get(number - 1)
        return self._kept[number].unpacked() if recent is None else recent

    def _keep(self, numbers: tuple[int, ...]) -> None:
        for number in numbers:
            if number - 1 in self._recent:
                self._kept.setdefault(number, _PackedStates.of(self._recent[number - 1]))
        if len(self._kept) > self._most_kept:
            needed = self._with_those_before(self._ended)
            self._kept = {number: self._kept[number] for number in needed}
            self._most_kept = 2 * len(needed) + _FEW

    @staticmethod
    def _with_those_before(ended: I64Array) -> list[int]:
        numbers = set(ended[ended > 0].tolist())
        return sorted(numbers | {number - 1 for number in numbers if number > 1})
