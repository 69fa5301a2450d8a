"""Heat maps: the number of values that each bucket of a histogram gained in each interval of a time span.

``HeatLog`` collects what windows added to the histograms of one subject; its maps have a requested number of columns.
A subject is a VM, a vCPU, or all VMs together. Nothing here draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np

from ..analysis.histogram import Distributions, edges
from ..analysis.window import Movement, Window
from ..catalog.stats import load_stats
from ..errors import UsageError
from ..formula.resolved import ScopedStat
from ..host.text import printable
from ..sample import U64Array, VmId
from ..scene import Scene
from ..schema import Descriptor, Scope, Unit
from .scene_windows import windows_of
from .subjects import FollowedVm, Selection, vcpu_rows
from .values import Answer, Moment

MOST_COLUMNS: Final = 120

_BASE_UNITS: Final = {Unit.SECONDS: "seconds", Unit.BYTES: "bytes", Unit.CYCLES: "cycles"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatColumn:
    """One interval of a heat map."""

    counts: Annotated[Sequence[int] | None, "Number of values in each row; null if not known."]
    p50: Annotated[float | None, "Estimate of the median, in base units."]
    p99: Annotated[float | None, "Estimate of the 99th percentile, in base units."]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """A histogram over time. Rows are its buckets, except those at either end that are always empty."""

    stat: Annotated[str, "Name of the stat."]
    provider: Annotated[str, "Its provider."]
    scope: Scope
    meaning: Annotated[str, "What it is, or empty."]
    unit: Annotated[str, "Base unit of the bounds: seconds, bytes, cycles, or empty."]
    bounds: Annotated[
        Sequence[float | None], "Lower bounds of the rows, and the upper bound of the last; null is none."
    ]
    times: Annotated[Sequence[Moment], "Ends of the columns' intervals."]
    columns: Sequence[HeatColumn]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatListView(Answer):
    """Heat maps of a VM, of a vCPU, or of all VMs together."""

    vm: Annotated[VmId | None, "The VM; null for all VMs together."]
    vcpu: Annotated[int | None, "Id of the vCPU; null for all of the VM."]
    heats: Annotated[Sequence[HeatMap], "Each histogram that has values; the one that was requested in any case."]


def growing_histograms(window: Window) -> Iterator[tuple[ScopedStat, Movement]]:
    """Each histogram of the window's last sample, with what the window added."""
    for block in window.current.blocks:
        for stat in block.schema.descriptors:
            if stat.is_histogram and stat.is_understood:
                key = ScopedStat(block.schema.provider, block.schema.scope, stat.name)
                moved = window.movement(*key)
                if moved is not None:
                    yield key, moved


class HeatLog:
    """The values that consecutive windows added to the histograms of one subject."""

    def __init__(self) -> None:
        self._descriptors: dict[ScopedStat, Descriptor] = {}
        self._words: dict[ScopedStat, dict[int, U64Array]] = {}

    def add(self, number: int, key: ScopedStat, stat: Descriptor, words: U64Array | None) -> None:
        """Add the values of window ``number``; None if they are unknown. A histogram of another size is ignored."""
        if self._descriptors.setdefault(key, stat).size != stat.size:
            return
        of_key = self._words.setdefault(key, {})
        if words is not None:
            of_key[number] = words

    def maps(self, times: Sequence[Moment], *, most: int, keeps_empty: bool = False) -> tuple[HeatMap, ...]:
        """The maps of histograms with values, or of all. ``times``: ends of the windows; ``most``: column limit."""
        found = (self._map(key, times, most, keeps_empty) for key in self._words)
        return tuple(heat for heat in found if heat is not None)

    def _map(self, key: ScopedStat, times: Sequence[Moment], most: int, keeps_empty: bool) -> HeatMap | None:
        stat, windows = self._descriptors[key], self._words[key]
        used = np.flatnonzero(np.sum(list(windows.values()), axis=0)) if windows else np.array([], dtype=np.intp)
        if not len(used) and not keeps_empty:
            return None
        rows = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, stat.size)
        fold = max(1, math.ceil(len(times) / most))
        firsts = range(0, len(times), fold)
        entry = load_stats().find(*key)
        return HeatMap(
            stat=key.name,
            provider=key.provider,
            scope=key.scope,
            meaning=entry.meaning if entry else "",
            unit=_BASE_UNITS.get(stat.unit, "") if isinstance(stat.unit, Unit) else "",
            bounds=tuple(_finite(bound) for bound in edges(stat)[rows.start : rows.stop + 1].tolist()),
            times=tuple(times[min(first + fold, len(times)) - 1] for first in firsts),
            columns=tuple(
                _column(stat, [windows.get(n) for n in range(first, first + fold)], rows) for first in firsts
            ),
        )


