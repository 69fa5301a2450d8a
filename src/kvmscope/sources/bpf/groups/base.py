"""What a group is: a plan of what to load, the shape of what it leaves in memory, and what that costs.

Values alone; nothing here touches the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ....sample import Block, Gap, Sample
from ....schema import Descriptor, Kind, Schema, Scope, Unit

WHO_SIZE = 64
"""``struct who``: what each slot needs besides its counts."""
TIMED_SIZE = 8 * (2 + 32)
"""``struct timed`` of timed.h: a count, nanoseconds, 32 buckets."""
_LEAST_ROOM = {Scope.VM: 64, Scope.VCPU: 256}


def timed(at: int, count: str, *, time: str, histogram: str) -> tuple[Descriptor, ...]:
    """The stats of one kind of event whose ``struct timed`` lies at this byte of the group's data."""
    return (
        counted(at, count),
        summed(at + 8, time),
        Descriptor(histogram, Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=32, offset=at + 16),
    )


def counted(at: int, name: str) -> Descriptor:
    """How often something happened."""
    return Descriptor(name, Kind.CUMULATIVE, offset=at)


def summed(at: int, name: str) -> Descriptor:
    """How long it took in all, in nanoseconds."""
    return Descriptor(name, Kind.CUMULATIVE, Unit.SECONDS, exponent=-9, offset=at)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a group takes. Sizes are those of the kernel's memory that it holds; events cost time besides."""

    scope: Scope
    stats: int
    words: int
    """u64 words of one subject."""
    room: int
    """Subjects that there is memory for."""

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
        """Held for as long as the group is attached, used or not."""
        return self.room * self.bytes_per_subject


@dataclass(frozen=True, slots=True)
class GroupShape:
    """What a reader must know of a group's arrays; the same whether it loaded the group or found it pinned."""

    name: str
    schema: Schema
    """Of one slot: the rows of ``struct row`` one after the other. A group has one scope."""
    slots: int
    silent: str = ""
    """Why the events of this group may never come on this kernel; "" if they are known to come."""
    missing: tuple[tuple[str, str], ...] = ()
    """Stats that this kernel does not let be counted, each with the reason; they have no descriptor."""
    while_logged: bool = False
    """Whether the events of a VM happen only while its memory is logged for dirty pages: without, nothing is known."""

    @property
    def cost(self) -> Cost:
        schema = self.schema
        return Cost(schema.scope, len(schema.descriptors), schema.words, self.slots)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to load for a group on this kernel."""

    name: str
    """Also that of its provider and, with ``.bpf.o``, of its object."""
    schema: Schema
    rows: int
    """``struct row`` of a subject, of schema.data_size / rows bytes each."""
    programs: Mapping[str, str | None]
    """The programs of the object that are wanted -> the function to attach to, None if the object says it itself."""
    constants: bytes = b""
    """``struct constants`` of the object."""
    silent: str = ""
    missing: tuple[tuple[str, str], ...] = ()
    maps: Mapping[str, tuple[int | None, int]] = field(default_factory=dict)
    """(value_size or None, max_entries) of maps of the group's own."""
    while_logged: bool = False
    otherwise: Callable[[str], Plan] | None = None
    """What to load where the kernel refuses this, for the reason given; None: nothing. May raise Unavailable."""

    def shape(self, subjects: int) -> GroupShape:
        """With room for twice as many subjects as there are, since more may come."""
        slots = max(_LEAST_ROOM[self.schema.scope], 2 * subjects)
        return GroupShape(self.name, self.schema, slots, self.silent, self.missing, self.while_logged)


@dataclass(frozen=True, slots=True)
class Part:
    """What one group adds to a sample."""

    blocks: tuple[Block, ...]
    gaps: tuple[Gap, ...]


class Group(Protocol):
    """A group that counts. Must be closed; what was loaded for it alone is then gone."""

    @property
    def name(self) -> str: ...

    @property
    def schemas(self) -> tuple[Schema, ...]:
        """Of the blocks that ``read`` can give."""

    @property
    def cost(self) -> Cost | None:
        """None if it holds nothing."""

    def read(self, sample: Sample) -> Part:
        """What was counted, for the subjects of a sample of the same ids. A subject of which that is not known has no
        row, and a gap says why."""

    def close(self) -> None: ...


class AbsentGroup:
    """A group that was requested and cannot be had: a gap with the reason in each sample."""

    cost = None
    schemas: tuple[Schema, ...] = ()

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self._gap = Gap(reason, provider=name)

    def read(self, sample: Sample) -> Part:
        return Part((), (self._gap,))

    def close(self) -> None:
        """There is nothing."""
