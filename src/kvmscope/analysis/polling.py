"""What halt polling saves or costs at its present limit and at other limits, from the histograms of halts.

Pure: the halts of VMs in a window in, CPU time out. ``doctor`` adds it to its finding (``view.polling``), and
``governor`` decides by it.

Net, as in metric ``halt_poll_net_cpus``: CPU time saved by successful polls (each saves a wakeup) minus all polled
time. Under a lower limit, polls longer than it end there: a successful one becomes a sleep, a failed one gets shorter.
Under a higher limit, sleeps that end between the two limits become successful polls, and failed polls get longer in
proportion.
Assumption: KVM polls as often as now. It adapts its polling to each vCPU (grow, shrink), so it polls less often if more
halts outlast the limit, and then both the gain and the loss are smaller.
Rules: only the bucket of a poll or sleep is known. So each number is an interval that holds the true one, with an
estimate in it: values are placed in their buckets to add up to the exact times that KVM counts. A higher
limit changes nothing where polls end early because other tasks want the CPU. Unknown is NaN.
Source: virt/kvm/kvm_main.c, kvm_vcpu_halt, update_halt_poll_stats, grow_halt_poll_ns and shrink_halt_poll_ns, 5.15 to
7.3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ..sample import I64Array, Sample
from ..schema import Kind, Scope, Unit
from .evaluate import Evaluator
from .histogram import edges
from .window import BoolArray, F64Array, Window

LIMITS_NS: Final = (0, *(1 << power for power in range(12, 21)))
"""Limits that are compared: off, and the bounds of buckets from 4 µs to 1 ms."""

_CUT_SHORT_NS: Final = 5_000.0
"""KVM polls for 10 µs at first; polls that fail sooner on average were ended by another task (rule poll-cut-short)."""
_WORTH_CPUS: Final = 0.005
_WORTH_WAKEUPS_PER_S: Final = 100.0


@dataclass(frozen=True, slots=True)
class HaltHistogram:
    """The halts of each VM by duration: ``counts`` (VMs, buckets), and ``total_ns`` (VMs,), their exact sum."""

    counts: F64Array
    total_ns: F64Array
    edges_ns: F64Array


@dataclass(frozen=True, slots=True)
class VmHalts:
    """The halts of VMs in a window, one row per VM. NaN for unknown values.

    ``successes``: polls that ended with a wakeup. ``limit_ns``: the limit under which KVM polled. ``wakeup_ns``: the
    cost of a wakeup.
    """

    interval_s: float
    successes: F64Array
    succeeded: HaltHistogram
    failed: HaltHistogram
    slept: HaltHistogram
    limit_ns: F64Array
    wakeup_ns: F64Array

    def __len__(self) -> int:
        return len(self.limit_ns)

    @property
    def is_cut_short(self) -> BoolArray:
        """Whether polls end before their limit because other tasks want the CPU."""
        mean_ns = _ratio(self.failed.total_ns, self.failed.counts.sum(axis=1))
        return np.asarray((mean_ns < _CUT_SHORT_NS) & (mean_ns < self.limit_ns / 2))

    @property
    def net_cpus(self) -> F64Array:
        """The net CPU time that polling saves now, as ``halt_poll_net_cpus``."""
        saved_ns = self.successes * self.wakeup_ns
        return (saved_ns - self.succeeded.total_ns - self.failed.total_ns) / 1e9 / self.interval_s


@dataclass(frozen=True, slots=True)
class LimitEffects:
    """The changes that one limit would make for each VM. CPU time that it frees (below 0: takes), in CPUs: an estimate,
    and bounds from the buckets. ``saved_per_s``: wakeups that polling would save in addition (below 0: fewer)."""

    limit_ns: int
    cpus: F64Array
    cpus_low: F64Array
    cpus_high: F64Array
    saved_per_s: F64Array


@dataclass(frozen=True, slots=True)
class LimitEffect:
    """The changes that one limit would make for one VM, or for several together."""

    limit_ns: int
    cpus: float
    cpus_low: float
    cpus_high: float
    saved_per_s: float


@dataclass(frozen=True, slots=True)
class PollingAdvice:
    """The effect of halt polling on one VM, or on several together, and better limits.

    ``net_cpus``: as ``halt_poll_net_cpus``. ``best``: the limit that frees most CPU time; None if none frees enough
    more than the present one. ``fewer_sleeps``: the higher limit that saves wakeups at the lowest cost per wakeup; None
    if none saves many.
    """

    limit_ns: int
    net_cpus: float
    best: LimitEffect | None
    fewer_sleeps: LimitEffect | None


def vm_halts(evaluator: Evaluator, limit_s: F64Array, rows: Sequence[int]) -> VmHalts | None:
    """The halts of VMs of a window, by their rows; None if this kernel has no histograms of them (before 5.15).

    ``limit_s``: the longest time that KVM polls, for each VM of the window (``observations.poll_limit_s``).
    """
    window, picked = evaluator.window, np.array(rows, dtype=np.intp)
    vcpus = PickedVcpus.of(window.current, picked)
    names = ("halt_poll_success", "halt_poll_fail", "halt_wait")
    found = [_histogram(window, name, vcpus) for name in names]
    if not all(found):
        return None
    succeeded, failed, slept = (each for each in found if each is not None)
    successes = vcpus.per_vm(window.delta("kvm", Scope.VCPU, "halt_successful_poll")[vcpus.rows])
    wakeup_ns = evaluator.of("wakeup_cost_s", Scope.VM)[picked] * 1e9
    return VmHalts(window.interval_s, successes, succeeded, failed, slept, limit_s[picked] * 1e9, wakeup_ns)


def effects(halts: VmHalts, limits_ns: Sequence[int] = LIMITS_NS) -> Iterator[LimitEffects]:
    """The effects of each limit, in the order of ``limits_ns``."""
    known = ~np.isnan(halts.net_cpus + halts.limit_ns + halts.slept.total_ns)
    filled = halts if known.all() else _filled(halts)
    for limit_ns in limits_ns:
        lower, higher = _lower(filled, limit_ns), _higher(filled, limit_ns)
        is_lower = limit_ns < filled.limit_ns
        parts = [np.where(is_lower, low, high) for low, high in zip(lower, higher, strict=True)]
        yield LimitEffects(limit_ns, *(np.where(known, part, np.nan) for part in parts))


def advise(halts: VmHalts) -> list[PollingAdvice | None]:
    """Advice on the limit of each VM; None where its halts or its limit are not known."""
    tried = [_by_vm(each) for each in effects(halts)]
    rows = zip(halts.limit_ns.tolist(), halts.net_cpus.tolist(), *tried, strict=True)
    return [_advice(limit_ns, net_cpus, of_vm) for limit_ns, net_cpus, *of_vm in rows]


def advise_together(halts: VmHalts, rows: BoolArray, limits_ns: Sequence[int] = LIMITS_NS) -> PollingAdvice | None:
    """Advice on one limit for VMs that share it, chosen from ``limits_ns``.

    VMs of which something is not known count as if they did not halt. None if that holds for all of them.
    """
    tried = [_of_rows(each, np.flatnonzero(rows)) for each in effects(halts, limits_ns)]
    now_ns = halts.limit_ns[rows & ~np.isnan(halts.limit_ns)]
    return _advice(float(now_ns[0]), _sum(halts.net_cpus[rows]), tried) if len(now_ns) else None


def _advice(limit_ns: float, net_cpus: float, tried: Sequence[LimitEffect]) -> PollingAdvice | None:
    if any(map(math.isnan, (limit_ns, net_cpus, *(each.cpus for each in tried)))):
        return None
    best = max(tried, key=lambda each: each.cpus)
    saving = [each for each in tried if each.limit_ns > limit_ns and each.saved_per_s >= _WORTH_WAKEUPS_PER_S]
    return PollingAdvice(
        round(limit_ns),
        net_cpus,
        best if best.cpus >= _WORTH_CPUS and best.cpus_low > 0 else None,
        max(saving, key=lambda each: each.cpus / each.saved_per_s, default=None),
    )


def _by_vm(tried: LimitEffects) -> list[LimitEffect]:
    columns = (tried.cpus, tried.cpus_low, tried.cpus_high, tried.saved_per_s)
    return [LimitEffect(tried.limit_ns, *row) for row in zip(*(each.tolist() for each in columns), strict=True)]


def _of_rows(tried: LimitEffects, rows: np.ndarray[tuple[int], np.dtype[np.intp]]) -> LimitEffect:
    sums = [_sum(part[rows]) for part in (tried.cpus, tried.cpus_low, tried.cpus_high, tried.saved_per_s)]
    return LimitEffect(tried.limit_ns, *sums)


def _sum(values: F64Array) -> float:
    """The sum of the known values; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.sum()) if len(known) or not len(values) else float("nan")


