"""The published stats of one provider and scope, their rules, and their cost.

Not here: declarations (``declare``), memory (``publication``), limits of the cost (``budget``).
Source of the rules: the kernel's selftest kvm_binary_stats_test.c and Documentation/virt/kvm/api.rst 4.133;
docs/reference/bits.md for bits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ..codec import statsfile
from ..codec.publication import DATA_LIMIT, DESCRIPTOR_LIMIT
from ..schema import Descriptor, Kind, Scope, StatNote, Tier, Unit

_STAT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_LOWER_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
_DESCRIPTOR_SIZE = 16 + statsfile.KERNEL_NAME_SIZE
_WORD = 8


@dataclass(frozen=True, slots=True)
class About:
    """Facts about a stat that its descriptor cannot hold.

    ``meaning``: one sentence that says what is counted. ``tier``: how stable the stat is. ``group``: the opt-in group
    that enables it; "" if it is always on.
    """

    meaning: str = ""
    tier: Tier | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class StatCost:
    """The memory of some stats, per subject that publishes them."""

    stats: int
    data_bytes: int
    descriptor_bytes: int


@dataclass(frozen=True)
class StatSet:
    """The stats of one (provider, scope), with their places in the data block.

    ``about`` has facts about stats by name; some stats may be missing.
    Raises ValueError, with the rule, if a rule of the format is broken.
    """

    provider: str
    scope: Scope
    descriptors: tuple[Descriptor, ...]
    about: Mapping[str, About] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not _LOWER_NAME.fullmatch(self.provider):
            raise ValueError(f"provider {self.provider!r} does not match {_LOWER_NAME.pattern}")
        names = [descriptor.name for descriptor in self.descriptors]
        for name in names:
            check_name(name)
        for descriptor in self.descriptors:
            check_shape(descriptor)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} declared twice")
        for name, other in statsfile.shared(self.descriptors):
            raise ValueError(f"{name} has words of {other}: only bits share a word, each with a number of its own")
        if len(names) > DESCRIPTOR_LIMIT:
            raise ValueError(f"{len(names)} stats, more than the {DESCRIPTOR_LIMIT} that readers accept")
        if self.data_size > DATA_LIMIT:
            raise ValueError(f"{self.data_size} bytes of data, more than the {DATA_LIMIT} that readers accept")
        self._check_about(set(names))

    @classmethod
    def place(
        cls, provider: str, scope: Scope, descriptors: Sequence[Descriptor], about: Mapping[str, About] | None = None
    ) -> StatSet:
        """The set with assigned places: always-on stats first, then group by group. Bits of different groups do not
        share words. Raises as the class does."""
        known = dict(about or {})
        return cls(provider, scope, _place(descriptors, lambda name: known.get(name, About()).group), known)

    @cached_property
    def data_size(self) -> int:
        """The bytes of data per subject."""
        return max((d.offset + _WORD * d.size for d in self.descriptors), default=0)

    @cached_property
    def encoded(self) -> bytes:
        """A stats file of this set, without an id and with all values 0."""
        return statsfile.encode(statsfile.build("", self.descriptors))

    @cached_property
    def notes(self) -> tuple[StatNote, ...]:
        """Meaning and tier of each stat, for the file; empty if none is known."""
        notes = tuple(StatNote(about.meaning, about.tier) for about in map(self._about, self.descriptors))
        return notes if any(note != StatNote() for note in notes) else ()

    def _about(self, descriptor: Descriptor) -> About:
        return self.about.get(descriptor.name, About())

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The opt-in groups, in the order of their first stats."""
        return tuple(group for group in dict.fromkeys(self.group_of(d.name) for d in self.descriptors) if group)

    @cached_property
    def costs(self) -> Mapping[str, StatCost]:
        """The cost of each group, and of always-on stats as "". Groups do not share words, so costs can be added."""
        members: dict[str, list[Descriptor]] = {"": []}
        for descriptor in self.descriptors:
            members.setdefault(self.group_of(descriptor.name), []).append(descriptor)
        return {group: _cost(descriptors) for group, descriptors in members.items()}

    def group_of(self, name: str) -> str:
        """The group of a stat, "" if it is always on."""
        return self.about.get(name, About()).group

    def enabled(self, groups: Iterable[str]) -> StatSet:
        """The set reduced to these groups and always-on stats, newly placed. Raises ValueError for an unknown group."""
        wanted = set(groups)
        unknown = sorted(wanted.difference(self.groups))
        if unknown:
            there_are = ", ".join(self.groups) or "none"
            raise ValueError(f"{self.provider} has no group {', '.join(unknown)} here; there are {there_are}")
        if wanted.issuperset(self.groups):
            return self
        kept = [d for d in self.descriptors if self.group_of(d.name) in {"", *wanted}]
        about = {d.name: self.about[d.name] for d in kept if d.name in self.about}
        return StatSet.place(self.provider, self.scope, kept, about)

    def _check_about(self, names: set[str]) -> None:
        strangers = sorted(self.about.keys() - names)
        if strangers:
            raise ValueError(f"there is no stat {', '.join(strangers)} to say more about")
        for name, about in self.about.items():
            if about.group and not _LOWER_NAME.fullmatch(about.group):
                raise ValueError(f"{name}: group {about.group!r} does not match {_LOWER_NAME.pattern}")


