"""Choosing a source and reading from it: the one way in for every command and library user.

``open_host`` tries the sources, best first, and keeps the reason why each better one is not available. ``Host`` makes
scenes: it joins what a source reads with what ``host`` knows of the machine and of the processes behind the VMs.
"""

from __future__ import annotations

import errno
import os
import time
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from .catalog.groups import load_groups
from .errors import RecordingError, SourceError, Unavailable, UsageError
from .host.facts import Machine
from .host.machine import read_machine
from .host.naming import Naming, VmmAnswer
from .host.origin import read_origin
from .host.process import VmmProcess
from .linux.kvm import is_kvm_there
from .linux.namespaces import is_sys_hidden
from .sample import NOT_KNOWN, Sample
from .scene import Scene, VmIdentity
from .schema import Schema
from .sources.base import Source
from .store.replay import EARLY, SceneMoment, SceneSeries

if TYPE_CHECKING:
    from .view.watch import HostView


_LONGEST_S = 36_000_000.0
"""The longest interval, as on the command line: longer ones may be more than a sleep takes."""


def _open_pinned(groups: Sequence[str] = ()) -> Source:
    from .sources.bpf.source import PinnedSource

    return PinnedSource(groups=groups or None)


def _open_bpf(groups: Sequence[str] = ()) -> Source:
    from .sources.bpf.source import BpfSource

    return BpfSource(groups)


def _open_statsfd() -> Source:
    from .sources.statsfd import StatsFdSource

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
    from .sources.published import PublishedSource

    return PublishedSource()


def _open_simulated() -> Source:
    """The published source if some simulated host is there to be read."""
    from .sources.published import PublishedSource

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

_NO_MORE_FILES = (errno.EMFILE, errno.ENFILE)

_BEST_FIRST: Mapping[str, Callable[[], Source]] = {
    "pinned": _open_pinned,
    "bpf": _open_bpf,
    "statsfd": _open_statsfd,
    "published": _open_simulated,
}
"""In the order of ``auto``: ``pinned`` sees what ``bpf`` sees and costs no loading; simulated numbers come last."""


