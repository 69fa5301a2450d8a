"""The behaviour of vCPUs and VMs on the simulated host: the causes and rates of their exits, and their halt times.

Not here: publishing (``simulate``). All numbers are invented, but they are consistent with each other.
Rule: a vCPU's stats are the sum over a sequence of events, one VM exit each, which repeats without end. So every
relation that holds for a single event (a halt whose poll failed adds one to the attempts, its time to the sum, and one
to the bucket of that time) holds for the stats at every moment. The stats are a pure function of the number of events.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from ..sample import I64Array, U64Array
from ..schema import Descriptor

FloatArray: TypeAlias = npt.NDArray[np.float64]

EVENTS: Final = 1024
"""Number of events before the sequence repeats."""

_POLL_LIMIT_NS: Final = 200_000  # kvm.halt_poll_ns on x86

_ADDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "msr": (),
        "irq": ("irq_exits",),
        "preempted": ("irq_exits", "preemption_other", "host_state_reload"),
        "yielded": ("irq_exits", "preemption_reported", "host_state_reload"),
        "io": ("io_exits", "fpu_reload", "host_state_reload"),
        "io_string": ("io_exits", "insn_emulation", "fpu_reload", "host_state_reload"),
        "mmio": ("mmio_exits", "insn_emulation", "fpu_reload", "host_state_reload"),
        "kick": ("insn_emulation",),
        "signal": ("signal_exits", "fpu_reload", "host_state_reload"),
        "inject": ("irq_exits", "irq_injections", "req_event"),
        "window": ("irq_window_exits", "irq_injections", "req_event"),
        "nmi": ("nmi_window_exits", "nmi_injections", "req_event"),
        "fault": ("pf_taken", "pf_fixed"),
        "fault_fast": ("pf_taken", "pf_fixed", "pf_fast"),
        "fault_again": ("pf_taken", "pf_spurious"),
        "fault_retry": ("pf_taken",),
        "fault_write": ("pf_taken", "pf_emulate", "insn_emulation"),
        "fault_mmio": ("pf_taken", "pf_mmio_spte_created", "mmio_exits", "insn_emulation", "fpu_reload"),
        "fault_guest": ("pf_guest", "req_event"),
        "flush": ("tlb_flush",),
        "hypercall": ("hypercalls",),
        "hint": ("hypercalls", "directed_yield_attempted"),
        "hint_taken": ("hypercalls", "directed_yield_attempted", "directed_yield_successful", "host_state_reload"),
        "enter_l2": ("nested_run", "req_event"),
        "unknown_insn": ("insn_emulation", "insn_emulation_fail", "fpu_reload"),
        "halt_polled": ("halt_exits", "halt_attempted_poll", "halt_successful_poll", "irq_injections", "req_event"),
        "halt_missed": (
            *("halt_exits", "halt_attempted_poll", "halt_wakeup", "host_state_reload", "irq_injections", "req_event"),
        ),
        "halt_cut": (
            *("halt_exits", "halt_attempted_poll", "halt_wakeup", "host_state_reload", "irq_injections", "req_event"),
        ),
        "halt_pending": ("halt_exits",),
        "halt_slept": ("halt_exits", "halt_wakeup", "host_state_reload", "irq_injections", "req_event"),
        "emulated_by_vmm": ("fpu_reload", "host_state_reload"),
    }
)
"""The stats that an exit of each cause increments besides ``exits``; halts also add times."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The behaviour of a VM and its vCPUs.

    ``exits``: mean VM exits per second of a vCPU. ``causes``: their shares. ``halted``: share of the time that a vCPU
    is halted while its exit rate is highest. ``sleep_spread``: variation of the halt times (sigma of a log-normal).
    ``swing``, ``period_s``: the rate varies by this share, with this period. ``burst``, ``burst_s``: additional exits
    per second after creation, and the time in which they decay. ``age_s``: age of such VMs when the simulation begins.
    ``slowest``: minimum fraction of the rate for any vCPU of such a VM.
    ``in_guest_mode``: share of the time in a nested guest. ``flushes``: remote TLB flushes per second of a VM.
    ``levels``: the settled instants and peaks of a VM, reached after about ``settle_s``.
    ``counts``: increase of its other counters per second.
    """

    name: str
    exits: float
    causes: Mapping[str, float]
    halted: float = 0.0
    sleep_spread: float = 1.0
    swing: float = 0.2
    period_s: float = 30.0
    burst: float = 0.0
    burst_s: float = 1.0
    age_s: tuple[float, float] = (3600.0, 30 * 86400.0)
    slowest: float = 0.6
    in_guest_mode: float = 0.0
    flushes: float = 1.0
    levels: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, float] = field(default_factory=dict)
    settle_s: float = 60.0

    @property
    def usually_halted(self) -> float:
        """Mean share of the time that a vCPU is halted."""
        return self.halted * self.exits / self.most_exits

    @property
    def most_exits(self) -> float:
        """Highest rate of exits per second."""
        return self.exits * (1 + self.swing) + self.burst


BEHAVIOURS: Final = (
    Behaviour(
        "web",
        exits=9000,
        causes={"halt_polled": 32, "halt_missed": 5, "msr": 38, "kick": 14, "inject": 6, "irq": 4, "hint_taken": 1},
        halted=0.55,
        swing=0.5,
        flushes=14,
        levels={"pages_4k": 41_000, "pages_2m": 3_800, "nx_lpage_splits": 220, "max_mmu_page_hash_collisions": 2},
    ),
    Behaviour(
        "db",
        exits=21_000,
        causes={"kick": 34, "inject": 26, "halt_polled": 4, "halt_missed": 9, "msr": 20, "mmio": 4, "irq": 3},
        halted=0.4,
        swing=0.35,
        period_s=47.0,
        flushes=3,
        levels={"pages_4k": 9_000, "pages_2m": 15_900, "pages_1g": 24},
    ),
    Behaviour(
        "idle",
        exits=48,
        causes={"halt_slept": 40, "halt_missed": 2, "msr": 44, "irq": 12, "preempted": 2},
        halted=0.985,
        sleep_spread=0.8,
        swing=0.01,
        slowest=0.95,
        flushes=0.02,
        levels={"pages_4k": 18_000, "pages_2m": 310},
    ),
    Behaviour(
        "windows",
        exits=5200,
        causes={
            **{"halt_slept": 10, "halt_missed": 12, "window": 21, "inject": 14, "hypercall": 18, "msr": 16},
            **{"io": 3, "mmio": 3, "irq": 2, "fault_guest": 1},
        },
        halted=0.62,
        flushes=22,
        levels={"pages_4k": 52_000, "pages_2m": 1_900},
    ),
    Behaviour(
        "nested",
        exits=33_000,
        causes={
            **{"enter_l2": 38, "fault": 5, "fault_write": 12, "fault_again": 4, "flush": 9, "inject": 8, "msr": 14},
            **{"halt_missed": 3, "window": 4, "irq": 3},
        },
        halted=0.2,
        swing=0.3,
        in_guest_mode=0.55,
        flushes=420,
        levels={
            **{"pages_4k": 96_000, "pages_2m": 900, "mmu_shadow_pages": 7_400, "mmu_unsync": 130},
            **{"max_mmu_rmap_size": 9, "max_mmu_page_hash_collisions": 6},
        },
        counts={
            **{"mmu_shadow_zapped": 310, "mmu_cache_miss": 330, "mmu_pte_write": 900, "mmu_pde_zapped": 12},
            **{"mmu_flooded": 4, "mmu_recycled": 0.3},
        },
    ),
    Behaviour(
        "boot",
        exits=140,
        causes={
            **{"io": 38, "io_string": 21, "mmio": 9, "fault": 17, "fault_mmio": 2, "msr": 6, "window": 3},
            **{"inject": 2, "halt_slept": 1.5, "unknown_insn": 0.2, "irq": 0.3},
        },
        halted=0.3,
        sleep_spread=0.5,
        burst=24_000,
        burst_s=25.0,
        age_s=(1.0, 4.0),
        flushes=6,
        levels={"pages_4k": 33_000, "pages_2m": 640},
        settle_s=20.0,
    ),
    Behaviour(
        "build",
        exits=14_000,
        causes={
            **{"fault": 44, "fault_fast": 8, "fault_again": 3, "flush": 12, "irq": 14, "preempted": 3, "msr": 9},
            **{"halt_missed": 2, "kick": 4, "yielded": 1},
        },
        halted=0.1,
        swing=0.6,
        period_s=19.0,
        flushes=150,
        levels={"pages_4k": 310_000, "pages_2m": 1_200, "nx_lpage_splits": 1_500},
        settle_s=900.0,
    ),
    Behaviour(
        "router",
        exits=46_000,
        causes={"inject": 47, "irq": 17, "kick": 12, "msr": 15, "halt_polled": 5, "halt_missed": 2, "nmi": 0.2},
        halted=0.15,
        flushes=0.5,
        levels={"pages_4k": 12_000, "pages_2m": 2_000},
    ),
    Behaviour(
        "spin",
        exits=1020,
        causes={"irq": 91, "preempted": 4, "msr": 4, "signal": 1},
        swing=0.02,
        flushes=0.1,
        levels={"pages_4k": 2_100, "pages_2m": 4_000},
    ),
)
"""A small host has the first ones."""


def events_until(behaviour: Behaviour, lived_s: FloatArray, *, pace: FloatArray, phase: FloatArray) -> I64Array:
    """Exits of vCPUs of age ``lived_s``. A ``pace`` below 1 slows a vCPU down; ``phase`` shifts its swings."""
    turn = 2 * np.pi / behaviour.period_s
    swung = behaviour.swing / turn * (np.sin(turn * lived_s + phase) - np.sin(phase))
    burst = behaviour.burst * behaviour.burst_s * -np.expm1(-lived_s / behaviour.burst_s)
    events: I64Array = np.floor(pace * (behaviour.exits * (lived_s + swung) + burst)).astype(np.int64)
    return events


def sum_up(sums: U64Array, events: I64Array) -> U64Array:
    """The words after ``events`` events: shape (subjects, words). ``sums`` is from ``sums_of_events``."""
    rows, rest = np.divmod(events, EVENTS)
    words: U64Array = rows.astype(np.uint64)[:, np.newaxis] * sums[EVENTS] + sums[rest]
    return words


def sums_of_events(behaviour: Behaviour, descriptors: tuple[Descriptor, ...], *, seed: int) -> U64Array:
    """The sums over the first 0, 1, … EVENTS events: shape (EVENTS + 1, words)."""
    chance = random.Random(f"{seed} {behaviour.name}")
    words = max(d.offset // 8 + d.size for d in descriptors)
    first = {d.name: d.offset // 8 for d in descriptors}
    sums = np.zeros((EVENTS + 1, words), dtype=np.uint64)
    for number, added in enumerate(_iter_events(behaviour, chance), start=1):
        for name, bucket, amount in added:
            sums[number, first[name] + bucket] += np.uint64(amount)
    return np.cumsum(sums, axis=0, dtype=np.uint64)


_Added = tuple[str, int, int]
"""A stat, the index of a word in it, and the amount to add."""


def _iter_events(behaviour: Behaviour, chance: random.Random) -> Iterator[list[_Added]]:
    causes = _causes(behaviour, chance)
    halts = [_halt_times(cause, behaviour, chance) for cause in causes]
    spent_ns = sum(ns for times in halts for _, ns in times if ns)
    budget_ns = behaviour.halted * EVENTS / behaviour.most_exits * 1e9
    polled_ns = sum(ns for times in halts for stat, ns in times if stat != "halt_wait")
    # Sleeps take the part of the halted time that polling leaves.
    stretch = max(0.0, budget_ns - polled_ns) / max(1, spent_ns - polled_ns)
    for cause, times in zip(causes, halts, strict=True):
        added = [("exits", 0, 1), *((name, 0, 1) for name in _ADDS[cause])]
        for stat, ns in times:
            took = max(1, round(ns * stretch)) if stat == "halt_wait" else ns
            added += [(f"{stat}_ns", 0, took), (f"{stat}_hist", min(took.bit_length(), 31), 1)]
        yield added


def _causes(behaviour: Behaviour, chance: random.Random) -> list[str]:
    """The cause of each event: exact shares, up to whole events, in random order."""
    total = sum(behaviour.causes.values())
    due = np.cumsum(list(behaviour.causes.values())) / total * EVENTS
    ends = [round(end) for end in due]
    causes = [name for name, n in zip(behaviour.causes, np.diff([0, *ends]), strict=True) for _ in range(n)]
    chance.shuffle(causes)
    return causes


def _halt_times(cause: str, behaviour: Behaviour, chance: random.Random) -> list[tuple[str, int]]:
    """The times that a halt adds: the stat without its suffix, and nanoseconds."""
    polled = min(_POLL_LIMIT_NS - 1, round(chance.lognormvariate(np.log(18_000), 0.9)))
    slept = round(chance.lognormvariate(np.log(1e6), behaviour.sleep_spread))
    if cause == "halt_polled":
        return [("halt_poll_success", polled)]
    if cause == "halt_cut":
        return [("halt_poll_fail", chance.choice((1_000, 2_000, 3_000))), ("halt_wait", slept)]
    if cause == "halt_missed":
        return [("halt_poll_fail", chance.choice((10_000, 20_000, 40_000))), ("halt_wait", slept)]
    return [("halt_wait", slept)] if cause == "halt_slept" else []
