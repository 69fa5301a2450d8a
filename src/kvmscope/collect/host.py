"""What can be looked at, one scene after another: the interface of a live host and of a recording."""

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
"""The longest interval, as on the command line: longer ones may be more than a sleep takes."""


class SceneHost(Closable):
    """What is looked at: this host, or a recording of one. A context manager; not for use by two threads at once.

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
        """The time by which intervals are measured."""

    def wait_for_more(self) -> bool:
        """Whether there is something to look at after the last look; a live host always has. A recording that is still
        being written is waited for.
        """
        return True

    @abstractmethod
    def look(self) -> Scene:
        """One scene: a sample, and with it everything that rules need. Raises SourceError if the source is gone."""

    @abstractmethod
    def look_after(self, interval_s: float) -> Scene:
        """The scene that is this many seconds after now. Raises SourceError if the source is gone."""

    def interval_s(self, asked_s: float) -> float:
        """How long an interval is for which these seconds were asked: the span of a recording if one was chosen."""
        return asked_s

    def ends(self, first: Scene) -> Sequence[Scene]:
        """The scenes that show which VMs there are: the first look, and of a recording also the last that it has."""
        return (first,)

    def watch(self, interval_s: float, *, first: Scene | None = None, keeps_ended: bool = False) -> Iterator[HostView]:
        """Every ``interval_s`` seconds what there is to be said of them, without end, or to the end of a recording.

        ``first``: a scene that was taken already, with which the first interval begins. ``keeps_ended``: views have the
        findings that ended since the first scene, and not in the last interval alone. Raises UsageError for an interval
        that is no time from 0 on, SourceError if the source is gone.
        """
        if not isinstance(interval_s, int | float) or not 0 <= interval_s <= _LONGEST_S:
            raise UsageError(f"interval_s: expected a number of seconds from 0 to {_LONGEST_S:g}, found {interval_s!r}")
        return self._watch(interval_s, first, keeps_ended)

    def _watch(self, interval_s: float, first: Scene | None, keeps_ended: bool) -> Iterator[HostView]:
        from ..view.watch import Watch  # not at the top: who only reads loads no analysis

        watch = Watch(keeps_ended=keeps_ended)
        watch.add(first or self.look())
        while self.wait_for_more():
            view = watch.add(self.look_after(interval_s))
            if view is not None:
                yield view
