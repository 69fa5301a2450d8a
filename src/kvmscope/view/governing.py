"""Steps of the governor of halt polling, as plain values and as lines of its log."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from ..analysis.governor import GovernorAction, GovernorDecision, GovernorEvidence
from ..units import format_seconds, rfc3339
from .polling import PollLimitView, limit_view, net_text
from .text import counted
from .values import Answer, Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernorStep(Answer):
    """The action of the governor after an interval, and its evidence."""

    time: Annotated[Moment, "When the interval ended."]
    interval_s: Annotated[float, "Its length."]
    is_dry_run: Annotated[bool, "Whether it only says what it would do."]
    action: Annotated[GovernorAction, "What it did with the limit; hold: it restored the one from before."]
    limit_ns: Annotated[int, "The limit in the interval."]
    new_limit_ns: Annotated[int, "The limit from now on."]
    reason: Annotated[str, "Why."]
    obeying_vms: Annotated[int, "Number of VMs that obey the host's limit."]
    other_vms: Annotated[int, "Number of VMs with a limit of their own, or of which that is unknown."]
    polled_cpus: Annotated[float, "CPU time that KVM polled for the former, in CPUs."]
    net_cpus: Annotated[float | None, "What that won (above 0) or cost (below 0); null if unknown."]
    best: Annotated[PollLimitView | None, "The limit within the bounds that would free most; null if the present one."]
    wakeup_p99_s: Annotated[float | None, "Wakeup latency that 1 % of wakeups exceeded; null if unknown."]


def governor_step(
    time: Moment, interval_s: float, evidence: GovernorEvidence, decision: GovernorDecision, *, is_dry_run: bool
) -> GovernorStep:
    advice = evidence.advice
    p99_s = evidence.wakeup_p99_s
    return GovernorStep(
        time=time,
        interval_s=interval_s,
        is_dry_run=is_dry_run,
        action=decision.action,
        limit_ns=evidence.limit_ns,
        new_limit_ns=decision.limit_ns,
        reason=decision.reason,
        obeying_vms=evidence.obeying,
        other_vms=evidence.others,
        polled_cpus=evidence.polled_cpus,
        net_cpus=None if advice is None else advice.net_cpus,
        best=None if advice is None or advice.best is None else limit_view(advice.best),
        wakeup_p99_s=None if math.isnan(p99_s) else p99_s,
    )


def step_line(step: GovernorStep) -> str:
    """A line of the log: the action and its reason, and the evidence of the interval."""
    change = f"{step.limit_ns} ns"
    if step.new_limit_ns != step.limit_ns:
        change += f" to {step.new_limit_ns} ns"
    would = "would " if step.is_dry_run and step.action is not GovernorAction.KEEP else ""
    shown = [
        f"{counted(step.obeying_vms, 'VM')} polled {step.polled_cpus:.2g} CPU",
        "" if step.net_cpus is None else f"which {net_text(step.net_cpus)}",
        "" if step.wakeup_p99_s is None else f"wakeup p99 {format_seconds(step.wakeup_p99_s)}",
    ]
    evidence = ", ".join(filter(None, shown))
    return f"{rfc3339(step.time.ns)} {would}{step.action.value} {change}: {step.reason} ({evidence})"
