"""Decides on a halt polling limit from evidence, window after window: a state machine without I/O.

``kvmscope govern polling`` drives it for a host (``tasks.governing``); a VMM can drive it for its own VM
(examples/govern_vmm.py). The driver sets the limit that a decision names, and gives the limit in force with the
next evidence.

Rules:
- It moves to the neighbouring limit of ``GovernorPlan.limits_ns``, towards the one that frees most CPU time by the net
  figure (``analysis.polling``), and only if that limit frees ``worth_cpus`` even by the lowest estimate.
- It moves after ``patience`` windows in a row that want the same direction. The window in which a limit changed is not
  counted, as two limits were in force in it.
- Each change of direction doubles the patience, up to ``_MOST_PATIENCE`` times, so it does not flap; ``_CALM_WINDOWS``
  windows without a change end that.
- Above the bound on wakeup latency it never lowers the limit, and raises it back towards the one with which it began.
- Unknown evidence changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

import numpy as np

from ..formula.tree import HOST
from ..sample import Sample
from ..schema import Scope
from .evaluate import Evaluator
from .polling import LIMITS_NS, PollingAdvice, advise_together, vm_halts
from .window import BoolArray, find_column

_MOST_PATIENCE: Final = 16
_CALM_WINDOWS: Final = 60


@dataclass(frozen=True, slots=True)
class GovernorPlan:
    """Bounds and pace. ``begun_ns``: the limit that was in force before. ``wakeup_p99_s``: the bound on wakeup latency.

    Raises ValueError if no limit to choose lies within the bounds.
    """

    begun_ns: int
    least_ns: int
    most_ns: int
    patience: int = 3
    worth_cpus: float = 0.01
    wakeup_p99_s: float = math.inf

    def __post_init__(self) -> None:
        if not self.limits_ns:
            raise ValueError(f"no limit to choose lies from {self.least_ns} to {self.most_ns} ns")

    @property
    def limits_ns(self) -> tuple[int, ...]:
        """The limits to choose from: 0 and the bounds of KVM's buckets, within the plan's bounds."""
        return tuple(limit for limit in LIMITS_NS if self.least_ns <= limit <= self.most_ns)


@dataclass(frozen=True, slots=True)
class GovernorEvidence:
    """The evidence of one window. ``advice``: for the VMs that obey the limit, None if their polling is unknown.

    ``obeying``: the number of VMs that obey the limit; ``others``: of those with their own limit, or where that is
    unknown. ``polled_cpus``: CPU time that obeying VMs spend polling. ``wakeup_p99_s``: wakeup latency of all VMs, NaN
    if it is unknown.
    """

    limit_ns: int
    advice: PollingAdvice | None
    obeying: int
    others: int
    polled_cpus: float
    wakeup_p99_s: float


class GovernorAction(Enum):
    """What to do about the limit. ``HOLD``: restore the original one, as the contract does not hold here."""

    KEEP = "keep"
    LOWER = "lower"
    RAISE = "raise"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class GovernorDecision:
    """The limit to set, and the reason."""

    action: GovernorAction
    limit_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class GovernorState:
    """The state kept from window to window. ``wanted``: the wanted action, for ``windows`` windows in a row.

    ``moved``: the last direction; ``turns``: how often it changed; ``calm``: windows since the last change.
    ``was_held``: the contract did not hold in the last window.
    """

    wanted: GovernorAction = GovernorAction.KEEP
    windows: int = 0
    moved: GovernorAction = GovernorAction.KEEP
    turns: int = 0
    calm: int = 0
    has_just_moved: bool = False
    was_held: bool = False


def decide(
    plan: GovernorPlan, state: GovernorState, evidence: GovernorEvidence
) -> tuple[GovernorState, GovernorDecision]:
    """The state and the decision after a window."""
    if state.has_just_moved:
        reason = "what it relies on holds again" if state.was_held else "the limit changed within this interval"
        return replace(state, has_just_moved=False, was_held=False), _keep(evidence, reason)
    state = replace(state, calm=state.calm + 1, turns=0 if state.calm >= _CALM_WINDOWS else state.turns)
    wanted, limit_ns, reason = _wish(plan, evidence)
    if wanted is GovernorAction.KEEP:
        return replace(state, wanted=wanted, windows=0), _keep(evidence, reason)
    windows = state.windows + 1 if wanted is state.wanted else 1
    patience = _patience(plan, state, wanted)
    if windows < patience:
        return replace(state, wanted=wanted, windows=windows), _keep(evidence, f"{reason}; {windows} of {patience}")
    is_turn = state.moved not in (GovernorAction.KEEP, wanted)
    moved = GovernorState(moved=wanted, turns=state.turns + is_turn, has_just_moved=True)
    return moved, GovernorDecision(wanted, limit_ns, reason)


def hold(plan: GovernorPlan, reason: str) -> tuple[GovernorState, GovernorDecision]:
    """The state and the decision after a window in which the contract does not hold."""
    return GovernorState(has_just_moved=True, was_held=True), GovernorDecision(
        GovernorAction.HOLD, plan.begun_ns, reason
    )


def _patience(plan: GovernorPlan, state: GovernorState, wanted: GovernorAction) -> int:
    """The number of windows that must want this action: more after each change of direction."""
    is_turn = state.moved not in (GovernorAction.KEEP, wanted)
    return int(plan.patience * min(2 ** (state.turns + is_turn), _MOST_PATIENCE))


def _keep(evidence: GovernorEvidence, reason: str) -> GovernorDecision:
    return GovernorDecision(GovernorAction.KEEP, evidence.limit_ns, reason)


def _wish(plan: GovernorPlan, evidence: GovernorEvidence) -> tuple[GovernorAction, int, str]:
    """The action, limit and reason that this window alone suggests."""
    now_ns, advice = evidence.limit_ns, evidence.advice
    if evidence.wakeup_p99_s > plan.wakeup_p99_s:
        if now_ns < plan.begun_ns:
            higher = (limit for limit in (*plan.limits_ns, plan.begun_ns) if limit > now_ns)
            return GovernorAction.RAISE, min(higher), "wakeup latency is above its bound"
        return GovernorAction.KEEP, now_ns, "wakeup latency is above its bound"
    if advice is None:
        return GovernorAction.KEEP, now_ns, "nothing is known of polling: no VM obeys the limit, or it came just now"
    best = advice.best
    if best is None or best.cpus_low < plan.worth_cpus or best.limit_ns == now_ns:
        return GovernorAction.KEEP, now_ns, "no other limit frees enough CPU time"
    is_up = best.limit_ns > now_ns
    limit_ns = _next(plan, now_ns, up=is_up)
    if limit_ns == now_ns:
        return GovernorAction.KEEP, now_ns, f"the {'highest' if is_up else 'lowest'} limit within the bounds"
    action = GovernorAction.RAISE if is_up else GovernorAction.LOWER
    return action, limit_ns, f"{best.limit_ns} ns would free {best.cpus:.2g} CPU, {best.cpus_low:.2g} at least"


def _next(plan: GovernorPlan, now_ns: int, *, up: bool) -> int:
    """The neighbouring limit; the present one if there is none."""
    if up:
        return min((limit for limit in plan.limits_ns if limit > now_ns), default=now_ns)
    return max((limit for limit in plan.limits_ns if limit < now_ns), default=now_ns)


# --- evidence ---------------------------------------------------------------------------------------------------------


def obeying(sample: Sample) -> BoolArray:
    """The VMs that obey the host's limit: those known to have no limit of their own."""
    own = find_column(sample, "settings", Scope.VM, "halt_poll_cap_set")
    return np.zeros(len(sample.vms), dtype=np.bool_) if own is None else own.known & (own.words == 0)


def gather(evaluator: Evaluator, plan: GovernorPlan, limit_ns: int, obeys: BoolArray) -> GovernorEvidence:
    """The evidence of a window in which the limit was ``limit_ns``; ``obeys``: the VMs that obey it."""
    limit_s = np.full(len(obeys), limit_ns / 1e9)
    halts = vm_halts(evaluator, limit_s, range(len(obeys)))
    polled_cpus = evaluator.of("halt_poll_cpus", Scope.VM)[obeys]
    return GovernorEvidence(
        limit_ns,
        None if halts is None else advise_together(halts, obeys, plan.limits_ns),
        int(obeys.sum()),
        int((~obeys).sum()),
        float(np.nansum(polled_cpus)),
        float(evaluator.of("wakeup_p99_s", HOST)[0]),
    )
