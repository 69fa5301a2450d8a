"""Chooses a source and opens it. ``auto`` tries the sources, best first, and records why each better one was not used.

Loading the iterator takes the kernel and libbpf about 90 ms, in which they do not need Python's lock. So a source is
opened in a separate thread while the caller imports modules. The modules that this thread needs until the iterator is
loaded do not import numpy (see ``sources.bpf.loading``), which takes the caller equally long; they are imported before
the thread starts, as imports in two threads take turns.
"""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ..errors import SourceError, Unavailable, UsageError
from ..linux.kvm import is_kvm_there
from ..linux.namespaces import is_sys_hidden

if TYPE_CHECKING:
    from ..sources.base import Source
    from .live import Host


def _open_pinned(groups: Sequence[str] = ()) -> Source:
    from ..sources.bpf.place import require_attached

    require_attached()
    from ..sources.bpf.source import PinnedSource

    return PinnedSource(groups=groups or None)


def _open_bpf(groups: Sequence[str] = ()) -> Source:
    if not groups:
        return _open_reader()
    from ..sources.bpf.source import BpfSource

    return BpfSource(groups)


def _open_reader() -> Source:
    from ..sources.bpf.loading import load_reader

    reader = load_reader()
    from ..sources.bpf.source import BpfSource

    return BpfSource(reader=reader)


def _open_statsfd() -> Source:
    from ..sources.statsfd import StatsFdSource

    source = StatsFdSource()
    try:
        source.check()
        if not is_kvm_there() and not is_sys_hidden():
            raise Unavailable(
                "KVM is not loaded, so no VMM can hold statistics fds", remedy="modprobe kvm_intel or kvm_amd"
            )
    except SourceError:
        source.close()
        raise
    return source


def _open_published() -> Source:
    from ..sources.published import PublishedSource

    return PublishedSource()


def _open_simulated() -> Source:
    """The published source, if there is a simulated host to read."""
    from ..sources.published import PublishedSource

    source = PublishedSource(simulated=True)
    if not len(source.read().vms):
        source.close()
        raise Unavailable("no simulated host is running", remedy="kvmscope lab simulate")
    return source


SOURCES: Mapping[str, Callable[[], Source]] = {
    "pinned": _open_pinned,
    "bpf": _open_bpf,
    "statsfd": _open_statsfd,
    "published": _open_published,
}
"""Every source by name."""

_BY_BPF = ("auto", "pinned", "bpf")

_NO_MORE_FILES = (errno.EMFILE, errno.ENFILE)

_BEST_FIRST: Mapping[str, Callable[[], Source]] = {
    "pinned": _open_pinned,
    "bpf": _open_bpf,
    "statsfd": _open_statsfd,
    "published": _open_simulated,
}
"""In the order of ``auto``: ``pinned`` sees the same as ``bpf`` without loading; simulated numbers come last."""


@dataclass(frozen=True, slots=True)
class OpenedSource:
    """A source, why better ones are not used, and the replacement to open if other readers keep it busy."""

    source: Source
    why_not: Mapping[str, SourceError]
    instead: Callable[[], Source] | None = None


_SWITCH_S = 0.0001
"""The switch interval of threads while a host is opened in a hurry. At Python's default of 5 ms, the opening thread,
with a hundred short system calls, would hardly make progress beside one that imports."""