class SceneHost(ABC):
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

    @property
    def has_more(self) -> bool:
        """Whether there is something to look at after the last look; a live host always has."""
        return True

    @abstractmethod
    def look(self) -> Scene:
        """One scene: a sample, and with it all that judging needs. Raises SourceError if the source is gone."""

    @abstractmethod
    def look_after(self, interval_s: float) -> Scene:
        """The scene that is this many seconds after now. Raises SourceError if the source is gone."""

    def interval_s(self, asked_s: float) -> float:
        """How long an interval is for which these seconds were asked: the span of a recording if one was chosen."""
        return asked_s

    def watch(self, interval_s: float, *, first: Scene | None = None, keeps_ended: bool = False) -> Iterator[HostView]:
        """Every ``interval_s`` seconds what there is to be said of them, without end, or to the end of a recording.

        ``first``: a scene that was taken already, with which the first interval begins. ``keeps_ended``: views have the
        findings that ended since the first scene, and not in the last interval alone. Raises UsageError for an interval
        that is no time from 0 on, SourceError if the source is gone.
        """
        if not 0 <= interval_s <= _LONGEST_S:
            raise UsageError(f"interval_s: expected a number of seconds from 0 to {_LONGEST_S:g}, found {interval_s!r}")
        return self._watch(interval_s, first, keeps_ended)

    def _watch(self, interval_s: float, first: Scene | None, keeps_ended: bool) -> Iterator[HostView]:
        from .view.watch import Watch  # not at the top: who only reads loads no analysis

        watch = Watch(keeps_ended=keeps_ended)
        watch.add(first or self.look())
        while self.has_more:
            view = watch.add(self.look_after(interval_s))
            if view is not None:
                yield view

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Host(SceneHost):
    """An opened source on this host; a context manager. Not for use by two threads at once.

    Once it is closed, and in a process that was forked while it was open, every use of it raises UsageError. One that
    is collected without having been closed closes its source with a ResourceWarning.
    """

    def __init__(self, source: Source, why_not: Mapping[str, SourceError], *, machine: Machine | None = None) -> None:
        self._opened = source
        self._process = os.getpid()
        self._end = weakref.finalize(self, _end_unclosed, source, self._process)
        self._end.atexit = False  # the kernel takes back what a process leaves
        self._naming = Naming()
        self._machine = machine
        self._origin = read_origin()
        self.why_not = why_not

    @property
    def source(self) -> str:
        """Name of the source that is read."""
        return self._opened.name

    @property
    def _source(self) -> Source:
        """The source, while it may be used."""
        if not self._end.alive:
            raise UsageError("this host is closed; open it again with open_host()")
        if os.getpid() != self._process:
            raise UsageError("this host was opened by the process that forked this one; open one here with open_host()")
        return self._opened

    @property
    def schemas(self) -> tuple[Schema, ...]:
        """The schemas that samples can have blocks of."""
        return self._source.schemas

    def read(self) -> Sample:
        """One sample of the whole host. Raises SourceError if the source is gone."""
        return replace(self._source.read(), origin=self._origin)

    def look(self) -> Scene:
        """One scene: a sample, and with it all that judging needs. Raises SourceError if the source is gone."""
        sample = self.read()
        why_not = {name: error.reason for name, error in self.why_not.items()}
        return Scene(sample, self.identify(sample), self._read_machine(), why_not)

    @property
    def now_s(self) -> float:
        return time.monotonic()

    def look_after(self, interval_s: float) -> Scene:
        time.sleep(interval_s)
        return self.look()

    def identify(self, sample: Sample) -> tuple[VmIdentity, ...]:
        """For each row of ``sample.vms`` who it is. VMs with the same name are numbered: ``#1``, ``#2`` …"""
        pids = [int(pid) for pid in sample.vms.pid]
        answers = self._naming.of({pid for pid in pids if pid != NOT_KNOWN})
        processes = {pid: answer.process for pid, answer in answers.items() if answer.process is not None}
        names = _distinct(_names(sample, processes))
        nothing = VmmAnswer(None, None, None)
        of_vms = (answers.get(pid, nothing) for pid in pids)
        return tuple(
            VmIdentity(name, answer.process, answer.domain_xml, answer.silent_s)
            for name, answer in zip(names, of_vms, strict=True)
        )

    def close(self) -> None:
        """Close the source. Closing again does nothing, and so does closing in a process that was forked since."""
        if self._end.detach() is not None and os.getpid() == self._process:
            self._opened.close()

    def _read_machine(self) -> Machine:
        if self._machine is None:
            self._machine = read_machine()
        return self._machine

    def __enter__(self) -> Self:
        _ = self._source
        return self


class RecordedHost(SceneHost):
    """A recording, looked at as a host is: the next look is the next scene. Nothing here waits or knows the time."""

    def __init__(self, series: SceneSeries, moments: Sequence[SceneMoment], *, is_span: bool = False) -> None:
        """``moments``: what can be looked at. ``is_span``: they are the interval, however long that is."""
        self._series = series
        self._moments = moments
        self._is_span = is_span
        self._place = -1
        self._scene: Scene | None = None
        self.why_not = {}

    @property
    def source(self) -> str:
        return self._moments[max(0, self._place)].source

    @property
    def schemas(self) -> tuple[Schema, ...]:
        """Those of the last look."""
        scene = self._scene or self._series.scene(self._moments[0])
        return tuple(block.schema for block in scene.sample.blocks)

    @property
    def now_s(self) -> float:
        return self._moments[max(0, self._place)].boottime_ns / 1e9

    @property
    def has_more(self) -> bool:
        return self._place + 1 < len(self._moments)

    @property
    def damage(self) -> Sequence[RecordingError]:
        """What of the recording could not be read so far."""
        return self._series.damage

    @property
    def moments(self) -> Sequence[SceneMoment]:
        """When the scenes were taken that can be looked at."""
        return self._moments

    def look(self) -> Scene:
        """The next scene. Raises UsageError if there is none, RecordingError."""
        return self._look_at(self._place + 1)

    def look_after(self, interval_s: float) -> Scene:
        """The next scene that is this many seconds after the last, or the last that there is."""
        due_s = self.now_s + interval_s * (1 - EARLY)
        place = self._place + 1
        while place + 1 < len(self._moments) and self._moments[place].boottime_ns / 1e9 < due_s:
            place += 1
        return self._look_at(place)

    def interval_s(self, asked_s: float) -> float:
        if not self._is_span:
            return asked_s
        return (self._moments[-1].boottime_ns - self._moments[0].boottime_ns) / 1e9

    def close(self) -> None:
        self._scene = None

    def _look_at(self, place: int) -> Scene:
        if place >= len(self._moments):
            raise UsageError("the recording has no more scenes")
        self._place = place
        self._scene = self._series.scene(self._moments[place])
        return self._scene