def _place(descriptors: Sequence[Descriptor], group_of: Callable[[str], str]) -> tuple[Descriptor, ...]:
    placed: dict[int, Descriptor] = {}
    end = 0
    for group in dict.fromkeys(["", *(group_of(d.name) for d in descriptors)]):
        members = [index for index, d in enumerate(descriptors) if group_of(d.name) == group]
        placed |= zip(members, statsfile.place([descriptors[index] for index in members], start=end), strict=True)
        end = max([end, *(placed[index].offset + _WORD * placed[index].size for index in members)])
    return tuple(placed[index] for index in range(len(descriptors)))


def _cost(descriptors: Sequence[Descriptor]) -> StatCost:
    words = {d.offset + _WORD * i for d in descriptors for i in range(d.size)}
    return StatCost(len(descriptors), _WORD * len(words), _DESCRIPTOR_SIZE * len(descriptors))


def check_name(name: str) -> None:
    """Raises ValueError, with the rule, if a stat may not have this name."""
    if not _STAT_NAME.fullmatch(name):
        raise ValueError(f"stat name {name!r} does not match {_STAT_NAME.pattern}")
    if len(name) >= statsfile.KERNEL_NAME_SIZE:
        raise ValueError(f"stat name {name} has {len(name)} characters; {statsfile.KERNEL_NAME_SIZE - 1} are allowed")


def check_shape(descriptor: Descriptor) -> None:
    """Raises ValueError, with the rule, if kind, unit, scale and size do not match."""
    broken = next((rule for rule, holds in _rules(descriptor) if not holds), None)
    if broken:
        raise ValueError(f"{descriptor.name or 'stat'}: {broken}")


def _rules(d: Descriptor) -> Iterable[tuple[str, bool]]:
    """Each rule of the format and whether ``d`` keeps it."""
    linear = d.kind is Kind.LINEAR_HISTOGRAM
    is_bit = d.unit is Unit.BIT
    yield "a bit is an instant of one word without an exponent, and one of 64", not is_bit or d.bit is not None
    yield "kind, unit and base must be known ones", d.is_understood
    yield f"exponent {d.exponent} is not in ±32767", abs(d.exponent) < 2**15
    yield "an exponent of seconds is not positive", d.unit is not Unit.SECONDS or d.exponent <= 0
    yield "a boolean has no exponent", d.unit is not Unit.BOOLEAN or d.exponent == 0
    yield (
        "an exponent of counts, bytes and cycles is not negative",
        (d.unit in (Unit.SECONDS, Unit.BOOLEAN) or d.exponent >= 0),
    )
    yield f"size {d.size} is not in 1 to 65535", 1 <= d.size < 2**16
    yield "a histogram has at least two buckets", not d.is_histogram or d.size >= 2
    yield "a linear histogram has a bucket size from 1 to 2**32 - 1", not linear or 1 <= d.bucket_size < 2**32
    yield "only a linear histogram has a bucket size", linear or is_bit or d.bucket_size == 0
    yield "a boolean is not a log histogram", not (d.is_boolean and d.kind is Kind.LOG_HISTOGRAM)
    yield "a linear histogram of booleans has two buckets", not (d.is_boolean and linear) or d.size == 2
