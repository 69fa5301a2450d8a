"""The identities of VMs, read on threads beside the sampling loop.

A process is identified from /proc/PID/cmdline and maps. Those reads block while the process holds its ``mmap_lock``, so
they hang exactly when a VMM hangs. So each request runs on a separate thread: ``of`` waits briefly for new VMMs, and
never for one that does not answer.

Rule: a late answer is missing, with the time for which it is late. The sampling thread reads nothing of a process.
Source: fs/proc/base.c, get_mm_cmdline() and proc_maps_open(); both take mmap_lock, and a fatal signal ends them.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from ..codec.publication import LINK_PREFIXES
from ..errors import Unavailable
from ..linux import memfd, procfs
from ..linux.cgroups import UnifiedHierarchy, find_unified, folder_of_process
from ..linux.facts import Fact
from ..linux.files import PROC
from .kubernetes import with_pod_name
from .libvirt_files import domain_xml
from .process import VmmProcess
from .vmm import identify

PATIENCE_S: Final = 0.25
"""How long ``of`` waits for new VMMs, counted from the last one that answered."""

SILENT_S: Final = 0.9
"""A VMM that takes longer counts as not answering. An answer takes about 20 µs, and far longer on a busy host."""

_ASK_AGAIN_S = 0.9
"""How often it is checked that a VMM is still the same program, and answers. Both times are a little less than a
second: with one look per second, a VMM that hangs is checked in the next look and late in the one after that.
"""

_ASK_EACH_S = 0.002
"""On a large host each of n VMMs is checked every n times this: 20 µs of each 2 ms are 1 % of a CPU."""

_NO_PROGRESS_S = 0.02
_MOST_THREADS = 64
"""Each VMM that does not answer blocks a thread. Beyond this many, further VMMs are not checked."""

_SEARCH_EVERY_S = 0.05
"""How often a VMM is searched for published files, which takes about 100 µs: each of n VMMs every n times this."""

_GROUP_EVERY_S = 10.0
"""How often the cgroup of a VMM's threads is looked up, about 8 µs each. A process is put there before or soon after
it starts, and hardly ever moved."""

_PREFIXES: Final = tuple(LINK_PREFIXES.values())

_NOT_LOOKED_UP: Final = Fact[str].unknown("its cgroup was not looked up yet")

Clock: TypeAlias = Callable[[], float]


@dataclass(frozen=True, slots=True)
class VmmAnswer:
    """The present knowledge of one VMM.

    ``process``: None if the process is gone, may not be inspected, or has never answered. ``domain_xml``: libvirt's XML
    of its VM, if it is needed. ``silent_s``: how long it has not answered; None if it has. ``published``: its files
    with the names of published stats, fd number by inode. ``group``: the directory of the innermost cgroup that has all
    its threads.
    """

    process: VmmProcess | None
    domain_xml: bytes | None
    silent_s: float | None
    published: Mapping[int, int] = field(default_factory=dict)
    group: Fact[str] = _NOT_LOOKED_UP


class Naming:
    """Caches the identities of processes and refreshes them periodically. For use by one thread."""

    def __init__(self, *, proc_root: str = PROC, root: str = "/", clock: Clock = time.monotonic) -> None:
        self._proc_root = proc_root
        self._root = root
        self._hierarchy: UnifiedHierarchy | None = None
        self._clock = clock
        self._changed = threading.Condition()
        # The attributes below are read and written with the lock of the condition held.
        self._entries: dict[int, _Entry] = {}
        self._queue: deque[_Entry] = deque()
        self._awaited = 0
        self._answered = 0
        self._threads = 0
        self._mount: str | None = None

    def of(self, pids: Iterable[int], *, patience_s: float = PATIENCE_S) -> dict[int, VmmAnswer]:
        """The present knowledge of each of ``pids``; forgets every process that is not in ``pids``."""
        with self._changed:
            before, self._entries = self._entries, {}
            for pid in pids:
                self._entries[pid] = before.get(pid) or _Entry(pid)
            self._ask()
            self._wait(patience_s)
            now = self._clock()
            return {pid: entry.answer(now) for pid, entry in self._entries.items()}

    def _ask(self) -> None:
        """Queue a check of every process that is new, or is due for one."""
        now = self._clock()
        again_s = self._ask_again_s
        self._awaited = 0
        for entry in self._entries.values():
            if not entry.is_pending and (entry.is_open or now - entry.answered_at >= again_s):
                entry.is_pending, entry.is_awaited = True, entry.is_open
                self._queue.append(entry)
            self._awaited += entry.is_pending and entry.is_awaited
        self._start_thread()

    @property
    def _ask_again_s(self) -> float:
        return max(_ASK_AGAIN_S, _ASK_EACH_S * len(self._entries))

    def _wait(self, patience_s: float) -> None:
        """Wait until all awaited processes have answered, or none has for ``patience_s``."""
        answered, since = self._answered, self._clock()
        while self._awaited:
            now = self._clock()
            if self._answered != answered:
                answered, since = self._answered, now
            elif now - since >= patience_s:
                break
            elif now - since >= _NO_PROGRESS_S:
                self._start_thread()
            self._changed.wait(_NO_PROGRESS_S)
        # A process that has not answered by now is not waited for again.
        for entry in self._entries.values():
            entry.is_awaited = False

    def _start_thread(self) -> None:
        """Start one more thread if checks are queued; it ends when none are left."""
        if self._queue and self._threads < _MOST_THREADS:
            self._threads += 1
            threading.Thread(target=self._answer_all, name="kvmscope-naming", daemon=True).start()

    def _answer_all(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # the sampling thread handles signals
        while (entry := self._take()) is not None:
            try:
                found = self._look_at(entry.pid, entry.seen)
            except OSError:
                found = None  # out of file descriptors or memory: says nothing of the process
            self._search(entry)
            self._find_group(entry)
            with self._changed:
                entry.take(found, self._clock())
                self._answered += 1
                if entry.is_awaited:
                    self._awaited -= 1
                    self._changed.notify()

    def _take(self) -> _Entry | None:
        with self._changed:
            while self._queue:
                entry = self._queue.popleft()
                if self._entries.get(entry.pid) is entry:
                    entry.running_since = self._clock()
                    return entry
            self._threads -= 1
            return None

    def _search(self, entry: _Entry) -> None:
        """Look for published files if that is due. It cannot block: the links of fds take no ``mmap_lock``."""
        now = self._clock()
        again_s = self._ask_again_s
        every_s = again_s if entry.known.published else max(again_s, _SEARCH_EVERY_S * len(self._entries))
        if entry.searched_at is not None and now - entry.searched_at < every_s:
            return
        entry.searched_at = now
        try:
            self._mount = self._mount or memfd.own_mount(proc_root=self._proc_root)
            found = memfd.find(entry.pid, _PREFIXES, mount=self._mount, proc_root=self._proc_root)
        except (OSError, Unavailable):
            found = {}  # gone, of another user, or a kernel that does not distinguish memfds
        if found or entry.known.published:
            entry.known = replace(entry.known, published=found)

    def _find_group(self, entry: _Entry) -> None:
        """Look up its cgroup if that is due. It does not wait for ``mmap_lock``."""
        now = self._clock()
        every_s = max(_GROUP_EVERY_S, _SEARCH_EVERY_S * len(self._entries))
        if entry.grouped_at is not None and now - entry.grouped_at < every_s:
            return
        entry.grouped_at = now
        process = procfs.open_process(entry.pid, proc_root=self._proc_root)
        if process is None:
            return
        with process:
            self._hierarchy = self._hierarchy or find_unified(proc_root=self._proc_root)
            group = folder_of_process(process, self._hierarchy)
        if group != entry.known.group:
            entry.known = replace(entry.known, group=group)

    def _look_at(self, pid: int, before: _Seen | None) -> _Found | None:
        """Identify the process; None if nothing changed since ``before``."""
        process = procfs.open_process(pid, proc_root=self._proc_root)
        if process is None:
            return _Found(None, None, None)
        with process:
            stat, argv = process.stat(), process.argv()
        if stat is None or argv is None:
            return _Found(None, None, None)
        seen = _Seen(stat.start_ticks, stat.comm, argv)
        if seen == before:
            return None
        # ``seen`` is older than the identity, so an exec between the two is noticed at the next check.
        identity = identify(pid, proc_root=self._proc_root)
        if identity is not None:
            identity = with_pod_name(identity, root=self._root)
        xml = None if identity is None else domain_xml(identity, root=self._root, proc_root=self._proc_root)
        # During an exec a process has its new name but no command line yet.
        return _Found(seen if argv else None, identity, xml)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The properties that show a change of program."""

    start_ticks: int
    comm: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    seen: _Seen | None
    process: VmmProcess | None
    domain_xml: bytes | None


_NO_ANSWER: Final = VmmAnswer(None, None, None)


@dataclass(slots=True, eq=False)
class _Entry:
    """One process. ``is_open``: its identity is still to be determined."""

    pid: int
    seen: _Seen | None = None
    answered_at: float = 0.0
    running_since: float | None = None
    is_pending: bool = False
    is_awaited: bool = False
    known: VmmAnswer = _NO_ANSWER
    """The answer to give while it is not late."""
    searched_at: float | None = None
    grouped_at: float | None = None

    @property
    def is_open(self) -> bool:
        return self.seen is None

    def take(self, found: _Found | None, now: float) -> None:
        """Store an answer; None: nothing changed."""
        self.is_pending, self.running_since, self.answered_at = False, None, now
        if found is not None:
            self.seen = found.seen
            self.known = replace(self.known, process=found.process, domain_xml=found.domain_xml)

    def answer(self, now: float) -> VmmAnswer:
        if self.running_since is None:
            return self.known
        waited_s = now - self.running_since
        # A VMM that has never answered is shown without a name, so it is reported as late at once.
        is_late = waited_s >= (PATIENCE_S if self.seen is None else SILENT_S)
        return replace(self.known, silent_s=waited_s) if is_late else self.known
