"""The consumer beside a recorder: takes scenes without blocking, and keeps episodes in a separate thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from ..errors import KvmscopeError
from ..scene import Scene
from .counting import GroupCounter, GroupOpener
from .keeper import EpisodeKeeper
from .limits import EpisodeLimits

_QUEUED_AT_MOST = 32
_JOIN_S = 0.5


class EpisodeCapture:
    """Keeps the episodes of the recording in ``directory``, from the offered scenes.

    ``open_host`` opens a host that counts groups. ``dropped``: number of scenes dropped for lack of room, since judging
    or the disk took too long. Start it before the recorder, and stop it after the recorder.
    """

    def __init__(self, directory: Path, limits: EpisodeLimits, *, open_host: GroupOpener, interval_s: float) -> None:
        self._counter = GroupCounter(open_host, self, interval_s)
        self._keeper = EpisodeKeeper(directory, limits, on_groups=self._counter.want)
        self._work: deque[Callable[[], None]] = deque()
        self._has_work = threading.Condition()
        self._is_ending = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded, name="kvmscope-episodes", daemon=True)
        self.dropped = 0

    @property
    def begun(self) -> int:
        """The number of episodes that have begun."""
        return self._keeper.begun

    @property
    def trouble(self) -> str:
        """Why the last episode could not be written, else empty."""
        return self._keeper.trouble

    def start(self) -> None:
        self._thread.start()
        self._counter.start()

    def stop(self) -> None:
        """Stop counting, judge waiting scenes, and end the open episode."""
        self._counter.stop()
        with self._has_work:
            self._is_ending = True
            self._has_work.notify_all()
        while self._thread.is_alive():  # in steps, since signals are handled between them only
            self._thread.join(_JOIN_S)
        if self._failure is not None:
            raise self._failure

    def offer(self, scene: Scene) -> None:
        """Take the next scene of the recorder. Never blocks."""
        self._queue(lambda: self._keeper.add(scene))

    def take_counted(self, groups: tuple[str, ...], scene: Scene) -> None:
        """Take the next scene with groups."""
        self._queue(lambda: self._keeper.add_counted(groups, scene))

    def take_failure(self, groups: tuple[str, ...], error: KvmscopeError) -> None:
        """Note that counting has failed."""
        self._queue(lambda: self._keeper.fail_counting(groups, error))

    def _queue(self, act: Callable[[], None]) -> None:
        with self._has_work:
            if len(self._work) >= _QUEUED_AT_MOST or self._failure is not None:
                self.dropped += 1
                return
            self._work.append(act)
            self._has_work.notify_all()

    def _guarded(self) -> None:
        try:
            while (act := self._next()) is not None:
                act()
                self._counter.want(self._keeper.groups)
            self._keeper.close()
        except BaseException as error:  # raised again by ``stop``
            self._failure = error

    def _next(self) -> Callable[[], None] | None:
        """The task that has waited longest; None at the end."""
        with self._has_work:
            while not self._work:
                if self._is_ending:
                    return None
                self._has_work.wait()
            return self._work.popleft()
