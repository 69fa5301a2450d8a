"""Chooses the groups that an episode counts: those that fit its budget, first by expected and then by measured cost.

The cost of a group is its cost per event (``catalog.groups``) times its events per second on this host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..analysis.event_cost import counted_cost, expected_cost
from ..catalog.groups import GroupEntry, load_groups
from ..store.episode_note import NotedGroup
from ..view.watch import HostView


@dataclass
class GroupBudget:
    """The groups of one episode, in the order of the request."""

    groups: Sequence[str]
    budget_cpus: float

    def __post_init__(self) -> None:
        self._entries = {name: load_groups()[name] for name in self.groups}
        self.notes = {name: NotedGroup(name) for name in self.groups}

    @property
    def counted(self) -> tuple[str, ...]:
        """The groups that should count now."""
        return tuple(name for name, note in self.notes.items() if not note.why_not)

    def choose(self, view: HostView) -> None:
        """Before counting: leave out groups whose expected cost does not fit on top of the earlier ones."""
        total = 0.0
        for name in self.counted:
            cost = _expected(self._entries[name], view)
            self.notes[name] = replace(self.notes[name], cpus=cost)
            if cost is not None and total + cost > self.budget_cpus:
                self._refuse(name, f"expected to cost {_cpus(cost)}", total)
            else:
                total += cost or 0.0

    def check(self, view: HostView) -> None:
        """After a window with groups: stop the costliest ones while their total cost exceeds the budget."""
        costs = {name: self._measured(name, view) for name in self.counted}
        while costs and sum(costs.values()) > self.budget_cpus:
            worst = max(costs, key=lambda name: costs[name])
            cost = costs.pop(worst)
            self._refuse(worst, f"it cost {_cpus(cost)}", sum(costs.values()))
            self.notes[worst] = replace(self.notes[worst], off_ns=view.scene.sample.taken_ns)

    def note_on(self, taken_ns: int) -> None:
        """Note the time of the first scene with these groups."""
        for name in self.counted:
            if self.notes[name].on_ns is None:
                self.notes[name] = replace(self.notes[name], on_ns=taken_ns)

    def fail(self, reason: str, taken_ns: int) -> None:
        """Stop all groups after a failure."""
        for name in self.counted:
            note = self.notes[name]
            off_ns = None if note.on_ns is None else taken_ns
            self.notes[name] = replace(note, why_not=reason, off_ns=off_ns)

    def _measured(self, name: str, view: HostView) -> float:
        entry = self._entries[name]
        cost = counted_cost(view.window, name, entry.ns_per_event or 0)
        if cost is None:
            return 0.0
        before = self.notes[name]
        if before.on_ns is None or before.cpus is None or cost > before.cpus:
            self.notes[name] = replace(before, cpus=cost)
        return cost

    def _refuse(self, name: str, what: str, others: float) -> None:
        beside = f", beside {_cpus(others)} of other groups" if others else ""
        reason = f"{what}{beside}; the budget is {_cpus(self.budget_cpus)}"
        self.notes[name] = replace(self.notes[name], why_not=reason)


def _expected(entry: GroupEntry, view: HostView) -> float | None:
    if entry.ns_per_event is None:
        return 0.0
    if not entry.rate:
        return None
    return expected_cost(view.evaluator, entry.rate, entry.ns_per_event)


def _cpus(value: float) -> str:
    return f"{value:.2g} CPU"
