"""Reads the host with groups switched on, while they are needed, in a separate thread.

Rule: callers never wait. Opening a host with groups takes as long as loading the programs; callers request groups and
continue, and scenes arrive later.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from ..errors import KvmscopeError, SourceError
from ..scene import Scene

_JOIN_S = 0.5


class CountingHost(Protocol):
    """An opened host that counts groups."""

    def look(self) -> Scene:
        """Raises SourceError."""

    def close(self) -> None: ...


GroupOpener: TypeAlias = Callable[[Sequence[str]], CountingHost]
"""Opens a host that counts these groups; raises KvmscopeError."""


class GroupSink(Protocol):
    """Receives scenes with groups."""

    def take_counted(self, groups: tuple[str, ...], scene: Scene) -> None: ...

    def take_failure(self, groups: tuple[str, ...], error: KvmscopeError) -> None: ...


class GroupCounter:
    """Counts the groups that were requested last, and looks every ``interval_s``, the first time at once."""

    def __init__(self, open_host: GroupOpener, sink: GroupSink, interval_s: float) -> None:
        self._open_host = open_host
        self._sink = sink
        self._interval_s = interval_s
        self._wanted: tuple[str, ...] = ()
        self._has_changed = threading.Condition()
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name="kvmscope-count", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def want(self, groups: tuple[str, ...]) -> None:
        """Count these groups from now on; none if empty. Does not wait."""
        if groups != self._wanted:
            with self._has_changed:
                self._wanted = groups
                self._has_changed.notify_all()

    def stop(self) -> None:
        """Stop counting. On return, nothing is attached."""
        with self._has_changed:
            self._is_ending = True
            self._wanted = ()
            self._has_changed.notify_all()
        while self._thread.is_alive():  # in steps, since signals are handled between them only
            self._thread.join(_JOIN_S)

    def _run(self) -> None:
        while True:
            with self._has_changed:
                while not self._wanted and not self._is_ending:
                    self._has_changed.wait()
                if self._is_ending:
                    return
                groups = self._wanted
            self._count(groups)

    def _count(self, groups: tuple[str, ...]) -> None:
        """Look as long as these groups are requested."""
        try:
            host = self._open_host(groups)
        except KvmscopeError as error:
            self._fail(groups, error)
            return
        try:
            while groups == self._wanted:
                self._sink.take_counted(groups, host.look())
                self._wait(groups)
        except SourceError as error:
            self._fail(groups, error)
        finally:
            host.close()

    def _wait(self, groups: tuple[str, ...]) -> None:
        with self._has_changed:
            self._has_changed.wait_for(lambda: groups != self._wanted, self._interval_s)

    def _fail(self, groups: tuple[str, ...], error: KvmscopeError) -> None:
        """Report the failure once: the same groups are tried again only after another request."""
        self._sink.take_failure(groups, error)
        with self._has_changed:
            self._has_changed.wait_for(lambda: groups != self._wanted)