@contextmanager
def short_turns() -> Iterator[None]:
    """Threads take short turns with Python's lock during the block, as while a host is opened in a hurry."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(usual_s)


class HostOpening:
    """A host that is being opened. Wait for it, or close it."""

    def __init__(self, source: str = "auto", groups: Sequence[str] = (), *, is_hurried: bool = False) -> None:
        """As for ``open_host``. ``is_hurried``: threads of this process take shorter turns until ``wait`` is over.
        Raises UsageError.
        """
        if not isinstance(source, str):
            raise UsageError(f"source: expected the name of a source, found {source!r}")
        if isinstance(groups, str):
            raise UsageError(f"groups: expected a list of names, found the text {groups!r}")
        self._open = _chosen(source, groups)
        self._needs_bpf = source in _BY_BPF
        if self._needs_bpf:
            from ..sources.bpf import loading, place

            del loading, place
        self._opened: OpenedSource | BaseException | None = None
        self._is_closed = False
        self._lock = threading.Lock()
        self._hurry = ExitStack()
        if is_hurried:
            self._hurry.enter_context(short_turns())
        self._thread = threading.Thread(target=self._run, name="opening", daemon=True)
        self._thread.start()

    def wait(self) -> Host:
        """The host, which must be closed. Raises what the opening raised."""
        if self._needs_bpf:
            from ..sources.bpf import source as _  # noqa: F401 - while the opening thread is loading
        from .live import Host  # 30 ms, during which the source is opened

        try:
            self._thread.join()
        except BaseException:  # an interruption
            self.close()
            raise
        finally:
            self._hurry.close()
        opened = self._opened
        if isinstance(opened, OpenedSource):
            return Host(opened.source, opened.why_not, instead=opened.instead)
        assert opened is not None
        raise opened

    def close(self) -> None:
        """Give up: close the host, now or as soon as it is open."""
        with self._lock:
            self._is_closed = True
            opened, self._opened = self._opened, None
        if isinstance(opened, OpenedSource):
            opened.source.close()

    def _run(self) -> None:
        opened: OpenedSource | BaseException
        try:
            opened = self._open()
        except BaseException as error:  # raised again by ``wait``
            opened = error
        with self._lock:
            self._opened = opened
        if self._is_closed:
            self.close()


def open_host(source: str = "auto", groups: Sequence[str] = ()) -> Host:
    """Open this host for reading by ``source``, or with ``auto`` by the best source that works.

    ``groups``: opt-in groups of statistics, by their names in catalog/groups.toml. Source ``bpf`` makes the kernel
    count them while this host is open; ``pinned`` reads those that root has pinned, even if they are not requested.
    Raises UsageError for a source or group that does not exist, PermissionNeeded or Unavailable if it (or with ``auto``
    every source) is not available.
    """
    return HostOpening(source, groups).wait()


def _chosen(source: str, groups: Sequence[str]) -> Callable[[], OpenedSource]:
    if groups:
        return _with_groups(groups, source)
    if source == "auto":
        return _open_best
    if source not in SOURCES:
        raise _no_such_source(source)
    return lambda: OpenedSource(SOURCES[source](), {})


def _no_such_source(source: str) -> UsageError:
    import difflib  # 3 ms of a start, only needed for misspelt names

    if source == "qmp":
        return UsageError(
            "source qmp needs the paths of sockets, which only the library accepts: "
            "docs/explanation/sources.md, QmpSource"
        )
    near = tuple(difflib.get_close_matches(source, ["auto", *SOURCES], n=2, cutoff=0.5))
    return UsageError(f"there is no source {source!r}; there are auto, {', '.join(SOURCES)}", nearest=near)


def _with_groups(groups: Sequence[str], source: str) -> Callable[[], OpenedSource]:
    from ..catalog.groups import load_groups  # 4 ms of a start, and most count no groups

    there = load_groups()
    for group in groups:
        if group not in there:
            raise UsageError(f"there is no group {group!r}; there are {', '.join(there)}")
    if source not in ("auto", "bpf", "pinned"):
        raise UsageError(f"groups are counted by the sources 'bpf' and 'pinned', not {source!r}")
    unpinned = [group for group in groups if not there[group].can_be_pinned]
    if source == "pinned" and unpinned:
        raise UsageError(f"group {unpinned[0]} is counted only by the source 'bpf'")
    return partial(_open_with, groups, source, can_be_pinned=not unpinned)


def _open_with(groups: Sequence[str], source: str, *, can_be_pinned: bool) -> OpenedSource:
    why_not: dict[str, SourceError] = {}
    if source != "bpf" and can_be_pinned:
        try:
            instead = None if source == "pinned" else partial(_open_bpf, groups)
            return OpenedSource(_open_pinned(groups), why_not, instead)
        except SourceError as error:
            if source == "pinned":
                raise
            why_not["pinned"] = error
    return OpenedSource(_open_bpf(groups), why_not)


def _open_best() -> OpenedSource:
    why_not: dict[str, SourceError] = {}
    for name, open_source in _BEST_FIRST.items():
        try:
            return OpenedSource(open_source(), why_not, _open_bpf if name == "pinned" else None)
        except SourceError as error:
            if error.errno in _NO_MORE_FILES:
                raise  # the next source would see less, for lack of fds
            why_not[name] = error
    reasons = ";\n  ".join(f"{name}: {error.reason}" for name, error in why_not.items())
    remedies = dict.fromkeys(error.remedy for error in why_not.values() if error.remedy)
    raise Unavailable(f"no source works here:\n  {reasons}", remedy="\n       ".join(remedies))
