"""Records a host: one thread looks on a steady schedule, one writes, one compacts, so a slow disk delays no look.

Rule: a scene that could not be taken or written is lost, and the next written scene reports how many were lost and why.
No failure of a source or a disk ends a recording; only a bug of this program does, and it is raised.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import SourceError
from ..scene import Scene
from .journal import JournalGone
from .losses import LossLog
from .ring import RingLimits
from .schedule import ClockReading, TickSchedule, clock_events, read_clocks
from .storage import Storage
from .writer import SEGMENT_S, RecordingWriter

QUEUED_AT_MOST = 32
"""Limit for scenes that wait for the disk; further ones are lost, to bound memory."""

_LATE = "the look before took longer than the interval, or the recorder had no CPU"
_NO_MEMORY = "no memory"
_JOIN_S = 0.5
_RETRY_S, _RETRY_AT_MOST_S = 5.0, 300.0
"""The first and the longest delay before compacting a journal is retried; it doubles each time."""


class SceneSource(Protocol):
    """A source of scenes to record, such as an opened host."""

    def look(self) -> Scene:
        """Raises SourceError."""

    def close(self) -> None: ...


class SceneConsumer(Protocol):
    """A consumer of all scenes besides the recording, such as a watcher for findings."""

    def offer(self, scene: Scene) -> None:
        """Take the scene, or drop it if there is no room. Must not block, since the looking thread calls it."""


@dataclass(frozen=True, slots=True)
class QueuedScene:
    """A scene that waits to be written, and the losses before it."""

    scene: Scene
    before: LossLog


@dataclass
class RecorderState:
    """What a recorder has done so far, for display only.

    ``why_lost``: reason of the last lost scene. ``trouble``: why ``waiting`` journals cannot become segments, else
    empty.
    """

    scenes: int = 0
    lost: int = 0
    why_lost: str = ""
    vms: int = 0
    vcpus: int = 0
    trouble: str = ""
    waiting: int = 0


class Recorder:
    """Looks at a source every ``interval_s`` from ``start`` to ``stop``, and records to a directory.

    ``reopen`` opens the source again after it failed. Only the recorder's own thread uses and closes it.
    """

    def __init__(
        self,
        source: SceneSource,
        directory: Path,
        *,
        interval_s: float,
        for_s: float | None = None,
        limits: RingLimits | None = None,
        upload_to: Storage | None = None,
        segment_s: float = SEGMENT_S,
        reopen: Callable[[], SceneSource] | None = None,
        consumer: SceneConsumer | None = None,
        looks_per_scene: int = 1,
        clocks: Callable[[], ClockReading] = read_clocks,
    ) -> None:
        """``consumer``: receives the scene of each look. ``looks_per_scene``: looks in an interval; the first is
        recorded, ``consumer`` receives all. Raises as ``RecordingWriter`` does.
        """
        self._cut = threading.Event()
        self._writer = RecordingWriter(
            directory, limits=limits, upload_to=upload_to, segment_s=segment_s, on_cut=self._cut.set
        )
        self.state = RecorderState()
        self.done = threading.Event()
        """Set when looking has ended: the time is over, or a thread has failed."""
        self._source: SceneSource | None = source
        self._interval_ns = round(interval_s * 1e9 / looks_per_scene)
        self._looks_per_scene = looks_per_scene
        self._consumer = consumer
        self._last_tick = None if for_s is None else int(for_s * 1e9 / self._interval_ns + 1e-6)
        self._reopen = reopen
        self._clocks = clocks
        self._stopping = threading.Event()
        self._waiting: deque[QueuedScene] = deque()
        self._changed = threading.Condition()
        self._has_ended = False
        self._failure: BaseException | None = None
        self._threads = {
            name: threading.Thread(target=self._guarded, args=(work,), name=f"kvmscope-{name}", daemon=True)
            for name, work in {"look": self._look_on, "write": self._write_on, "compact": self._compact_on}.items()
        }

    @property
    def looking_thread(self) -> int | None:
        """The kernel's id of the looking thread, once it runs."""
        return self._threads["look"].native_id

    def start(self) -> None:
        for thread in self._threads.values():
            thread.start()

    def stop(self) -> None:
        """Stop looking, write waiting scenes, and close the recording. Raises OSError if its end cannot be written."""
        self._stopping.set()
        for name in ("look", "write"):
            self._join(name)
        try:
            self._writer.close()
        except JournalGone as error:
            self._lose_recorded(LossLog(), error)
        finally:
            self._has_ended = True
            self._cut.set()
            self._join("compact")
        if self._failure is not None:
            raise self._failure

    def _join(self, name: str) -> None:
        # Wait in steps, since signals are handled between them only.
        while self._threads[name].is_alive():
            self._threads[name].join(_JOIN_S)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # raised again by ``stop``
            self._failure = self._failure or error
            self._stopping.set()
            self.done.set()

    # --- looking ------------------------------------------------------------------------------------------------------

    def _look_on(self) -> None:
        try:
            self._look_until_end()
        finally:
            self._stopping.set()
            self._close_source()
            with self._changed:
                self._changed.notify_all()
            self.done.set()

    def _look_until_end(self) -> None:
        before = self._clocks()
        schedule = TickSchedule(before.monotonic_ns, self._interval_ns)
        losses = LossLog()
        while self._last_tick is None or schedule.due <= self._last_tick:
            if self._stopping.wait(schedule.wait_ns(self._clocks().monotonic_ns) / 1e9):
                return
            now = self._clocks()
            if schedule.wait_ns(now.monotonic_ns):
                continue  # the wait may end early
            scenes_before = self._scenes_until(schedule.due)
            schedule.take(now.monotonic_ns)
            scenes_due = self._scenes_until(schedule.due) - scenes_before
            self._lose(losses, _LATE, max(0, scenes_due - 1))
            losses.events += clock_events(before, now)
            before = now
            losses = self._look_once(losses, is_recorded=scenes_due > 0)

    def _scenes_until(self, tick: int) -> int:
        """The number of ticks before this one with a recorded scene."""
        return -(-tick // self._looks_per_scene)

    def _look_once(self, losses: LossLog, *, is_recorded: bool) -> LossLog:
        """Look and pass the scene on. Returns the losses that the next scene has to report."""
        try:
            scene = self._open_source().look()
        except SourceError as error:
            self._close_source()
            self._lose(losses, error.reason, int(is_recorded))
            return losses
        except MemoryError:
            self._lose(losses, _NO_MEMORY, int(is_recorded))
            return losses
        self.state.vms, self.state.vcpus = len(scene.sample.vms), len(scene.sample.vcpus)
        if self._consumer is not None:
            self._consumer.offer(scene)
        return self._queue(scene, losses) if is_recorded else losses

    def _queue(self, scene: Scene, losses: LossLog) -> LossLog:
        with self._changed:
            if len(self._waiting) < QUEUED_AT_MOST:
                self._waiting.append(QueuedScene(scene, losses))
                self._changed.notify_all()
                return LossLog()
        self._lose(losses, f"the disk was too slow: {QUEUED_AT_MOST} scenes were waiting for it")
        return losses

    def _lose(self, losses: LossLog, reason: str, count: int = 1) -> None:
        losses.lose(reason, count)
        if count:
            self.state.lost += count
            self.state.why_lost = reason

    def _open_source(self) -> SceneSource:
        if self._source is None:
            assert self._reopen is not None
            self._source = self._reopen()
        return self._source

    def _close_source(self) -> None:
        if self._source is not None and (self._reopen is not None or self._stopping.is_set()):
            source, self._source = self._source, None
            source.close()

    # --- writing ------------------------------------------------------------------------------------------------------

    def _write_on(self) -> None:
        pending = LossLog()
        while (item := self._next()) is not None:
            pending.add(item.before)
            try:
                self._writer.append(pending.told_by(item.scene))
            except JournalGone as error:
                self._lose_recorded(pending, error)
                self._lose(pending, _failed(error))
            except OSError as error:
                self._lose(pending, _failed(error))
            except MemoryError:
                self._lose(pending, _NO_MEMORY)
            else:
                pending = LossLog()
                self.state.scenes += 1

    def _lose_recorded(self, losses: LossLog, gone: JournalGone) -> None:
        """Count the scenes of a journal that is gone as lost."""
        self.state.scenes -= gone.scenes
        self._lose(losses, _failed(gone), gone.scenes)

    def _next(self) -> QueuedScene | None:
        """The scene that has waited longest; None at the end."""
        with self._changed:
            while not self._waiting:
                if not self._threads["look"].is_alive() or self.done.is_set():
                    return None
                self._changed.wait(_JOIN_S)
            return self._waiting.popleft()

    # --- compacting ---------------------------------------------------------------------------------------------------

    def _compact_on(self) -> None:
        compactor, retry_s = self._writer.compactor, _RETRY_S
        while True:
            self._cut.wait(retry_s if compactor.waiting and compactor.trouble else None)
            self._cut.clear()
            ends = self._has_ended
            compactor.run()
            retry_s = min(2 * retry_s, _RETRY_AT_MOST_S) if compactor.trouble else _RETRY_S
            self.state.trouble, self.state.waiting = compactor.trouble, compactor.waiting
            if ends:
                return


def _failed(error: OSError) -> str:
    return f"writing failed: {error.strerror or os.strerror(error.errno or 0)}"
