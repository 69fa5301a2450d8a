"""How statistics are described: the vocabulary of descriptors and schemas.

Pure values. The bytes that describe them are parsed in ``codec.statsfile``; what a stat *means* is in ``catalog``.
Terms and rules are those of the KVM binary statistics interface (Documentation/virt/kvm/api.rst, 4.133).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from types import MappingProxyType
from typing import Any


class Scope(Enum):
    """The kind of subject that a row of a block has."""

    VM = "vm"
    VCPU = "vcpu"

    # Scopes are keys of most tables of values, and the hash of Enum hashes the name at each call.
    __hash__ = object.__hash__


class Kind(Enum):
    """How a stat moves; values are the kernel's type numbers (bits 0-3 of ``flags``)."""

    CUMULATIVE = 0
    INSTANT = 1
    PEAK = 2
    LINEAR_HISTOGRAM = 3
    LOG_HISTOGRAM = 4

    @property
    def is_histogram(self) -> bool:
        return self in (Kind.LINEAR_HISTOGRAM, Kind.LOG_HISTOGRAM)


class Unit(Enum):
    """What a value counts; values are the kernel's unit numbers (bits 4-7 of ``flags``).

    BIT is an extension that no kernel has yet (docs/reference/bits.md): a boolean that is one bit of its word.
    """

    NONE = 0
    BYTES = 1
    SECONDS = 2
    CYCLES = 3
    BOOLEAN = 4
    BIT = 5


class Base(Enum):
    """Base of the scale ``base ** exponent``; values are the kernel's numbers (bits 8-11 of ``flags``)."""

    POW10 = 0
    POW2 = 1

    @property
    def number(self) -> int:
        return 10 if self is Base.POW10 else 2


class Tier(Enum):
    """The stability of a stat: of its name, its kind and its meaning."""

    ABI_LIKE = "abi-like"
    STABLE = "stable"
    VOLATILE = "volatile"


WORD_BITS = 64
"""The number of bits, and so of booleans, in one word."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A type, unit or base number that this version of kvmscope does not know; kept as it was read."""

    code: int