def open_recording(path: str | Path) -> RecordedHost:
    """Open a recording, or a file with a scene: a host whose looks are the scenes that were recorded, in their order.

    Raises RecordingError if there is none that can be read, UsageError if it has no scenes.
    """
    from .store.recording import open_series

    series = open_series(str(path))
    moments = series.moments()
    if not moments:
        raise UsageError(f"the recording {path} has no scenes")
    return RecordedHost(series, moments)


def _end_unclosed(source: Source, process: int) -> None:
    """A host was collected without having been closed."""
    if os.getpid() == process:
        warnings.warn(f"a host that reads by {source.name} was not closed", ResourceWarning, stacklevel=2)
        source.close()


def open_host(source: str = "auto", groups: Sequence[str] = ()) -> Host:
    """Open this host for reading by ``source``, or with ``auto`` by the best source that works.

    ``groups`` are opt-in groups of statistics, by their names in catalog/groups.toml. Source ``bpf`` has the kernel
    count them while this host is open; ``pinned`` has those that root has pinned, and reads them without being asked
    too. Raises UsageError for a source or group that does not exist, PermissionNeeded or Unavailable if it (or with
    ``auto`` every source) is not available.
    """
    if isinstance(groups, str):
        raise UsageError(f"groups: expected a list of names, found the text {groups!r}")
    if groups:
        return _open_with(groups, source)
    if source == "auto":
        return _open_best()
    if source not in SOURCES:
        raise UsageError(f"there is no source {source!r}; there are auto, {', '.join(SOURCES)}")
    return Host(SOURCES[source](), {})


def _open_with(groups: Sequence[str], source: str) -> Host:
    there = load_groups()
    for group in groups:
        if group not in there:
            raise UsageError(f"there is no group {group!r}; there are {', '.join(there)}")
    if source not in ("auto", "bpf", "pinned"):
        raise UsageError(f"groups are counted by the sources 'bpf' and 'pinned', not {source!r}")
    unpinned = [group for group in groups if not there[group].can_be_pinned]
    if source == "pinned" and unpinned:
        raise UsageError(f"group {unpinned[0]} is counted by the source 'bpf' alone")
    why_not: dict[str, SourceError] = {}
    if source != "bpf" and not unpinned:
        try:
            return Host(_open_pinned(groups), why_not)
        except SourceError as error:
            if source == "pinned":
                raise
            why_not["pinned"] = error
    return Host(_open_bpf(groups), why_not)


def _open_best() -> Host:
    why_not: dict[str, SourceError] = {}
    for name, open_source in _BEST_FIRST.items():
        try:
            return Host(open_source(), why_not)
        except SourceError as error:
            if error.errno in _NO_MORE_FILES:
                raise  # the next source would see less, for want of files
            why_not[name] = error
    reasons = "; ".join(f"{name}: {error.reason}" for name, error in why_not.items())
    remedies = dict.fromkeys(error.remedy for error in why_not.values() if error.remedy)
    raise Unavailable(f"no source works here ({reasons})", remedy="; ".join(remedies))


def _names(sample: Sample, processes: Mapping[int, VmmProcess]) -> list[str]:
    """A name a VM: the publisher's, else its VMM's, else by the process id, else the kernel's, else the opaque id."""

    def name(row: int) -> str:
        pid = int(sample.vms.pid[row])
        process = processes.get(pid)
        given = sample.vms.given_label(row)
        if given:
            return given
        if process is not None and process.name:
            return process.name
        if pid != NOT_KNOWN:
            return f"{process.command}-{pid}" if process is not None else f"pid-{pid}"
        return sample.vms.label[row] or f"vm-{sample.vms.vm_id(row)}"

    return [name(row) for row in range(len(sample.vms))]


def _distinct(names: list[str]) -> list[str]:
    total: dict[str, int] = {}
    for name in names:
        total[name] = total.get(name, 0) + 1
    seen: dict[str, int] = {}
    for row, name in enumerate(names):
        if total[name] > 1:
            seen[name] = seen.get(name, 0) + 1
            while f"{name}#{seen[name]}" in total:  # some VM is really called so
                seen[name] += 1
            names[row] = f"{name}#{seen[name]}"
    return names
