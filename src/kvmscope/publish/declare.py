"""The words to declare stats with: one object a stat, a class for those of one provider and scope.

Not here: the rules (``statset``), memory (``publication``) and writing (``cells``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Generic, Self, TypeVar, cast, overload

from ..codec import statsfile
from ..schema import Base, Descriptor, Kind, Scope, Unit
from .cells import BooleanCell, Cell, CounterCell, InstantCell, LinearHistogramCell, LogHistogramCell, PeakCell
from .publication import Publication, Vm
from .statset import StatSet, check_shape

C = TypeVar("C", bound=Cell)

_KERNEL_LOG_BUCKETS = 32


class Declaration(Generic[C]):
    """One stat. As an attribute of a ``Stats`` class it is, on the instance, the cell to write to.

    ``meaning``: one sentence that says what is counted. ``name``: what readers see, the attribute's name if not given.
    A value in base units is ``raw * base ** exponent``. ValueError, with the rule, if a rule of the format is broken.
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
    ) -> None:
        self._declare(meaning, Descriptor(name, self.kind, unit, base, exponent))

    def _declare(self, meaning: str, descriptor: Descriptor) -> None:
        self.meaning = meaning
        self.descriptor = descriptor
        check_shape(descriptor)

    @property
    def name(self) -> str:
        return self.descriptor.name

    def __set_name__(self, owner: type[Stats], name: str) -> None:
        if not self.name:
            self.descriptor = replace(self.descriptor, name=name)

    @overload
    def __get__(self, instance: None, owner: type[Stats]) -> Self: ...
    @overload
    def __get__(self, instance: Stats, owner: type[Stats]) -> C: ...
    def __get__(self, instance: Stats | None, owner: type[Stats]) -> Self | C:
        # For the types: an instance has the cell in its own dict, which is looked at first and costs an update nothing.
        return self if instance is None else cast(C, instance.publication.cell(self.name))


class Counter(Declaration[CounterCell]):
    """A cumulative stat: it only grows."""

    kind = Kind.CUMULATIVE


class Instant(Declaration[InstantCell]):
    """A stat that goes up and down."""

    kind = Kind.INSTANT


class Peak(Declaration[PeakCell]):
    """The largest value seen."""

    kind = Kind.PEAK


class Boolean(Declaration[BooleanCell]):
    """A state that is true or false at any moment."""

    kind = Kind.INSTANT

    def __init__(self, meaning: str, *, name: str = "") -> None:
        super().__init__(meaning, name=name, unit=Unit.BOOLEAN)


class LinearHistogram(Declaration[LinearHistogramCell]):
    """How often values fell in ``size`` buckets of ``bucket_size`` raw units; the last has no upper bound."""

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
    ) -> None:
        self._declare(meaning, Descriptor(name, self.kind, unit, base, exponent, size, bucket_size))


class LogHistogram(Declaration[LogHistogramCell]):
    """How often values fell in ``size`` buckets of powers of two of the raw unit; the last has no upper bound."""

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
    ) -> None:
        self._declare(meaning, Descriptor(name, self.kind, unit, base, exponent, size))


class Stats:
    """Base of classes that declare stats; an instance is one published file.

    ``class DiskStats(Stats, provider="disk", scope=Scope.VM): requests = Counter("…")``, then
    ``disk = DiskStats(vm)`` and ``disk.requests.add()``. With ``Scope.VCPU``: ``CpuStats(vm, vcpu=0)``.
    """

    stat_set: ClassVar[StatSet]
    _declarations: ClassVar[dict[str, Declaration[Cell]]]

    def __init_subclass__(cls, *, provider: str, scope: Scope) -> None:
        super().__init_subclass__()
        cls._declarations = {name: value for name, value in vars(cls).items() if isinstance(value, Declaration)}
        hidden = sorted(set(cls._declarations) & (set(dir(Stats)) | {"publication"}))
        if hidden:
            raise ValueError(
                f"{', '.join(hidden)} means something else here; give the stat another attribute and name="
            )
        cls.stat_set = StatSet(
            provider, scope, statsfile.place([declaration.descriptor for declaration in cls._declarations.values()])
        )

    def __init__(self, vm: Vm, *, vcpu: int | None = None) -> None:
        """Publishes these stats for ``vm`` or its vCPU ``vcpu``; raises what ``Vm.publish`` raises."""
        self.publication: Publication = vm.publish(self.stat_set, vcpu=vcpu)
        for attribute, declaration in self._declarations.items():
            self.__dict__[attribute] = self.publication.cell(declaration.name)

    def close(self) -> None:
        """Ends this publication. Idempotent."""
        self.publication.close()