def _column(stat: Descriptor, windows: Sequence[U64Array | None], rows: slice) -> HeatColumn:
    known = [words for words in windows if words is not None]
    if not known:
        return HeatColumn(counts=None, p50=None, p99=None)
    total: U64Array = np.asarray(np.sum(known, axis=0, dtype=np.uint64))
    p50, p99 = Distributions(stat, total[np.newaxis]).quantiles((0.5, 0.99)).estimate[0].tolist()
    return HeatColumn(counts=tuple(total[rows].tolist()), p50=_finite(p50), p99=_finite(p99))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def sum_of_rows(moved: Movement, rows: range) -> U64Array | None:
    """The sum of what the window added to these rows; None if there are no rows or one is unknown."""
    if not len(rows) or not moved.known[rows.start : rows.stop].all():
        return None
    total: U64Array = moved.words[rows.start : rows.stop].sum(axis=0, dtype=np.uint64)
    return total


def sum_of_known(moved: Movement) -> U64Array | None:
    """The sum of what the window added to all subjects for which it is known; None if it is known for none."""
    if not moved.known.any():
        return None
    words = np.where(moved.known[:, np.newaxis], moved.words, np.uint64(0))
    total: U64Array = words.sum(axis=0, dtype=np.uint64)
    return total


def heat_list_view(
    scenes: Iterable[Scene], subject: FollowedVm | None, stat: str | None = None, provider: str | None = None
) -> HeatListView:
    """The heat maps of a subject, or of one of its stats, over scenes in order. Raises UsageError if there is none.

    ``subject``: None for all VMs together. An interval in which it is absent or incomplete is unknown.
    """
    log, times = HeatLog(), list[Moment]()
    for scene, window in windows_of(scenes):
        for key, moved in growing_histograms(window):
            if stat in (None, key.name) and provider in (None, key.provider):
                log.add(len(times), key, moved.descriptor, _added(scene, subject, key.scope, moved))
        times.append(Moment(scene.sample.taken_ns))
    heats = log.maps(times, most=MOST_COLUMNS, keeps_empty=stat is not None)
    if stat is not None and not heats:
        raise UsageError(f"there is no histogram '{printable(stat)}' in this time")
    vm, vcpu = (None, None) if subject is None else (subject.id, subject.vcpu)
    return HeatListView(vm=vm, vcpu=vcpu, heats=heats)


def _added(scene: Scene, subject: FollowedVm | None, scope: Scope, moved: Movement) -> U64Array | None:
    if subject is None:
        return sum_of_known(moved)
    place = subject.locate(scene)
    rows = range(0) if place is None else _rows_of(scene, place, scope)
    return sum_of_rows(moved, rows)


def _rows_of(scene: Scene, place: Selection, scope: Scope) -> range:
    """The rows of a subject in a stat's column; none for a per-VM stat if the subject is a vCPU."""
    if scope is Scope.VCPU:
        return vcpu_rows(scene.sample, place)
    return range(0) if place.vcpu is not None else range(place.vm, place.vm + 1)
