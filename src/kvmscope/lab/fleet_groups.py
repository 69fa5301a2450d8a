"""The counts of opt-in groups on a host of a fleet: events of one length, more of them in a VM with a trouble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from ..sample import U64Array
from ..schema import Schema
from ..sources.bpf.groups import exits, mmu_lock, userspace, wakeups
from .behaviours import FloatArray


@dataclass(frozen=True, slots=True)
class EventRate:
    """The events per second of a subject, and the nanoseconds of each."""

    per_s: float
    length_ns: int


@dataclass(frozen=True, slots=True)
class CountedEvent:
    """Events of one kind. ``stat``: the stat with their number; ``time``: common prefix of their sum and histogram.

    ``trouble``: the word in ``Trouble.counted`` for VMs with the rate ``sick``.
    """

    stat: str
    time: str
    healthy: EventRate
    sick: EventRate
    trouble: str

    @classmethod
    def of_exit(cls, reason: str, healthy: EventRate, sick: EventRate, trouble: str) -> CountedEvent:
        """The exits of a reason, as it is named in group ``exits``."""
        return cls(f"exit_{reason}", f"exit_{reason}", healthy, sick, trouble)


@dataclass(frozen=True, slots=True)
class CountedGroup:
    """A group and its events. ``accidents``: by trouble, counts that go from 0 to 1 halfway through the recording,
    in every subject of the VM."""

    schema: Schema
    events: Sequence[CountedEvent]
    accidents: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def words(self, troubles: Sequence[str | None], counted_s: FloatArray) -> U64Array:
        """The words after ``counted_s``, shape (moments, subjects, words). ``troubles``: those of the subjects' VMs."""
        words = np.zeros((len(counted_s), len(troubles), self.schema.words), dtype=np.uint64)
        for event in self.events:
            is_sick = np.array([trouble == event.trouble for trouble in troubles], dtype=np.bool_)
            self._count(words, event, is_sick, counted_s)
        for trouble, stats in self.accidents.items():
            rows = [row for row, each in enumerate(troubles) if each == trouble]
            for stat in stats:
                words[len(counted_s) // 2 :, rows, self.schema[stat].offset // 8] = 1
        return words

    def _count(
        self, words: U64Array, event: CountedEvent, is_sick: npt.NDArray[np.bool_], counted_s: FloatArray
    ) -> None:
        for rate, rows in ((event.healthy, np.flatnonzero(~is_sick)), (event.sick, np.flatnonzero(is_sick))):
            events = np.floor(rate.per_s * counted_s).astype(np.uint64)[:, np.newaxis]
            histogram = self.schema[f"{event.time}_hist"]
            bucket = min(rate.length_ns.bit_length(), histogram.size - 1)
            words[:, rows, self.schema[event.stat].offset // 8] = events
            words[:, rows, self.schema[f"{event.time}_ns"].offset // 8] = events * np.uint64(rate.length_ns)
            words[:, rows, histogram.offset // 8 + bucket] = events


_ANY_CPU: Final = (
    CountedGroup(
        mmu_lock.schema(),
        (
            CountedEvent(
                "mmu_lock_read_contended",
                "mmu_lock_read_wait",
                EventRate(2, 900),
                EventRate(3000, 80_000),
                "mmu_lock",
            ),
        ),
    ),
    CountedGroup(
        userspace.schema_of(("io", "mmio", "fail_entry", "internal_error")),
        (CountedEvent("userspace_exits", "userspace", EventRate(5, 20_000), EventRate(800, 400_000), "userspace"),),
        {
            "failed entry": ("userspace_exit_fail_entry", "entry_failure_invalid_state"),
            "internal error": ("userspace_exit_internal_error", "internal_error_delivery_ev"),
        },
    ),
    CountedGroup(
        wakeups.schema_of("entry"),
        (
            CountedEvent(
                "wakeups", "wakeup_to_entry", EventRate(180, 30_000), EventRate(180, 6_000_000), trouble="wakeups"
            ),
        ),
    ),
)

_RARE: Final = EventRate(2, 1500)
_NEVER: Final = EventRate(0, 0)
_MSR: Final = (EventRate(800, 2000), EventRate(9000, 30_000), "msr exits")
_FAULT: Final = (EventRate(150, 3000), EventRate(900, 250_000), "slow faults")
_PAUSE: Final = (_RARE, EventRate(20_000, 11_000), "pause exits")
_SPLIT_LOCK: Final = (_RARE, EventRate(20, 10_000_000), "split locks")
_CPUID: Final = (_RARE, EventRate(60_000, 3000), "cpuid exits")
_WBINVD: Final = (_NEVER, EventRate(40, 1_000_000), "wbinvd exits")
_XSETBV: Final = (_RARE, EventRate(60_000, 4000), "exits of another reason")


def _exits(**events: tuple[EventRate, EventRate, str]) -> CountedGroup:
    return CountedGroup(
        exits.schema_of(tuple(events)), tuple(CountedEvent.of_exit(name, *each) for name, each in events.items())
    )


_INTEL: Final = _exits(
    msr_read=(_RARE, _RARE, ""),
    msr_write=_MSR,
    io_instruction=(_RARE, _RARE, ""),
    pause_instruction=_PAUSE,
    exception_nmi=_SPLIT_LOCK,
    cpuid=_CPUID,
    wbinvd=_WBINVD,
    ept_violation=_FAULT,
    ept_misconfig=(_RARE, _RARE, ""),
    xsetbv=_XSETBV,
)
_AMD: Final = _exits(
    msr=_MSR,
    io=(_RARE, _RARE, ""),
    pause=_PAUSE,
    ac_excp=_SPLIT_LOCK,
    cpuid=_CPUID,
    wbinvd=_WBINVD,
    npf=_FAULT,
    xsetbv=_XSETBV,
)


def counted_groups(*, is_amd: bool) -> Sequence[CountedGroup]:
    """The groups on a host; names of exit reasons depend on the vendor of its CPU."""
    return (*_ANY_CPU, _AMD if is_amd else _INTEL)
