"""Which series are written: lists of names that are wanted or not, and a budget that holds for any host.

A host with many VMs has more series than a monitoring system wants of one target. What goes first is decided by class,
and within a class by name from the last to the first, whole names at a time: a name is there for all subjects or for
none. How many series were left out is a series itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase

from ..catalog.series_names import Family, FamilyType
from .series import Series


class SeriesClass(Enum):
    """Kinds of series, in the order in which they are left out. CORE is never left out."""

    VCPU_HISTOGRAM = "vcpu-histograms"
    VCPU_STAT = "vcpu-stats"
    VM_HISTOGRAM = "vm-histograms"
    FURTHER_METRIC = "further-metrics"
    VOLATILE_STAT = "volatile-stats"
    STABLE_STAT = "stable-stats"
    METRIC = "metrics"
    IMPORTANT_STAT = "important-stats"
    CORE = "core"


@dataclass(frozen=True, slots=True)
class ClassedSeries:
    """Series and the class that they are left out with."""

    series: Series
    of: SeriesClass


@dataclass(frozen=True, slots=True)
class SeriesChoice:
    """What is wanted. ``include``, ``exclude``: patterns of series names such as ``kvm_vm_pf_*``; an empty ``include``
    means all. ``limit``: of the number of series, None for no limit."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    limit: int | None = None

    def wants(self, family: Family) -> bool:
        names = {family.name, family.sample_name}
        if self.include and not _matches(names, self.include):
            return False
        return not _matches(names, self.exclude)


@dataclass(frozen=True, slots=True)
class KeptSeries:
    """What is written, and by class how many series are not, for the budget or for a name that something else has."""

    series: tuple[Series, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)


def choose(found: Sequence[ClassedSeries], choice: SeriesChoice) -> KeptSeries:
    """The series that are wanted and fit the budget, those of one name together."""
    kept, clashing = _distinct([each for each in found if each.series.count and choice.wants(each.series.family)])
    left_out = Counter({"name-clash": clashing} if clashing else {})
    families: dict[Family, list[Series]] = {}
    for each in kept:
        families.setdefault(each.series.family, []).append(each.series)
    for family, of in _over_budget(kept, choice.limit).items():
        left_out[of.value] += sum(series.count for series in families.pop(family))
    return KeptSeries(tuple(series for parts in families.values() for series in parts), left_out)


def _over_budget(kept: Sequence[ClassedSeries], limit: int | None) -> dict[Family, SeriesClass]:
    """The families that have to go, each with its class."""
    surplus = 0 if limit is None else sum(each.series.count for each in kept) - limit
    order = {of: place for place, of in enumerate(SeriesClass)}
    gone: dict[Family, SeriesClass] = {}
    for _, each in sorted(enumerate(kept), key=lambda pair: (order[pair[1].of], -pair[0])):
        if each.series.family not in gone and (surplus <= 0 or each.of is SeriesClass.CORE):
            continue
        gone.setdefault(each.series.family, each.of)
        surplus -= each.series.count
    return gone


def _distinct(found: Sequence[ClassedSeries]) -> tuple[list[ClassedSeries], int]:
    """Without series whose name another family has, and the number of those: names of publishers may be any."""
    owners: dict[str, Family] = {}
    kept, clashing = [], 0
    for each in found:
        family = each.series.family
        if all(owners.get(name, family) == family for name in _claimed(family)):
            owners |= dict.fromkeys(_claimed(family), family)
            kept.append(each)
        else:
            clashing += each.series.count
    return kept, clashing


def _claimed(family: Family) -> tuple[str, ...]:
    endings = ("", "_bucket", "_count", "_sum") if family.type is FamilyType.HISTOGRAM else ("",)
    return (family.name, *(f"{family.sample_name}{ending}" for ending in endings))


def _matches(names: set[str], patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
