"""Histograms over time: how many values each bucket gained in each interval, of each VM and of all together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from ..analysis.histogram import Distributions, edges
from ..analysis.window import Window
from ..catalog.stats import load_stats
from ..formula.resolved import ScopedStat
from ..sample import U64Array, VmId
from ..schema import Descriptor, Scope, Unit
from .report import HeatColumn, ReportHeat
from .values import Moment

_HOST_COLUMNS: Final = 120
_VM_COLUMNS: Final = 40
_OF_VMS: Final = frozenset({"halt_wait_hist"})
"""Histograms that are shown for each VM."""

_BASE_UNITS: Final = {Unit.SECONDS: "seconds", Unit.BYTES: "bytes", Unit.CYCLES: "cycles"}


class HeatCollector:
    """Takes windows in their order."""

    def __init__(self) -> None:
        self._descriptors: dict[ScopedStat, Descriptor] = {}
        self._host: dict[ScopedStat, dict[int, U64Array]] = {}
        self._vms: dict[tuple[VmId, ScopedStat], dict[int, U64Array]] = {}
        self._windows = 0

    def add(self, window: Window) -> None:
        """The next window. A VM of which some vCPU is not known has no column in it."""
        for block in window.current.blocks:
            for stat in block.schema.descriptors:
                key = ScopedStat(block.schema.provider, block.schema.scope, stat.name)
                if (
                    stat.is_histogram
                    and stat.is_understood
                    and self._descriptors.setdefault(key, stat).size == stat.size
                ):
                    self._add_stat(window, key)
        self._windows += 1

    def _add_stat(self, window: Window, key: ScopedStat) -> None:
        moved = window.movement(*key)
        if moved is None or not moved.known.any():
            return
        words = np.where(moved.known[:, np.newaxis], moved.words, np.uint64(0))
        self._host.setdefault(key, {})[self._windows] = words.sum(axis=0, dtype=np.uint64)
        if key.name not in _OF_VMS:
            return
        sample = window.current
        for row, of_vm in enumerate(sample.vcpus_of_vm if key.scope is Scope.VCPU else _singles(len(sample.vms))):
            if of_vm.stop > of_vm.start and moved.known[of_vm].all():
                total = words[of_vm].sum(axis=0, dtype=np.uint64)
                self._vms.setdefault((sample.vms.vm_id(row), key), {})[self._windows] = total

    def of_host(self, times: Sequence[Moment]) -> tuple[ReportHeat, ...]:
        """The heat maps of all VMs together that have any value."""
        found = (self._heat(key, columns, times, _HOST_COLUMNS) for key, columns in self._host.items())
        return tuple(heat for heat in found if heat is not None)

    def of_vm(self, vm: VmId, times: Sequence[Moment]) -> tuple[ReportHeat, ...]:
        """Those of one VM."""
        mine = [(key, columns) for (owner, key), columns in self._vms.items() if owner == vm]
        found = (self._heat(key, columns, times, _VM_COLUMNS) for key, columns in mine)
        return tuple(heat for heat in found if heat is not None)

    def _heat(
        self, key: ScopedStat, windows: dict[int, U64Array], times: Sequence[Moment], most: int
    ) -> ReportHeat | None:
        stat = self._descriptors[key]
        total = np.sum(list(windows.values()), axis=0)
        used = np.flatnonzero(total)
        if not len(used):
            return None
        rows = slice(int(used[0]), int(used[-1]) + 1)
        fold = max(1, math.ceil(len(times) / most))
        firsts = range(0, len(times), fold)
        entry = load_stats().find(*key)
        return ReportHeat(
            stat=key.name,
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


def _singles(count: int) -> list[slice]:
    return [slice(row, row + 1) for row in range(count)]
