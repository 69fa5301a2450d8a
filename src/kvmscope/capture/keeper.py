"""Keeps episodes: judges consecutive scenes of a host and writes those around findings.

For one thread. It waits for nothing and reads no clock: all times are those of scenes. ``groups`` are the groups to
count; scenes with these groups are passed to ``add_counted``.
Rule: a failed write ends the episode and nothing else.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..errors import KvmscopeError, UsageError
from ..scene import Scene
from ..store.episode_note import EpisodeEnd, EpisodeNote
from ..store.episodes import EpisodeWriter, trim_episodes
from ..view.watch import HostView, Watch
from .budget import GroupBudget
from .findings import FindingLog
from .limits import EpisodeLimits, EpisodePauses
from .ring import SceneRing


class EpisodeKeeper:
    """Writes the episodes of the recording in a directory. Close it after the last scene.

    ``trouble``: why the last episode could not be written, else empty. ``begun``: number of episodes that began.
    """

    def __init__(
        self, directory: Path, limits: EpisodeLimits, *, on_groups: Callable[[tuple[str, ...]], None] | None = None
    ) -> None:
        """``on_groups`` is called with the groups to count as soon as an episode begins, before any of it is
        written."""
        self.trouble = ""
        self._on_groups = on_groups
        self.begun = 0
        self._directory = directory
        self._limits = limits
        self._ring = SceneRing(limits.before_s, limits.memory_bytes)
        self._pauses = EpisodePauses()
        self._watch = _ready_watch()
        self._open: OpenEpisode | None = None

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups to count now."""
        return () if self._open is None else self._open.budget.counted

    def add(self, scene: Scene) -> None:
        """Add the next scene of the recorder."""
        view = self._judged(scene)
        if self._open is None:
            self._ring.add(scene)
            if view is not None:
                self._begin(view)
            return
        self._guard(lambda episode: episode.add(scene, view))
        self._end_if_over(scene)

    def add_counted(self, groups: tuple[str, ...], scene: Scene) -> None:
        """Add the next scene with ``groups``."""
        if self._open is not None and groups == self.groups:
            self._guard(lambda episode: episode.add_counted(scene))

    def fail_counting(self, groups: tuple[str, ...], error: KvmscopeError) -> None:
        """Note that ``groups`` cannot be counted."""
        if self._open is not None and groups == self.groups:
            self._guard(lambda episode: episode.fail_counting(error))

    def close(self) -> None:
        if self._open is not None:
            self._guard(lambda episode: episode.end(EpisodeEnd.STOPPED))
            self._open = None

    def _judged(self, scene: Scene) -> HostView | None:
        try:
            return self._watch.add(scene)
        except UsageError:  # another source or boot
            self._watch = _ready_watch()
            return self._watch.add(scene)

    def _begin(self, view: HostView) -> None:
        now_ns = view.scene.sample.monotonic_ns
        level = self._limits.level.rank
        begun = [finding for finding in view.log.begun if finding.rule.severity.rank >= level]
        if not any(self._pauses.may_begin((finding.rule.slug, finding.vm), now_ns) for finding in begun):
            return
        self._pauses.note_episode(now_ns)
        budget = GroupBudget(self._limits.groups, self._limits.budget_cpus)
        budget.choose(view)
        if self._on_groups is not None:
            self._on_groups(budget.counted)
        try:
            self._open = OpenEpisode(self._directory, self._limits, self._pauses, budget, view)
            self.begun += 1
        except OSError as error:
            self._fail(error)
            return
        self._guard(lambda episode: episode.begin(self._ring, view))

    def _end_if_over(self, scene: Scene) -> None:
        if self._open is None:
            return
        over = self._open.over(scene.sample.monotonic_ns)
        if over is not None:
            self._guard(lambda episode: episode.end(over))
            self._open = None

    def _guard(self, act: Callable[[OpenEpisode], None]) -> None:
        episode = self._open
        assert episode is not None
        try:
            act(episode)
        except OSError as error:
            self._open = None
            episode.abandon()
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.trouble = error.strerror or os.strerror(error.errno or 0)


def _ready_watch() -> Watch:
    """A watch with its rules loaded: loading them takes as long as several looks and would delay the looking thread."""
    watch = Watch()
    assert watch.examiner.rules
    assert watch.examiner.metrics
    return watch


