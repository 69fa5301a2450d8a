"""What the opt-in groups count on a host of a fleet: events of one length, more of them in a VM in trouble."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ..sample import U64Array
from ..schema import Schema
from ..sources.bpf.groups import exits, mmu_lock, userspace, wakeups
from .behaviours import FloatArray


@dataclass(frozen=True, slots=True)
class EventRate:
    """So many events a second of a subject, each of so many nanoseconds."""

    per_s: float
    length_ns: int


@dataclass(frozen=True, slots=True)
class CountedGroup:
    """The events of a group that are counted. ``stat``: their number, then with ``time`` their sum and histogram."""

    schema: Schema
    stat: str
    time: str
    healthy: EventRate
    sick: EventRate

    def words(self, is_sick: npt.NDArray[np.bool_], counted_s: FloatArray) -> U64Array:
        """Shape (moments, subjects, words), after they have counted so long."""
        words = np.zeros((len(counted_s), len(is_sick), self.schema.words), dtype=np.uint64)
        for rate, rows in ((self.healthy, np.flatnonzero(~is_sick)), (self.sick, np.flatnonzero(is_sick))):
            events = np.floor(rate.per_s * counted_s).astype(np.uint64)[:, np.newaxis]
            histogram = self.schema[f"{self.time}_hist"]
            bucket = min(rate.length_ns.bit_length(), histogram.size - 1)
            words[:, rows, self.schema[self.stat].offset // 8] = events
            words[:, rows, self.schema[f"{self.time}_ns"].offset // 8] = events * np.uint64(rate.length_ns)
            words[:, rows, histogram.offset // 8 + bucket] = events
        return words


COUNTED: Final = (
    CountedGroup(
        mmu_lock.schema(), "mmu_lock_read_contended", "mmu_lock_read_wait", EventRate(2, 900), EventRate(3000, 80_000)
    ),
    CountedGroup(
        userspace.schema_of(("io", "mmio")),
        "userspace_exits",
        "userspace",
        EventRate(5, 20_000),
        EventRate(800, 400_000),
    ),
    CountedGroup(
        wakeups.schema_of("entry"), "wakeups", "wakeup_to_entry", EventRate(180, 30_000), EventRate(180, 6_000_000)
    ),
    CountedGroup(
        exits.schema_of(("msr", "io_instruction")),
        "exit_msr",
        "exit_msr",
        EventRate(800, 2000),
        EventRate(9000, 30_000),
    ),
)
