"""The state behind the pages: the last view, the order of its VMs, marked and ended VMs, and events.

Only the loop of the terminal feeds it. Rules:

- VMs are sorted at each view unless one is selected or marked. While one is, every VM keeps its place, so that no line
  moves while the user acts on it; new VMs are appended, and Esc lets the table sort again.
- A VM that ended keeps its last values, marked as ended, for ``KEPT_S`` or as long as it is selected, marked or open.
- If the source is lost, the last view stays and is marked as stale.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ..sample import VmId
from ..view.events import EventKind, HostEvent
from ..view.history import History
from ..view.overview import VmOverview
from ..view.trouble import HostTroubles, VmOrder, troubles_of
from ..view.values import Moment
from ..view.vm_columns import HISTORY_METRIC
from ..view.vm_search import VmSearch, has_text
from ..view.watch import HostView
from .feed import Arrival, Failure, Loss, News, OfferedGroups, Refusal
from .settings import Settings

if TYPE_CHECKING:
    from ..view.groups import GroupListView

KEPT_S: Final = 10.0
"""How long a VM that ended stays in the table."""

_EVENTS_KEPT: Final = 2_000
_SCENES_KEPT_BYTES: Final = 48 << 20


@dataclass(frozen=True, slots=True)
class EndedVm:
    """A VM that has ended: its last values, and the time of the first sample without it."""

    vm: VmOverview
    last_view: HostView
    seen: Moment


@dataclass
class Board:
    """See the module. ``view`` is the last view, ``shown`` the one on the screen; they differ only while paused."""

    settings: Settings
    view: HostView | None = None
    shown: HostView | None = None
    loss: Loss | None = None
    is_paused: bool = False
    offered: GroupListView | None = None
    refusal: Refusal | None = None
    filter: str = ""
    history: History = field(default_factory=lambda: History((HISTORY_METRIC,)))
    events: deque[HostEvent] = field(default_factory=lambda: deque(maxlen=_EVENTS_KEPT))
    shown_events: Sequence[HostEvent] = ()
    troubles: HostTroubles = field(default_factory=HostTroubles)
    marked: set[VmId] = field(default_factory=set)
    selected: VmId | None = None
    opened: VmId | None = None
    ended: dict[VmId, EndedVm] = field(default_factory=dict)
    views: deque[HostView] = field(default_factory=deque)
    order: list[VmId] = field(default_factory=list)
    places: Mapping[VmId, int] = field(default_factory=dict)
    _sorting: VmOrder = field(default_factory=VmOrder)
    _search: VmSearch = field(default_factory=VmSearch)
    _troubles: HostTroubles | None = None

    # --- news ---------------------------------------------------------------------------------------------------------

    def take(self, news: News) -> None:
        """Take a new view, or the loss of the source. Raises the exception that ended the reading thread."""
        if isinstance(news, Failure):
            raise news.error
        match news:
            case Loss():
                self._lose(news)
            case OfferedGroups():
                self.offered = news.view
            case Refusal():
                self.refusal = news
            case Arrival():
                self._arrive(news)

    def _arrive(self, news: Arrival) -> None:
        if news.begins:
            self._begin()
        time = Moment(news.view.scene.sample.taken_ns)
        if self.loss is not None:
            self.events.append(HostEvent(time, EventKind.SOURCE_BACK, news.view.scene.sample.source))
            self.loss = None
        self.events.extend(news.events)
        self._keep(news.view)
        self.history.add(news.view.overview)
        before, self.view, self._troubles = self.view, news.view, news.troubles
        self._note_ended(before, news.view)
        if not self.is_paused:
            self.show()

    def show(self) -> None:
        """Show the last view."""
        self.shown = self.view
        self.shown_events = list(self.events)
        self.history.show()
        if self.shown is None:
            return
        if self._troubles is None:
            self._troubles = troubles_of(self.shown.judgement.findings)
        self.troubles = self._troubles
        self.places = self.shown.overview.vms.place_of
        self._forget_ended(self.shown)
        self.sort(is_asked=False)

    def _begin(self) -> None:
        """Reset, since the next view does not continue the previous ones."""
        self.history = History(self.history.metrics)
        self.events.clear()
        self.ended.clear()
        self.views.clear()
        self.view = None

    def _lose(self, loss: Loss) -> None:
        if self.loss is None:
            self.events.append(HostEvent(loss.time, EventKind.SOURCE_LOST, loss.reason))
        self.history.add_unknown(loss.time)
        self.loss = loss
        if not self.is_paused:
            self.shown_events = list(self.events)
            self.history.show()

    def _keep(self, view: HostView) -> None:
        """Keep the last views, as far as memory allows, for the charts of pages opened later."""
        self.views.append(view)
        size = sum(block.values.nbytes for block in view.scene.sample.blocks) + 1
        while len(self.views) > max(2, min(self.history.length, _SCENES_KEPT_BYTES // size)):
            self.views.popleft()

    # --- VMs that ended -----------------------------------------------------------------------------------------------

    def _note_ended(self, before: HostView | None, now: HostView) -> None:
        if before is None:
            return
        vms, there = before.overview.vms, now.overview.vms.place_of
        if vms.ids == now.overview.vms.ids:
            return
        for vm in there.keys() & self.ended.keys():
            del self.ended[vm]
        for place, vm in enumerate(vms.ids):
            if vm not in there:
                self.ended[vm] = EndedVm(vms[place], before, Moment(now.scene.sample.taken_ns))

    def _forget_ended(self, now: HostView) -> None:
        for vm, ended in list(self.ended.items()):
            is_old = now.scene.sample.taken_ns - ended.seen.ns > KEPT_S * 1e9
            if is_old and vm not in self.marked and vm not in (self.selected, self.opened):
                del self.ended[vm]

    def vm(self, vm: VmId) -> VmOverview | None:
        """A VM as shown: from the view on the screen, or its last values if it has ended."""
        place = self.places.get(vm)
        if place is not None and self.shown is not None:
            return self.shown.overview.vms[place]
        ended = self.ended.get(vm)
        return None if ended is None else ended.vm

    def is_ended(self, vm: VmId) -> bool:
        """Whether this VM is no longer in the view on the screen."""
        return vm not in self.places

    def view_of(self, vm: VmId) -> HostView | None:
        """The view that contains this VM: the one on the screen, or the last one before the VM ended."""
        if vm in self.places:
            return self.shown
        ended = self.ended.get(vm)
        return None if ended is None else ended.last_view

    # --- order --------------------------------------------------------------------------------------------------------

    @property
    def holds_order(self) -> bool:
        """Whether VMs keep their places, as one is selected or marked."""
        return self.selected is not None or bool(self.marked)

    def sort(self, *, is_asked: bool) -> None:
        """Sort the VMs. ``is_asked``: the user pressed a key to sort, so VMs move even while the order is held."""
        if self.shown is None:
            return
        if self.holds_order and not is_asked:
            there = self.places.keys() | self.ended.keys()
            kept = [vm for vm in self.order if vm in there]
            known = set(kept)
            came = [vm for vm in self.places if vm not in known]
            self.order = [*kept, *(vm for vm in self.ended if vm not in known), *came]
            return
        vms, settings = self.shown.overview.vms, self.settings
        places = self._sorting.places(vms, settings.sort, self.troubles, is_upside_down=settings.is_upside_down)
        ids = vms.ids
        self.order = [*(ids[place] for place in places), *(vm for vm in self.ended if vm not in self.places)]

    def visible(self) -> Sequence[VmId]:
        """The VMs that pass the filter, in the order of the table."""
        if not self.filter or self.shown is None:
            return self.order
        found = self._search.matching(self.shown.overview.vms, self.troubles, self.filter)
        return [vm for vm in self.order if vm in found or (vm in self.ended and self._has_text(self.ended[vm].vm))]

    def _has_text(self, vm: VmOverview) -> bool:
        """Whether an ended VM matches the filter."""
        return has_text(vm, self.troubles.of_vm.get(vm.id), self.filter)

    def select(self, vm: VmId | None) -> None:
        """Select a VM, which holds the order; None lets the table sort again."""
        self.selected = vm
        if vm is None and not self.marked:
            self.sort(is_asked=True)

    def release(self) -> None:
        """Clear the selection and all marks."""
        self.marked.clear()
        self.select(None)
