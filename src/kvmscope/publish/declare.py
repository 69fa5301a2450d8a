"""Declarations of stats: one object per stat, one class for the stats of a provider and scope.

Not here: the rules (``statset``), memory (``publication``) and writing (``cells``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Generic, Self, TypeVar, overload

from ..schema import Base, Descriptor, Kind, Scope, Tier, Unit
from .budget import check_budget
from .cells import (
    OFF,
    BitCell,
    BooleanCell,
    Cell,
    CounterCell,
    InstantCell,
    LinearHistogramCell,
    LogHistogramCell,
    PeakCell,
)
from .publication import Publication, Vm
from .statset import About, StatSet, check_shape

C = TypeVar("C", bound=Cell)

_KERNEL_LOG_BUCKETS = 32


class Declaration(Generic[C]):
    """One stat. As an attribute of a ``Stats`` class it is, on the instance, the cell to write to.

    ``meaning``: one sentence that says what is counted. ``name``: the name for readers, by default the attribute's.
    A value in base units is ``raw * base ** exponent``. ``tier``: how stable the stat is. ``group``: the opt-in group
    that enables the stat. Raises ValueError, with the rule, if a rule of the format is broken.
    """

    kind: ClassVar[Kind]

    def __init__(
        self,
        meaning: str,
        *,
        name: str = "",
        unit: Unit = Unit.NONE,
        base: Base = Base.POW10,
        exponent: int = 0,
        tier: Tier | None = None,
        group: str = "",
    ) -> None:
        self._declare(Descriptor(name, self.kind, unit, base, exponent), About(meaning, tier, group))

    def _declare(self, descriptor: Descriptor, about: About) -> None:
        self.descriptor = descriptor
        self.about = about
        check_shape(descriptor)

    @property
    def name(self) -> str:
        return self.descriptor.name

    @property
    def meaning(self) -> str:
        return self.about.meaning

    def __set_name__(self, owner: type[Stats], name: str) -> None:
        if not self.name:
            self.descriptor = replace(self.descriptor, name=name)

    if TYPE_CHECKING:  # the type of an attribute; Stats and its metaclass implement it

        @overload
        def __get__(self, instance: None, owner: type[Stats]) -> Self: ...
        @overload
        def __get__(self, instance: Stats, owner: type[Stats]) -> C: ...
        def __get__(self, instance: Stats | None, owner: type[Stats]) -> Self | C: ...


class Counter(Declaration[CounterCell]):
    """A cumulative stat, which never decreases."""

    kind = Kind.CUMULATIVE


class Instant(Declaration[InstantCell]):
    """A stat that goes up and down."""

    kind = Kind.INSTANT


class Peak(Declaration[PeakCell]):
    """The largest value seen."""

    kind = Kind.PEAK


class Boolean(Declaration[BooleanCell]):
    """A state that is true or false, in its own word; every reader of the format supports it."""

    kind = Kind.INSTANT

    def __init__(self, meaning: str, *, name: str = "", tier: Tier | None = None, group: str = "") -> None:
        super().__init__(meaning, name=name, unit=Unit.BOOLEAN, tier=tier, group=group)


class Bit(Declaration[BitCell]):
    """A state that is true or false, in one bit of a word: 64 bits of a group cost 8 bytes.

    Readers that do not implement docs/reference/bits.md ignore it. One thread must write all bits of a class.
    """

    kind = Kind.INSTANT

    def __init__(self, meaning: str, *, name: str = "", tier: Tier | None = None, group: str = "") -> None:
        super().__init__(meaning, name=name, unit=Unit.BIT, tier=tier, group=group)


class LinearHistogram(Declaration[LinearHistogramCell]):
    """The number of values in ``size`` buckets of ``bucket_size`` raw units; the last has no upper bound."""

    kind = Kind.LINEAR_HISTOGRAM

    def __init__(
        self,
        meaning: str,
        *,
        size: int,
        bucket_size: int,
        name: str = "",
        unit: Unit = Unit.NONE,
        base: Base = Base.POW10,
        exponent: int = 0,
        tier: Tier | None = None,
        group: str = "",
    ) -> None:
        descriptor = Descriptor(name, self.kind, unit, base, exponent, size, bucket_size)
        self._declare(descriptor, About(meaning, tier, group))


class LogHistogram(Declaration[LogHistogramCell]):
    """The number of values in ``size`` buckets of powers of two of the raw unit; the last has no upper bound."""

    kind = Kind.LOG_HISTOGRAM

    def __init__(
        self,
        meaning: str,
        *,
        size: int = _KERNEL_LOG_BUCKETS,
        name: str = "",
        unit: Unit = Unit.NONE,
        base: Base = Base.POW10,
        exponent: int = 0,
        tier: Tier | None = None,
        group: str = "",
    ) -> None:
        self._declare(Descriptor(name, self.kind, unit, base, exponent, size), About(meaning, tier, group))


class _Declaring(type):
    """Returns declarations as attributes of a class without storing them in the class.

    The lookup of an instance attribute is three times as fast if the class has no attribute of the same name.
    """

    _declarations: dict[str, Declaration[Cell]]

    if not TYPE_CHECKING:  # so that type checkers report a wrong name

        def __getattr__(cls, name):
            try:
                return cls._declarations[name]
            except KeyError:
                raise AttributeError(f"{cls.__name__} has no attribute {name!r}") from None


class Stats(metaclass=_Declaring):
    """Base of classes that declare stats; an instance is one published file.

    ``class DiskStats(Stats, provider="disk", scope=Scope.VM): requests = Counter("…")``, then
    ``disk = DiskStats(vm)`` and ``disk.requests.add()``. With ``Scope.VCPU``: ``CpuStats(vm, vcpu=0)``.

    ``groups``: the default groups of instances. ``budget``: bytes of data that one subject may take. Raises ValueError,
    with the rule or the costs, if the declarations break a rule or exceed the budget.
    """

    stat_set: ClassVar[StatSet]
    """All declared stats, of every group."""

    _declarations: ClassVar[dict[str, Declaration[Cell]]] = {}
    _enabled: ClassVar[dict[frozenset[str], StatSet]]
    _groups: ClassVar[frozenset[str]]
    _budget: ClassVar[int | None]

    def __init_subclass__(
        cls, *, provider: str, scope: Scope, groups: Iterable[str] = (), budget: int | None = None
    ) -> None:
        super().__init_subclass__()
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Declaration)}
        hidden = sorted(set(own) & (set(dir(Stats)) | {"publication"}))
        if hidden:
            raise ValueError(
                f"{', '.join(hidden)} means something else here; give the stat another attribute and name="
            )
        for name in own:
            delattr(cls, name)
        cls._declarations = {**cls._declarations, **own}
        cls.stat_set = _stat_set(provider, scope, cls._declarations.values())
        cls._enabled = {}
        cls._groups = frozenset(groups)
        cls._budget = budget
        cls._set_of(cls._groups)

    def __init__(self, vm: Vm, *, vcpu: int | None = None, groups: Iterable[str] | None = None) -> None:
        """Publishes these stats for ``vm`` or its vCPU ``vcpu``; raises what ``Vm.publish`` raises.

        ``groups``: the groups to enable; None for the class's default. A stat of another group is not in the file,
        takes no memory, and its updates do nothing. Raises ValueError for an unknown group or an exceeded budget.
        """
        stat_set = self._set_of(self._groups if groups is None else frozenset(groups))
        self.publication: Publication = vm.publish(stat_set, vcpu=vcpu)
        published = {descriptor.name for descriptor in stat_set.descriptors}
        for attribute, declaration in self._declarations.items():
            name = declaration.name
            # Not by __dict__: its first use slows down every later attribute lookup.
            setattr(self, attribute, self.publication.cell(name) if name in published else OFF)

    def close(self) -> None:
        """Ends this publication. Idempotent."""
        self.publication.close()

    @classmethod
    def _set_of(cls, groups: frozenset[str]) -> StatSet:
        if groups not in cls._enabled:
            stat_set = cls.stat_set.enabled(groups)
            check_budget([stat_set], cls._budget)
            cls._enabled[groups] = stat_set
        return cls._enabled[groups]


def _stat_set(provider: str, scope: Scope, declarations: Iterable[Declaration[Cell]]) -> StatSet:
    declared = list(declarations)
    about = {declaration.name: declaration.about for declaration in declared}
    return StatSet.place(provider, scope, [declaration.descriptor for declaration in declared], about)
