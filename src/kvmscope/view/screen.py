"""The screen of a host, or of one VM: what of each overview is shown, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..sample import VmId
from .findings_text import title_of
from .overview import Overview, of_one_vm
from .overview_text import BUSIEST, VMS_SHOWN, kept_in_place, overview_lines, rows_shown, vm_lines
from .subjects import FollowedVm
from .text import Line, styled
from .watch import HostView

_LINES_BESIDE_VMS = 8


@dataclass
class StatusScreen:
    """The ``limit`` VMs with the most of the metric ``by``, or one VM. VMs that stay on it stay in their places."""

    by: str = BUSIEST
    limit: int = VMS_SHOWN
    vm: FollowedVm | None = None
    _places: list[VmId] = field(default_factory=list)

    def overviews(self, views: Iterable[HostView]) -> Iterator[Overview]:
        """What is shown of each view, until the VM that was asked for has ended."""
        for view in views:
            overview = self.overview(view)
            yield overview
            if self.vm is not None and not overview.vms:
                return

    def overview(self, view: HostView) -> Overview:
        """What is shown of a view: all of it, or the VM that was asked for."""
        return view.overview if self.vm is None else of_one_vm(view.overview, self.vm.id)

    def lines(self, overview: Overview, *, width: int, height: int | None = None) -> Iterator[Line]:
        """The screen, in ``width`` columns; with as many VMs as ``height`` lines have room for."""
        if self.vm is None:
            yield from overview_lines(overview, self._rows(overview, height), width=width, by=self.by)
        elif overview.vms:
            yield from vm_lines(overview, width=width, vcpu=self.vm.vcpu)
        else:
            yield styled(f"{title_of(self.vm.name, self.vm.id)} has ended")

    def _rows(self, overview: Overview, height: int | None) -> list[int]:
        room = self.limit if height is None else min(self.limit, max(1, height - _LINES_BESIDE_VMS))
        ids = overview.vms.ids
        wanted = [ids[row] for row in rows_shown(overview, by=self.by, limit=room)]
        self._places = kept_in_place(self._places, wanted)
        rows = {vm: row for row, vm in enumerate(ids)}
        return [rows[vm] for vm in self._places]
