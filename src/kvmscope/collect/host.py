"""The common interface of a live host and of a recording, which yields one scene after another."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ..closing import Closable
from ..errors import SourceError, UsageError
from ..scene import Scene
from ..schema import Schema

if TYPE_CHECKING:
    from ..view.watch import HostView

_LONGEST_S = 36_000_000.0
"""The longest interval, as on the command line: longer ones may exceed the limit of a sleep."""


class SceneHost(Closable):
    """This host, or a recording of one. A context manager; not for use by two threads at once.

    ``why_not``: why better sources were not used.
    """

    why_not: Mapping[str, SourceError]

    @property
    @abstractmethod
    def source(self) -> str:
        """Name of the source that is read."""

    @property
    @abstractmethod
    def schemas(self) -> tuple[Schema, ...]:
        """The schemas that samples can have blocks of."""

    @property
    @abstractmethod
    def now_s(self) -> float:
        """The clock by which intervals are measured."""

    def wait_for_more(self) -> bool:
        """Whether there are more scenes after the last look; always true of a live host. Waits for a recording that is
        still being written.
        """
        return True

    @abstractmethod
    def look(self) -> Scene:
        """One scene: a sample and all facts that rules need. Raises SourceError if the source is gone."""

    @abstractmethod
    def look_after(self, interval_s: float) -> Scene:
        """The scene this many seconds from now. Raises SourceError if the source is gone."""

    def interval_s(self, asked_s: float) -> float:
        """The actual length of an interval requested as ``asked_s``: the span of a recording if one was chosen."""
        return asked_s

    def ends(self, first: Scene) -> Sequence[Scene]:
        """The scenes that show the existing VMs: the first look and, for a recording, also its last scene."""
        return (first,)

    def watch(self, interval_s: float, *, first: Scene | None = None, keeps_ended: bool = False) -> Iterator[HostView]:
        """A view of every interval of ``interval_s`` seconds, without end, or to the end of a recording.

        ``first``: an already taken scene with which the first interval begins. ``keeps_ended``: views have the findings
        that ended since the first scene, not only in the last interval. Raises UsageError for an interval that is
        negative or not a time, SourceError if the source is gone.
        """
        if not isinstance(interval_s, int | float) or not 0 <= interval_s <= _LONGEST_S:
            raise UsageError(f"interval_s: expected a number of seconds from 0 to {_LONGEST_S:g}, found {interval_s!r}")
        return self._watch(interval_s, first, keeps_ended)

    def _watch(self, interval_s: float, first: Scene | None, keeps_ended: bool) -> Iterator[HostView]:
        from ..view.watch import Watch  # not at the top: callers that only read load no analysis

        watch = Watch(keeps_ended=keeps_ended)
        watch.add(first or self.look())
        while self.wait_for_more():
            view = watch.add(self.look_after(interval_s))
            if view is not None:
                yield view