# --- the halts of a window --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PickedVcpus:
    """The vCPUs of some VMs: their ``rows`` in a sample, and the place of each one's VM among the ``count`` VMs."""

    rows: I64Array
    vm: I64Array
    count: int

    @classmethod
    def of(cls, sample: Sample, vms: I64Array) -> PickedVcpus:
        """The vCPUs of the VMs in these rows."""
        place = np.full(len(sample.vms), -1)
        place[vms] = np.arange(len(vms))
        vm = place[sample.vcpus.vm]
        rows = np.flatnonzero(vm >= 0)
        return cls(rows, vm[rows], len(vms))

    def per_vm(self, values: F64Array) -> F64Array:
        """The sum of the known values of each VM's vCPUs; NaN where there are none."""
        known = ~np.isnan(values if values.ndim == 1 else values[:, 0])
        vm, values = self.vm[known], values[known]
        total = np.full((self.count, *values.shape[1:]), np.nan)
        if len(vm):
            starts = np.flatnonzero(np.diff(vm, prepend=-1))  # the vCPUs of a VM are adjacent
            total[vm[starts]] = np.add.reduceat(values, starts, axis=0)
        return total


def _histogram(window: Window, name: str, vcpus: PickedVcpus) -> HaltHistogram | None:
    moved = window.movement("kvm", Scope.VCPU, f"{name}_hist")
    if moved is None or moved.descriptor.kind is not Kind.LOG_HISTOGRAM or moved.descriptor.unit is not Unit.SECONDS:
        return None
    counts = moved.words[vcpus.rows].astype(np.float64)
    total_ns = window.delta("kvm", Scope.VCPU, f"{name}_ns")[vcpus.rows]
    unknown = np.isnan(total_ns) | ~moved.known[vcpus.rows]
    total_ns[unknown] = np.nan
    counts[unknown] = np.nan
    return HaltHistogram(vcpus.per_vm(counts), vcpus.per_vm(total_ns), edges(moved.descriptor) * 1e9)


