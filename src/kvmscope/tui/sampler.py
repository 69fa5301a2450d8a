"""A live host, read on its own thread at a steady interval.

All slow work happens here: opening, reading, naming, judging. If the source is lost, the loss and its reason are handed
over, and the host is reopened at each interval until that works.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from ..collect import SceneHost
from ..collect.opening import short_turns
from ..errors import KvmscopeError, SourceError
from ..scene import Scene
from ..view.values import Moment
from .feed import Arrival, Deliver, Failure, GroupControls, Loss, OfferedGroups, Position, Refusal, prepare
from .mailbox import Mailbox

FIRST_WINDOW_S = 0.2
"""Length of the first window: short, to show values soon."""

_RETRY_S = 1.0
_LEAVE_S = 2.0

if TYPE_CHECKING:
    from ..view.events import EventWatch
    from ..view.groups import GroupListView

Open: TypeAlias = Callable[[Sequence[str]], SceneHost]
"""Opens the host with these opt-in groups. Raises SourceError."""


ListGroups: TypeAlias = "Callable[[Scene], GroupListView]"
"""Lists the groups that the host of a scene can count."""


class Sampler(GroupControls):
    """Reads the host that ``open_host`` opens every ``interval_s`` seconds. ``begin`` starts it before there is
    a screen; news are kept until ``start``.
    """

    def __init__(self, open_host: Open, interval_s: float, list_groups: ListGroups) -> None:
        self.interval_s = interval_s
        self._open = open_host
        self._list_groups = list_groups
        self._wanted: tuple[str, ...] = ()
        self._groups: tuple[str, ...] = ()
        self._is_stopped = False
        self._is_asked = False
        self._wake = threading.Event()
        self._mailbox = Mailbox()
        self._opened = threading.Event()
        self._error: KvmscopeError | None = None
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def begin(self) -> None:
        """Start reading."""
        self._thread.start()

    def wait_until_open(self) -> None:
        """Return when the host was read for the first time. Raises the error if that fails."""
        self._opened.wait()
        if self._error is not None:
            raise self._error

    def start(self, deliver: Deliver) -> None:
        """Hand over everything read so far, and all later news."""
        self._mailbox.forward(deliver)

    def stop(self) -> None:
        """End soon; a read that hangs is not waited for."""
        self._is_stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_LEAVE_S)

    def want(self, metrics: Sequence[str]) -> None:
        self._wanted = tuple(metrics)

    def ask(self) -> None:
        self._is_asked = True
        self._wake.set()

    def count(self, groups: Sequence[str]) -> None:
        """Reopen the host with these groups."""
        if tuple(groups) != self._groups:
            self._groups = tuple(groups)
            self._wake.set()

    @property
    def position(self) -> Position | None:
        return None

    # --- on the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._read_until_stopped()
        except BaseException as error:  # any error: the screen must not continue as if it were live
            self._mailbox.put([Failure(error)])
            self._opened.set()

    def _read_until_stopped(self) -> None:
        events: EventWatch | None = None
        while not self._is_stopped:
            groups = self._groups
            try:
                with self._open(groups) as host:
                    with short_turns():  # Python's default ones add 100 ms beside a thread that imports
                        first = host.look()
                    due_s = time.monotonic() + min(FIRST_WINDOW_S, self.interval_s)
                    self._opened.set()
                    from ..view.events import EventWatch  # the judging modules load during the first window

                    events = events or EventWatch()
                    self._read_on(host, first, groups, events, due_s)
            except KvmscopeError as error:
                if not self._opened.is_set():
                    self._error = error
                    self._opened.set()
                    return
                self._lose(error, groups)

    def _lose(self, error: KvmscopeError, groups: Sequence[str]) -> None:
        """Handle a lost host. If it could not be opened with these groups, open it without them next."""
        loss = _loss(error)
        if groups and self._groups == groups:
            self._groups = ()
            self._mailbox.put([Refusal(loss.reason, loss.remedy)])
            return
        self._mailbox.put([loss])
        self._pause(max(self.interval_s, _RETRY_S))

    def _read_on(self, host: SceneHost, first: Scene, groups: Sequence[str], events: EventWatch, due_s: float) -> None:
        """Read until the source is lost, other groups are requested, or ``stop`` is called."""
        from ..view.trouble import troubles_of
        from ..view.watch import Watch

        watch, last = Watch(), first
        watch.add(first)
        _ = watch.examiner.rules, watch.examiner.metrics  # load their files during the first window
        while self._waits(due_s, groups, last):
            last = host.look()
            view = watch.add(last)
            if view is not None:
                prepare(view, self._wanted)
                self._mailbox.put([Arrival(view, events.add(view), troubles_of(view.judgement.findings))])
            due_s = max(due_s + self.interval_s, time.monotonic())

    def _answer(self, scene: Scene) -> None:
        """Hand over the list of groups if it was requested."""
        if self._is_asked:
            self._is_asked = False
            self._mailbox.put([OfferedGroups(self._list_groups(scene))])

    def _waits(self, due_s: float, groups: Sequence[str], last: Scene) -> bool:
        """Wait for the time of the next read; false if this host is not to be read again."""
        while not self._is_stopped and groups == self._groups:
            self._answer(last)
            left_s = due_s - time.monotonic()
            if left_s <= 0:
                return True
            self._pause(left_s)
        return False

    def _pause(self, seconds: float) -> None:
        if self._wake.wait(seconds):
            self._wake.clear()


def _loss(error: KvmscopeError) -> Loss:
    now = Moment(time.time_ns())
    if isinstance(error, SourceError):
        return Loss(now, error.reason, error.remedy)
    return Loss(now, str(error))
