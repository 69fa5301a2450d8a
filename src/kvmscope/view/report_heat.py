"""The heat maps of a report: of all VMs together, and of each VM for its most informative histograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..analysis.window import Movement, Window
from ..formula.resolved import ScopedStat
from ..sample import VmId
from ..schema import Scope
from .heat import MOST_COLUMNS, HeatLog, HeatMap, growing_histograms, sum_of_known, sum_of_rows
from .values import Moment

_VM_COLUMNS: Final = 40
_OF_VMS: Final = frozenset({"halt_wait_hist"})
"""Histograms that are shown for each VM."""


class HeatCollector:
    """Collects histograms from windows, which are passed to it in order of time."""

    def __init__(self) -> None:
        self._host = HeatLog()
        self._vms: dict[VmId, HeatLog] = {}
        self._windows = 0

    def add(self, window: Window) -> None:
        """Add the next window. A VM with an unknown vCPU gets no column for it."""
        for key, moved in growing_histograms(window):
            self._host.add(self._windows, key, moved.descriptor, sum_of_known(moved))
            if key.name in _OF_VMS:
                self._add_vms(window, key, moved)
        self._windows += 1

    def _add_vms(self, window: Window, key: ScopedStat, moved: Movement) -> None:
        sample = window.current
        for row, of_vm in enumerate(sample.vcpus_of_vm):
            rows = range(of_vm.start, of_vm.stop) if key.scope is Scope.VCPU else range(row, row + 1)
            log = self._vms.setdefault(sample.vms.vm_id(row), HeatLog())
            log.add(self._windows, key, moved.descriptor, sum_of_rows(moved, rows))

    def of_host(self, times: Sequence[Moment]) -> tuple[HeatMap, ...]:
        """The heat maps of all VMs together, without those that have no value."""
        return self._host.maps(times, most=MOST_COLUMNS)

    def of_vm(self, vm: VmId, times: Sequence[Moment]) -> tuple[HeatMap, ...]:
        """The heat maps of one VM."""
        log = self._vms.get(vm)
        return () if log is None else log.maps(times, most=_VM_COLUMNS)
