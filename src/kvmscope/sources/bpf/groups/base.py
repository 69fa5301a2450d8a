"""The types of a group: the plan of what to load, the shape of its arrays, and its cost.

Values only; nothing here touches the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ....sample import Block, Gap, Sample
from ....schema import Descriptor, Kind, Schema, Scope, Unit

WHO_SIZE = 64
"""The size of ``struct who``, which each slot needs besides its counts."""
TIMED_SIZE = 8 * (2 + 32)
"""The size of ``struct timed`` of timed.h: a count, nanoseconds, 32 buckets."""
_LEAST_ROOM = {Scope.VM: 64, Scope.VCPU: 256}


def timed(at: int, count: str, *, time: str, histogram: str) -> tuple[Descriptor, ...]:
    """The stats of one kind of event; ``at``: the offset in bytes of its ``struct timed`` in the group's data."""
    return (
        counted(at, count),
        summed(at + 8, time),
        Descriptor(histogram, Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=32, offset=at + 16),
    )


def counted(at: int, name: str) -> Descriptor:
    """A stat that counts events."""
    return Descriptor(name, Kind.CUMULATIVE, offset=at)


def summed(at: int, name: str) -> Descriptor:
    """A stat that sums up the time of events, in nanoseconds."""
    return Descriptor(name, Kind.CUMULATIVE, Unit.SECONDS, exponent=-9, offset=at)


@dataclass(frozen=True, slots=True)
class Cost:
    """The kernel memory that a group takes; in addition, each event costs time."""

    scope: Scope
    stats: int
    words: int
    """u64 words of one subject."""
    room: int
    """The number of subjects for which there is memory."""

    @property
    def bytes_per_subject(self) -> int:
        return 8 * self.words + WHO_SIZE

    @property
    def bytes_per_vm(self) -> int:
        return self.bytes_per_subject if self.scope is Scope.VM else 0

    @property
    def bytes_per_vcpu(self) -> int:
        return self.bytes_per_subject if self.scope is Scope.VCPU else 0

    @property
    def memory_bytes(self) -> int:
        """The memory that is held while the group is attached, used or not."""
        return self.room * self.bytes_per_subject


@dataclass(frozen=True, slots=True)
class GroupShape:
    """The description of a group's arrays for readers, the same for loaded and for pinned groups."""

    name: str
    schema: Schema
    """The schema of one slot: the rows of ``struct row`` one after the other. A group has one scope."""
    slots: int
    silent: str = ""
    """Why the events of this group may never occur on this kernel; "" if they are known to occur."""
    missing: tuple[tuple[str, str], ...] = ()
    """Stats that cannot be counted on this kernel, each with the reason; they have no descriptor."""
    while_logged: bool = False
    """Whether the events of a VM occur only while dirty logging is on; its stats are unknown otherwise."""

    @property
    def cost(self) -> Cost:
        schema = self.schema
        return Cost(schema.scope, len(schema.descriptors), schema.words, self.slots)


@dataclass(frozen=True, slots=True)
class Plan:
    """The programs and maps to load for a group on this kernel."""

    name: str
    """Also the name of its provider and, with ``.bpf.o``, of its object file."""
    schema: Schema
    rows: int
    """The number of ``struct row`` of a subject, of schema.data_size / rows bytes each."""
    programs: Mapping[str, str | None]
    """The programs of the object to load -> the function to attach to, None if the object names it."""
    constants: bytes = b""
    """``struct constants`` of the object."""
    silent: str = ""
    missing: tuple[tuple[str, str], ...] = ()
    maps: Mapping[str, tuple[int | None, int]] = field(default_factory=dict)
    """(value_size or None, max_entries) of maps of the group's own."""
    while_logged: bool = False
    otherwise: Callable[[str], Plan] | None = None
    """Makes the plan to try if the kernel refuses this one, from the reason, or None. May raise Unavailable."""

    def shape(self, subjects: int) -> GroupShape:
        """The shape with room for twice as many subjects as there are, since more may come."""
        slots = max(_LEAST_ROOM[self.schema.scope], 2 * subjects)
        return GroupShape(self.name, self.schema, slots, self.silent, self.missing, self.while_logged)


@dataclass(frozen=True, slots=True)
class Part:
    """The data that one group adds to a sample."""

    blocks: tuple[Block, ...]
    gaps: tuple[Gap, ...]


class Group(Protocol):
    """A group that counts. Must be closed; what was loaded for it alone is then gone."""

    @property
    def name(self) -> str: ...

    @property
    def schemas(self) -> tuple[Schema, ...]:
        """The schemas of the blocks that ``read`` can return."""

    @property
    def cost(self) -> Cost | None:
        """The kernel memory that it holds; None if it holds none."""

    def read(self, sample: Sample) -> Part:
        """The counts for the subjects of a sample with the same ids. A subject whose counts are unknown has no row, and
        a gap gives the reason."""

    def close(self) -> None: ...


class AbsentGroup:
    """A requested group that is unavailable: a gap with the reason in each sample."""

    cost = None
    schemas: tuple[Schema, ...] = ()

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self._gap = Gap(reason, provider=name)

    def read(self, sample: Sample) -> Part:
        return Part((), (self._gap,))

    def close(self) -> None:
        """Nothing to close."""