class OpenEpisode:
    """One episode while it is written. Methods that write raise OSError if writing fails."""

    def __init__(
        self, directory: Path, limits: EpisodeLimits, pauses: EpisodePauses, budget: GroupBudget, view: HostView
    ) -> None:
        """``view``: the window in which the first finding began."""
        sample = view.scene.sample
        self._limits = limits
        self._pauses = pauses
        self._findings = FindingLog(limits.level)
        self.budget = budget
        self._writer = EpisodeWriter(directory, EpisodeNote(sample.taken_ns, sample.taken_ns))
        self._began_ns = self._stood_ns = sample.monotonic_ns
        self._first: Scene | None = None
        self._last = view.scene
        self._counted: Watch | None = None
        trim_episodes(directory, most=limits.most, size_bytes=limits.size_bytes, but=self._writer.number)

    def begin(self, ring: SceneRing, view: HostView) -> None:
        """Write the scenes before the first finding, and the note."""
        for scene in ring.take():
            self._append(scene)
        self._take(view, is_counted=False)
        self._write_note()

    def add(self, scene: Scene, view: HostView | None) -> None:
        """Add the next scene of the recorder. It is written unless scenes with groups contain the same and more."""
        if self._counted is None:
            self._append(scene)
        if view is not None and self._take(view, is_counted=False):
            self._write_note()

    def add_counted(self, scene: Scene) -> None:
        """Add the next scene with groups."""
        self._append(scene)
        if self._counted is None:
            self._counted = Watch()
            self._counted.add(scene)
            self.budget.note_on(scene.sample.taken_ns)
            self._write_note()
            return
        view = self._counted.add(scene)
        assert view is not None
        counted = self.budget.counted
        self.budget.check(view)
        is_news = self._take(view, is_counted=True)
        if counted != self.budget.counted:
            self._stop_counting()
        if is_news or counted != self.budget.counted:
            self._write_note()

    def fail_counting(self, error: KvmscopeError) -> None:
        """Note that counting has failed."""
        self.budget.fail(str(error), self._last.sample.taken_ns)
        self._stop_counting()
        self._write_note()

    def over(self, now_ns: int) -> EpisodeEnd | None:
        """Why the episode is over; None if it continues."""
        if not self._findings.any_stands and now_ns - self._stood_ns >= self._limits.after_s * 1e9:
            return EpisodeEnd.CLEARED
        if now_ns - self._began_ns >= self._limits.longest_s * 1e9:
            return EpisodeEnd.LONGEST
        return EpisodeEnd.LARGEST if self._writer.size_bytes >= self._limits.size_of_one else None

    def end(self, why: EpisodeEnd) -> None:
        """End the episode. Scenes are written before the note that says that it has ended."""
        self._writer.close()
        self._writer.write_note(replace(self._note(), ended_ns=self._last.sample.taken_ns, why_ended=why))

    def abandon(self) -> None:
        """Stop writing and leave the files as they are."""
        with contextlib.suppress(OSError):
            self._writer.close()

    def _append(self, scene: Scene) -> None:
        if self._first is not None and scene.sample.monotonic_ns <= self._last.sample.monotonic_ns:
            return  # of two sources, this look was the earlier one
        self._first, self._last = self._first or scene, scene
        self._writer.append(scene)

    def _take(self, view: HostView, *, is_counted: bool) -> bool:
        """Note the findings of a window. Returns whether any finding began or ended."""
        is_news = self._findings.add(view, is_counted=is_counted)
        now_ns = view.scene.sample.monotonic_ns
        for key in self._findings.begun_last:
            self._pauses.note_finding(key, now_ns)
        if self._findings.any_stands:
            self._stood_ns = max(self._stood_ns, now_ns)
        return is_news

    def _stop_counting(self) -> None:
        self._counted = None
        self._findings.stop_counting()

    def _note(self) -> EpisodeNote:
        first = self._first or self._last
        return EpisodeNote(
            since_ns=first.sample.taken_ns,
            began_ns=self._writer.note.began_ns,
            findings=self._findings.noted,
            more_findings=self._findings.more,
            groups=tuple(self.budget.notes.values()),
            focus_ns=self._findings.focus_ns,
        )

    def _write_note(self) -> None:
        self._writer.write_note(self._note())