def _filled(halts: VmHalts) -> VmHalts:
    """The halts with 0 for unknown values."""
    return replace(
        halts,
        successes=np.nan_to_num(halts.successes),
        succeeded=_filled_histogram(halts.succeeded),
        failed=_filled_histogram(halts.failed),
        slept=_filled_histogram(halts.slept),
        limit_ns=np.nan_to_num(halts.limit_ns),
        wakeup_ns=np.nan_to_num(halts.wakeup_ns),
    )


def _filled_histogram(histogram: HaltHistogram) -> HaltHistogram:
    return replace(histogram, counts=np.nan_to_num(histogram.counts), total_ns=np.nan_to_num(histogram.total_ns))


# --- the effects of a limit -------------------------------------------------------------------------------------------


def _lower(halts: VmHalts, limit_ns: int) -> tuple[F64Array, F64Array, F64Array, F64Array]:
    """CPUs freed (estimate, low, high) and wakeups saved in addition, a second, under a limit that is not higher."""
    lost = _above(halts.succeeded, limit_ns)
    shorter = _above(halts.failed, limit_ns)
    wakeups_ns = lost.count * halts.wakeup_ns
    per_s = 1e9 * halts.interval_s
    estimate, low, high = ((a + b - wakeups_ns) / per_s for a, b in zip(lost.times_ns, shorter.times_ns, strict=True))
    return estimate, low, high, -lost.count / halts.interval_s


@dataclass(frozen=True, slots=True)
class _Excess:
    """The values longer than a limit: their number, and their total time beyond it (estimate, low, high)."""

    count: F64Array
    times_ns: tuple[F64Array, F64Array, F64Array]


def _above(histogram: HaltHistogram, limit_ns: int) -> _Excess:
    low, high = _bounds(histogram)
    is_above = high > limit_ns
    counts, rest = histogram.counts[:, is_above], histogram.counts[:, ~is_above]
    count = counts.sum(axis=1)
    # The exact total minus the part below the limit bounds the time above it better than the buckets alone.
    least = np.maximum(counts @ low[is_above], histogram.total_ns - rest @ high[~is_above])
    most = np.minimum(counts @ high[is_above], histogram.total_ns - rest @ low[~is_above])
    most = np.maximum(most, least)  # the counts of a running vCPU are not read atomically
    middle = _middles(histogram)
    estimate = np.clip((counts * middle[:, is_above]).sum(axis=1), least, most)
    excess = [np.maximum(time - count * limit_ns, 0.0) for time in (estimate, least, most)]
    return _Excess(count, (excess[0], excess[1], excess[2]))


