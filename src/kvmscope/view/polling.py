"""The cost and benefit of halt polling for a VM, and better limits, as plain values and as text."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated

from ..analysis.evaluate import Evaluator
from ..analysis.observations import halt_poll_limit_ns, poll_limit_s
from ..analysis.polling import LimitEffect, PollingAdvice, advise, vm_halts
from ..sample import VmId
from ..scene import Scene
from ..units import format_count

_LEAST_CPUS = 0.0005
"""Smaller values are shown as 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PollLimitView:
    """A halt polling limit, and its predicted effect."""

    limit_ns: Annotated[int, "The limit in nanoseconds; 0 is off."]
    freed_cpus: Annotated[float, "CPU time that it frees, in CPUs; below 0: that it takes. An estimate."]
    freed_cpus_low: Annotated[float, "Lower bound, from the buckets of the histograms."]
    freed_cpus_high: Annotated[float, "Upper bound, from the buckets of the histograms."]
    saved_wakeups_per_s: Annotated[float, "Wakeups a second that polling would save in addition; below 0: fewer."]


@dataclass(frozen=True, slots=True, kw_only=True)
class PollingView:
    """The cost and benefit of halt polling for a VM, and better limits."""

    limit_ns: Annotated[int, "The limit under which KVM polls for it."]
    net_cpus: Annotated[float, "CPU time that polling saves (above 0) or costs (below 0): halt_poll_net_cpus."]
    best: Annotated[PollLimitView | None, "The limit that frees most CPU time; null if the present one does."]
    fewer_sleeps: Annotated[
        PollLimitView | None,
        "The higher limit that saves wakeups at the lowest cost per wakeup; null if none saves many.",
    ]


def polling_of_vms(scene: Scene, evaluator: Evaluator, vms: Collection[VmId]) -> dict[VmId, PollingAdvice]:
    """The advice on halt polling for each of these VMs, as far as it is known."""
    there = list(dict.fromkeys(vm for vm in vms if vm in scene.sample.vms.row_of))
    if not there:
        return {}
    host_ns = None if scene.sample.simulated else halt_poll_limit_ns(scene.machine)
    rows = [scene.sample.vms.row_of[vm] for vm in there]
    halts = vm_halts(evaluator, poll_limit_s(scene.sample, host_ns), rows)
    if halts is None:
        return {}
    return {vm: found for vm, found in zip(there, advise(halts), strict=True) if found is not None}


def polling_view(advice: PollingAdvice) -> PollingView:
    return PollingView(
        limit_ns=advice.limit_ns,
        net_cpus=advice.net_cpus,
        best=None if advice.best is None else limit_view(advice.best),
        fewer_sleeps=None if advice.fewer_sleeps is None else limit_view(advice.fewer_sleeps),
    )


def limit_view(effect: LimitEffect) -> PollLimitView:
    return PollLimitView(
        limit_ns=effect.limit_ns,
        freed_cpus=effect.cpus,
        freed_cpus_low=effect.cpus_low,
        freed_cpus_high=effect.cpus_high,
        saved_wakeups_per_s=effect.saved_per_s,
    )


def polling_lines(polling: PollingView) -> Iterator[str]:
    """The present effect, and the effect of each limit, a sentence each."""
    best, fewer = polling.best, polling.fewer_sleeps
    now = f"halt polling {net_text(polling.net_cpus)} at a limit of {_limit(polling.limit_ns)}"
    yield f"{now}; no other limit frees more CPU time" if best is None else now
    if best is not None:
        yield f"best limit: {limit_text(best)}"
    if fewer is not None and (best is None or fewer.limit_ns != best.limit_ns):
        yield f"for faster wakeups: {limit_text(fewer)}"


def net_text(net_cpus: float) -> str:
    """``costs 0.2 CPU net``"""
    if abs(net_cpus) < _LEAST_CPUS:
        return "neither saves nor costs CPU time"
    return f"{'saves' if net_cpus > 0 else 'costs'} {_cpus(abs(net_cpus))} CPU net"


def limit_text(limit: PollLimitView) -> str:
    """``4096 ns, which frees 0.2 CPU (0.18 to 0.21); 400 more wakeups/s go through the scheduler``"""
    verb = "frees" if limit.freed_cpus >= 0 else "takes"
    sign = 1 if limit.freed_cpus >= 0 else -1
    about, *bounds = (_cpus(sign * each) for each in (limit.freed_cpus, limit.freed_cpus_low, limit.freed_cpus_high))
    between = "" if set(bounds) == {about} else f" ({' to '.join(bounds[::sign])})"
    change = limit.saved_wakeups_per_s
    if abs(change) < 1:
        wakeups = "wakeups are as fast as before"
    else:
        wakeups = (
            f"{format_count(round(abs(change)))} {'fewer' if change > 0 else 'more'} wakeups/s go through the scheduler"
        )
    return f"{_limit(limit.limit_ns)}, which {verb} {about} CPU{between}; {wakeups}"


def _limit(limit_ns: int) -> str:
    """A limit in the unit in which it is written to the kernel."""
    return f"{limit_ns} ns" if limit_ns else "0 (off)"


def _cpus(value: float) -> str:
    """An estimate, with two digits."""
    return f"{float(f'{value:.2g}'):.3f}".rstrip("0").rstrip(".") if abs(value) >= _LEAST_CPUS else "0"