@dataclass(frozen=True, slots=True)
class Shape:
    """How a stat is counted: the properties that must not change for programs to keep reading the stat correctly.

    ``bucket_size``: the bucket width of a linear histogram, or the number of a bit; 0 for other stats.
    """

    kind: Kind | Unknown
    unit: Unit | Unknown = Unit.NONE
    base: Base | Unknown = Base.POW10
    exponent: int = 0
    size: int = 1
    bucket_size: int = 0


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One statistic as its provider describes it.

    A value in base units is ``raw * base.number ** exponent``. ``size``: the number of u64 words. ``bucket_size``: the
    bucket width of a linear histogram in raw units, or the bit number of a stat of unit BIT; for other stats, the
    value of the file. ``offset``: of the first word in the data block, in bytes. ``reserved_flags``: the flag bits
    12-31, in place, to which no kernel has given a meaning yet.
    """

    name: str
    kind: Kind | Unknown
    unit: Unit | Unknown = Unit.NONE
    base: Base | Unknown = Base.POW10
    exponent: int = 0
    size: int = 1
    bucket_size: int = 0
    offset: int = 0
    reserved_flags: int = 0

    @property
    def is_understood(self) -> bool:
        """False if the type, unit or base is unknown, so a reader must keep the words of this stat raw."""
        if self.unit is Unit.BIT and self.bit is None:
            return False
        return not any(isinstance(part, Unknown) for part in (self.kind, self.unit, self.base))

    @property
    def is_boolean(self) -> bool:
        return self.unit is Unit.BOOLEAN or self.bit is not None

    @property
    def bit(self) -> int | None:
        """The number of the bit of its word that this boolean is, 0 being the lowest; None if it is not a bit.

        Also None for a stat of unit BIT that breaks a rule of docs/reference/bits.md: it may be a later extension.
        """
        if self.unit is not Unit.BIT or self.bucket_size >= WORD_BITS:
            return None
        shape = (self.kind, self.size, self.exponent, self.base)
        return self.bucket_size if shape == (Kind.INSTANT, 1, 0, Base.POW10) else None

    @property
    def is_histogram(self) -> bool:
        return isinstance(self.kind, Kind) and self.kind.is_histogram

    @property
    def shape(self) -> Shape:
        """This descriptor without name and place."""
        means_something = self.kind is Kind.LINEAR_HISTOGRAM or self.unit is Unit.BIT
        bucket_size = self.bucket_size if means_something else 0
        return Shape(self.kind, self.unit, self.base, self.exponent, self.size, bucket_size)

    @property
    def scale(self) -> float:
        """Factor from raw words to base units (seconds, bytes, cycles, or a bare count); inf if no float holds it."""
        if isinstance(self.base, Unknown):
            return 1.0
        try:
            return float(self.base.number) ** self.exponent
        except OverflowError:
            return math.inf


@dataclass(frozen=True, slots=True)
class StatNote:
    """The description of a published stat by its author: ``meaning``, one sentence of untrusted text, and ``tier``."""

    meaning: str = ""
    tier: Tier | None = None


@dataclass(frozen=True)
class Schema:
    """The descriptors of one (provider, scope) and the size of the data block that they describe.

    ``data_size`` is in bytes and a multiple of 8; it may exceed what the descriptors cover, since a kernel may have
    words that it does not describe. ``notes``: one for each descriptor, or empty, as the kernel has none.
    """

    provider: str
    scope: Scope
    descriptors: tuple[Descriptor, ...]
    data_size: int
    notes: tuple[StatNote, ...] = ()
    _index: dict[str, Descriptor] = field(init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """The hash, computed once: schemas are the keys of caches that serve all samples."""
        return hash((self.provider, self.scope, self.descriptors, self.data_size, self.notes))

    def __reduce__(self) -> tuple[Any, ...]:
        # The hash of a string differs between processes.
        return Schema, (self.provider, self.scope, self.descriptors, self.data_size, self.notes)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_index", {d.name: d for d in self.descriptors})

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def __getitem__(self, name: str) -> Descriptor:
        """The descriptor called ``name``; KeyError if this schema has none."""
        return self._index[name]

    def note(self, name: str) -> StatNote:
        """The author's note on a stat; an empty one if there is none."""
        return self._notes.get(name, _NO_NOTE)

    @cached_property
    def _notes(self) -> Mapping[str, StatNote]:
        return dict(zip(self.names, self.notes, strict=False))

    @cached_property
    def words(self) -> int:
        """The number of u64 words in one data block."""
        return self.data_size // 8

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names in the provider's order, which is not always the order of the data."""
        return tuple(d.name for d in self.descriptors)

    @property
    def table(self) -> Table:
        """This schema without the places of its stats."""
        stats = {stat.name: stat.shape for stat in self.descriptors}
        return Table(self.provider, self.scope, MappingProxyType(stats), self.data_size)


_NO_NOTE = StatNote()


@dataclass(frozen=True, slots=True)
class Table:
    """The stats of one (provider, scope) by name, for the comparison of kernels.

    The places of stats in the data are left out: programs find a stat by its name. ``data_size`` is in bytes, None if
    it is not known.
    """

    provider: str
    scope: Scope
    stats: Mapping[str, Shape]
    data_size: int | None = None


@dataclass(frozen=True, slots=True)
class KernelTables:
    """The stats that one kernel has. ``captured``: they were read from a running kernel; if not, ``how`` names their
    source.

    ``release`` and ``architecture`` are None if they are not known; the architecture is the kernel's name: ``x86``.
    """

    name: str
    release: str | None
    architecture: str | None
    captured: bool
    how: str
    tables: tuple[Table, ...]