def _higher(halts: VmHalts, limit_ns: int) -> tuple[F64Array, F64Array, F64Array, F64Array]:
    """The same as ``_lower``, under a limit that is not lower."""
    polled_ns, longer_ns = _failed_polls(halts, limit_ns)
    begin, end = (halts.limit_ns - polled_ns)[:, None], (limit_ns - polled_ns)[:, None]
    low, high = _bounds(halts.slept)
    # For each bucket of sleeps: the part below the present limit, and the part that becomes successful polls.
    shorter, ends = _part_below(low, high, begin), _part_below(low, high, end)
    saved = np.maximum(ends - shorter, 0.0)
    won_low, won_high = (halts.wakeup_ns[:, None] - np.clip(bound, begin, end) for bound in (high, low))
    lost = -longer_ns[:, None] + np.zeros_like(won_low)
    cases = ((saved > 0, won_low, won_high), (ends < 1, lost, lost), (shorter > 0, 0 * lost, 0 * lost))
    least = np.min([np.where(holds, worst, np.inf) for holds, worst, _ in cases], axis=0)
    most = np.max([np.where(holds, best, -np.inf) for holds, _, best in cases], axis=0)
    middle = saved * (won_low + won_high) / 2 + (1 - ends) * lost
    polled = _polled_share(halts) / halts.interval_s
    estimate, low, high = (polled * (halts.slept.counts * each).sum(axis=1) / 1e9 for each in (middle, least, most))
    return estimate, low, high, polled * (halts.slept.counts * saved).sum(axis=1)


def _failed_polls(halts: VmHalts, limit_ns: int) -> tuple[F64Array, F64Array]:
    """The time that KVM polls before a sleep, and by how much longer it would poll under a higher limit."""
    failures, now_ns = halts.failed.counts.sum(axis=1), halts.limit_ns
    polled_ns = np.where(failures > 0, _ratio(halts.failed.total_ns, failures), 0.0)
    in_proportion = _ratio(polled_ns * (limit_ns - now_ns), now_ns)
    return polled_ns, np.maximum(np.where(now_ns == 0, float(limit_ns), in_proportion), 0.0)


def _polled_share(halts: VmHalts) -> F64Array:
    """The share of sleeps before which KVM polls up to its limit; assumed to be all while polling is off."""
    failures, sleeps = halts.failed.counts.sum(axis=1), halts.slept.counts.sum(axis=1)
    polled = np.where(sleeps > 0, np.minimum(1.0, _ratio(failures, sleeps)), 0.0)
    return np.where(halts.limit_ns == 0, 1.0, np.where(halts.is_cut_short, 0.0, polled))


def _part_below(low: F64Array, high: F64Array, bound: F64Array) -> F64Array:
    """The part of each bucket below a bound, on a log scale."""
    inside = np.log2(np.clip(bound, np.maximum(low, 0.5), high) / np.maximum(low, 0.5))
    part: F64Array = inside / np.log2(high / np.maximum(low, 0.5))
    return np.where(bound >= high, 1.0, np.where(bound <= low, 0.0, part))


def _bounds(histogram: HaltHistogram) -> tuple[F64Array, F64Array]:
    """The bounds of the buckets; the last one, which has no end, is taken to be as wide as a log bucket."""
    low, high = histogram.edges_ns[:-1], histogram.edges_ns[1:].copy()
    high[-1] = 2 * low[-1]
    return low, high


def _middles(histogram: HaltHistogram) -> F64Array:
    """The assumed value in each bucket: equally far into every bucket, to match the exact sum."""
    low, high = _bounds(histogram)
    width_ns = histogram.counts @ (high - low)
    place = np.clip(_ratio(histogram.total_ns - histogram.counts @ low, width_ns), 0.0, 1.0)
    middle: F64Array = low + np.nan_to_num(place)[:, None] * (high - low)
    return middle


def _ratio(a: F64Array, b: F64Array) -> F64Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        found: F64Array = a / b
    return found
