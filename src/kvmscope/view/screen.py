"""The screen of a host, or of one VM: the part of each overview to show, and its order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..sample import VmId
from .findings_text import title_of
from .overview import Overview, of_one_vm
from .overview_text import BUSIEST, VMS_SHOWN, kept_in_place, overview_lines, rows_shown, vm_lines
from .subjects import FollowedVm
from .text import Line, Style, styled
from .watch import HostView

_LINES_BESIDE_VMS = 8


@dataclass
class StatusScreen:
    """The ``limit`` VMs with the most of the metric ``by``, or one VM. VMs that remain on it keep their places.

    ``only``: process ids of the VMs to show; empty for all.
    """

    by: str = BUSIEST
    limit: int = VMS_SHOWN
    vm: FollowedVm | None = None
    only: frozenset[int] = frozenset()
    _places: list[VmId] = field(default_factory=list)
    _last: Overview | None = None

    def overviews(self, views: Iterable[HostView]) -> Iterator[Overview]:
        """The overview to show for each view, until the requested VM has ended."""
        for view in views:
            overview = self.overview(view)
            yield overview
            if self.vm is not None and not overview.vms:
                return

    def overview(self, view: HostView) -> Overview:
        """The overview to show for a view: the whole host, or the requested VM."""
        return view.overview if self.vm is None else of_one_vm(view.overview, self.vm.id)

    def lines(self, overview: Overview, *, width: int, height: int | None = None) -> Iterator[Line]:
        """The screen in ``width`` columns, with as many VMs as fit ``height`` lines."""
        if self.vm is None:
            yield from overview_lines(overview, self._rows(overview, height), width=width, by=self.by)
        elif overview.vms:
            self._last = overview
            yield from vm_lines(overview, width=width, vcpu=self.vm.vcpu)
        else:
            yield from self._end_lines(self.vm, width, is_in_place=height is not None)

    def _end_lines(self, vm: FollowedVm, width: int, *, is_in_place: bool) -> Iterator[Line]:
        """The message that the VM has ended, below its last values if these are no longer on the screen."""
        if is_in_place and self._last is not None:
            yield from vm_lines(self._last, width=width, vcpu=vm.vcpu)
        yield styled(f"{title_of(vm.name, vm.id)} has ended", Style.ALERT)

    def _rows(self, overview: Overview, height: int | None) -> list[int]:
        room = self.limit if height is None else min(self.limit, max(1, height - _LINES_BESIDE_VMS))
        ids = overview.vms.ids
        shown = rows_shown(overview, by=self.by, limit=len(ids) if self.only else room)
        wanted = [ids[row] for row in shown if not self.only or overview.vms[row].pid in self.only][:room]
        self._places = kept_in_place(self._places, wanted)
        rows = {vm: row for row, vm in enumerate(ids)}
        return [rows[vm] for vm in self._places]
