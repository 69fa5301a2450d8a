"""The host behind the server: watched at a steady interval, and read once more for each scrape.

Rule: the host is used by one thread at a time. A thread that waits for it longer than ``PATIENCE_S`` gets an error,
so a source that hangs does not block threads without end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from ...analysis.totals import VmSum, VmTotals
from ...collect.host import SceneHost
from ...errors import SourceError, Unavailable, UsageError
from ...export.exposition import Reading
from ...export.held import FindingHolds, HeldFinding
from ...export.subjects import Subjects
from ...scene import Scene
from ...view.watch import HostView, Watch

PATIENCE_S: Final = 10.0
_FIRST_INTERVAL_S: Final = 0.5

ViewListener = Callable[[HostView], None]


@dataclass(frozen=True)
class WatchedMoment:
    """The end of the last interval: its view, and the findings that are active after it."""

    view: HostView
    held: tuple[HeldFinding, ...]


class HostMonitor:
    """Watches a host in its own thread, from ``start`` to ``close``, which also closes the host.

    ``on_view`` is called in that thread with every view.
    """

    def __init__(self, host: SceneHost, *, interval_s: float, on_view: ViewListener = lambda _view: None) -> None:
        self._host = host
        self._interval_s = interval_s
        self._on_view = on_view
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch_all, name="kvmscope-watch", daemon=True)
        self._watch = Watch()
        self._totals = VmTotals()
        self._holds = FindingHolds()
        self._subjects: Subjects | None = None
        self.last: WatchedMoment | None = None
        self.error: SourceError | None = None
        """Why the last look failed; None if it did not."""

    @property
    def last_view(self) -> HostView:
        """The view of the last interval. Raises SourceError if none has passed."""
        if self.last is None:
            raise self.error or Unavailable("no interval has passed yet", remedy="try again in a moment")
        return self.last.view

    def start(self) -> None:
        """Read the host once, so a failure is an error of this call, and then at every interval. Raises SourceError."""
        self._look(watched=True)
        self._thread.start()

    def close(self) -> None:
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE_S)
        with self._lock:
            self._host.close()

    def read(self) -> Reading:
        """A new read of the host, for a scrape. Raises SourceError."""
        scene, sums = self._look(watched=False)
        with self._lock:
            self._subjects = self._subjects.at(scene) if self._subjects else Subjects(scene)
            last = self.last
            return Reading(scene, self._subjects, sums, last.view if last else None, last.held if last else ())

    def _look(self, *, watched: bool) -> tuple[Scene, tuple[VmSum, ...]]:
        with self._turn():
            try:
                scene = self._host.look()
            except SourceError as error:
                self.error = error
                raise
            self.error = None
            sums = self._totals.update(scene.sample)
            view = self._add(scene) if watched else None
        if view is not None:
            self._on_view(view)
        return scene, sums

    def _add(self, scene: Scene) -> HostView | None:
        try:
            view = self._watch.add(scene)
        except UsageError:  # no window: the clock or the source changed
            self._watch = Watch()
            view = self._watch.add(scene)
        if view is not None:
            self.last = WatchedMoment(view, self._holds.update(view))
        return view

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=PATIENCE_S):
            raise Unavailable("the source has not answered an earlier read", remedy="kvmscope check")
        try:
            yield
        finally:
            self._lock.release()

    def _watch_all(self) -> None:
        # The first interval is short, as every judgement needs one.
        due_s = time.monotonic() + min(_FIRST_INTERVAL_S, self._interval_s) - self._interval_s
        while True:
            due_s = max(due_s + self._interval_s, time.monotonic())
            if self._ending.wait(due_s - time.monotonic()):
                return
            try:
                self._look(watched=True)
            except SourceError:
                continue  # kept in ``error``; a scrape reports it
