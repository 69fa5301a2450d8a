"""The history of rules against one rule and subject at a time: generated windows in which subjects come and go."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.analysis.rule_history import RuleHistory

RULES, SUBJECTS = 2, 3
WINDOWS = np.array([1, 2])


@dataclass
class PlainRuleState:
    """One rule of one subject."""

    least: int
    held: int = 0
    fires: bool = False
    began_ns: int = 0
    ended: list[int] = field(default_factory=list)

    def move(self, number: int, *, holds: bool, stays: bool, came: bool, there: bool) -> None:
        fired = self.fires
        if came or not there:
            self.held, self.fires = 0, False
        if holds or (self.fires and stays):
            self.began_ns = self.began_ns if self.held else number
            self.held += 1
            self.fires = self.fires or self.held >= self.least
        else:
            self.held, self.fires = 0, False
        if fired and not self.fires:
            self.ended.append(number)


FLAG = st.integers(0, 3)
WINDOW = st.tuples(
    st.lists(FLAG, min_size=RULES * SUBJECTS, max_size=RULES * SUBJECTS),
    st.lists(st.integers(0, 9), min_size=SUBJECTS, max_size=SUBJECTS),
)


@given(st.lists(WINDOW, min_size=2, max_size=300))
def test_states_and_ends_are_those_of_each_rule_and_subject_alone(
    windows: list[tuple[list[int], list[int]]],
) -> None:
    history = RuleHistory(WINDOWS, SUBJECTS)
    plain = [[PlainRuleState(int(least)) for _ in range(SUBJECTS)] for least in WINDOWS]
    before = np.ones(SUBJECTS, np.bool_)
    states = {1: _states(plain)}
    for number, (flags, presence) in enumerate(windows, 1):
        there = np.array(presence) > 0
        holds = (np.array(flags).reshape(RULES, SUBJECTS) == 3) & there
        stays = (np.array(flags).reshape(RULES, SUBJECTS) >= 1) & there
        history.move(holds, stays, began_ns=number, came=there & ~before, gone=~there)
        for rule in range(RULES):
            for subject in range(SUBJECTS):
                plain[rule][subject].move(
                    number,
                    holds=bool(holds[rule, subject]),
                    stays=bool(stays[rule, subject]),
                    came=bool(there[subject] and not before[subject]),
                    there=bool(there[subject]),
                )
        before = there
        states[number + 1] = _states(plain)
    over = {each.ended[-1] for row in plain for each in row if each.ended and not each.fires}
    last = len(windows)
    assert history.ends() == sorted(over | {number - 1 for number in over if number > 1})
    for number in {*history.ends(), last - 1, last}:
        kept = history.before(number)
        assert _plain(kept.held, kept.fires, kept.began_ns) == states[number]


def _states(plain: list[list[PlainRuleState]]) -> list[tuple[int, bool, int]]:
    return [(each.held, each.fires, each.began_ns if each.held else 0) for row in plain for each in row]


def _plain(held: np.ndarray, fires: np.ndarray, began_ns: np.ndarray) -> list[tuple[int, bool, int]]:
    rows = zip(held.ravel().tolist(), fires.ravel().tolist(), began_ns.ravel().tolist(), strict=True)
    return [(count, fired, began if count else 0) for count, fired, began in rows]
