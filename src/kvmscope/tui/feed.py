"""The interface that a live host and a recording share as sources of views, and the news that they hand over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:  # the reading thread begins before these are loaded
    from ..view.events import HostEvent
    from ..view.groups import GroupListView
    from ..view.overview import HostTotal, VmOverview
    from ..view.trouble import HostTroubles
    from ..view.values import Moment
    from ..view.watch import HostView


@dataclass(frozen=True, slots=True)
class Arrival:
    """A finished view of a new window, and the events in it.

    ``troubles``: those of the view, if the reading thread computed them. ``begins``: this view does not continue the
    views shown before.
    """

    view: HostView
    events: tuple[HostEvent, ...] = ()
    troubles: HostTroubles | None = None
    begins: bool = False


@dataclass(frozen=True, slots=True)
class Loss:
    """The source is lost, for a reason; reads are retried. ``time``: when the loss was noticed."""

    time: Moment
    reason: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class OfferedGroups:
    """The opt-in groups that this host can count, and their cost."""

    view: GroupListView


@dataclass(frozen=True, slots=True)
class Refusal:
    """Opt-in groups cannot be counted, for a reason; reading continues without them."""

    reason: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """The reading thread has ended by a bug of kvmscope."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Position:
    """The position of the view in a recording: its number among ``count`` scenes, and the times of the first, this and
    the last scene.

    ``is_live``: the view follows a recorder, which has just written the last scene.
    """

    place: int
    count: int
    first: Moment
    now: Moment
    last: Moment
    is_playing: bool
    is_live: bool = False


News: TypeAlias = Arrival | Loss | OfferedGroups | Refusal | Failure
Deliver: TypeAlias = Callable[[Sequence[News]], None]
"""Takes news in order; news of one call are drawn once."""


class Feed(Protocol):
    """Reads on its own thread, and hands over the results from that thread."""

    def start(self, deliver: Deliver) -> None: ...

    def stop(self) -> None: ...

    def want(self, metrics: Sequence[str]) -> None:
        """Set the metrics of VMs that are shown, to be computed before a view is handed over."""

    @property
    def position(self) -> Position | None:
        """The position of the last view in a recording; None for a live host."""


class Controls(ABC):
    """The operations of keys on a recording."""

    @abstractmethod
    def step(self, intervals: int) -> None:
        """Move by a number of intervals, back if negative."""

    @abstractmethod
    def go_to(self, share: float) -> None:
        """Move to a point in time between the first scene (0) and the last (1)."""

    @abstractmethod
    def toggle(self) -> None:
        """Start or stop playing."""


class GroupControls(ABC):
    """The operations of keys on opt-in groups."""

    @abstractmethod
    def ask(self) -> None:
        """Request that OfferedGroups be handed over."""

    @abstractmethod
    def count(self, groups: Sequence[str]) -> None:
        """Count with exactly these groups from now on."""


def prepare(view: HostView, metrics: Sequence[str]) -> None:
    """Compute what a screen is going to need, on the reading thread."""
    vms = view.overview.vms
    _ = vms.place_of
    _ = view.verdicts
    subjects: list[HostTotal | VmOverview] = [view.overview.total, *vms[:1]]
    for metric in metrics:
        vms.column(metric)
        for subject in subjects:
            _ = subject.metrics[metric], metric in subject.partial
