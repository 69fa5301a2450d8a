"""Where views come from: the interface of a live host and of a recording, and what they hand over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:  # the thread that reads begins before these are loaded
    from ..view.events import HostEvent
    from ..view.groups import GroupListView
    from ..view.overview import HostTotal, VmOverview
    from ..view.trouble import HostTroubles
    from ..view.values import Moment
    from ..view.watch import HostView


@dataclass(frozen=True, slots=True)
class Arrival:
    """A finished view of one more window, and what happened in it.

    ``troubles``: of the view, where they were worked out beside the screen. ``begins``: what was shown before is not
    the past of this one.
    """

    view: HostView
    events: tuple[HostEvent, ...] = ()
    troubles: HostTroubles | None = None
    begins: bool = False


@dataclass(frozen=True, slots=True)
class Loss:
    """The source is gone, for a reason; it is tried repeatedly. ``time``: when that showed."""

    time: Moment
    reason: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class OfferedGroups:
    """The opt-in groups that this host can count, and their cost."""

    view: GroupListView


@dataclass(frozen=True, slots=True)
class Refusal:
    """Opt-in groups cannot be counted, for a reason; reading goes on without them."""

    reason: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """The thread that reads has ended by a mistake of ours."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Position:
    """Where in a recording the view is: which of ``count`` scenes, and the times of the first, this and the last.

    ``is_live``: it follows a recorder, which has written the last scene just now.
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
"""Takes what was read, in order; what comes together is drawn once."""


class Feed(Protocol):
    """Reads on a thread of its own and hands over what it read, from that thread."""

    def start(self, deliver: Deliver) -> None: ...

    def stop(self) -> None: ...

    def want(self, metrics: Sequence[str]) -> None:
        """These metrics of VMs are shown: they are worked out before a view is handed over."""

    @property
    def position(self) -> Position | None:
        """Where in a recording the last view is; None for a host that is read now."""


class Controls(ABC):
    """What keys do with a recording."""

    @abstractmethod
    def step(self, intervals: int) -> None:
        """Move by so many intervals."""

    @abstractmethod
    def go_to(self, share: float) -> None:
        """Move to a part of the time from the first scene to the last, from 0 to 1."""

    @abstractmethod
    def toggle(self) -> None:
        """Play on, or stop playing."""


class GroupControls(ABC):
    """What keys do with opt-in groups."""

    @abstractmethod
    def ask(self) -> None:
        """Have OfferedGroups handed over."""

    @abstractmethod
    def count(self, groups: Sequence[str]) -> None:
        """Count by these groups from now on, and by no others."""


def prepare(view: HostView, metrics: Sequence[str]) -> None:
    """Work out what a screen is going to ask for, on the thread that reads."""
    vms = view.overview.vms
    _ = vms.place_of
    _ = view.verdicts
    subjects: list[HostTotal | VmOverview] = [view.overview.total, *vms[:1]]
    for metric in metrics:
        vms.column(metric)
        for subject in subjects:
            _ = subject.metrics[metric], metric in subject.partial
