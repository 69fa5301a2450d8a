"""The choice of series to write: patterns of included and excluded names, and a limit for any host.

A host with many VMs has more series than a monitoring system accepts from one target. Series are left out class by
class, and within a class by name from the last to the first, whole names at a time: a name is written for all subjects
or for none. The number of omitted series is a series itself.
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
    """Series and their class, which decides when they are left out."""

    series: Series
    of: SeriesClass


@dataclass(frozen=True, slots=True)
class SeriesChoice:
    """The requested series. ``include``, ``exclude``: name patterns such as ``kvm_vm_pf_*``; an empty ``include``
    means all. ``limit``: maximum number of series, None for no limit."""

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
    """The written series, and by class the number of omitted ones, for the budget or because their name was taken."""

    series: tuple[Series, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)


def choose(found: Sequence[ClassedSeries], choice: SeriesChoice) -> KeptSeries:
    """The requested series that fit the budget, grouped by name."""
    kept, clashing = _distinct([each for each in found if each.series.count and choice.wants(each.series.family)])
    left_out = Counter({"name-clash": clashing} if clashing else {})
    families: dict[Family, list[Series]] = {}
    for each in kept:
        families.setdefault(each.series.family, []).append(each.series)
    for family, of in _over_budget(kept, choice.limit).items():
        left_out[of.value] += sum(series.count for series in families.pop(family))
    return KeptSeries(tuple(series for parts in families.values() for series in parts), left_out)


def _over_budget(kept: Sequence[ClassedSeries], limit: int | None) -> dict[Family, SeriesClass]:
    """The families to leave out, each with its class."""
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
    """The series without those whose name another family has, and the number of these: publishers may use any name."""
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
