"""The source that reads published stats: by ``kvmscope.publish``, or as docs/reference/publish.md specifies.

It finds sealed memfds by their names in /proc/PID/fd of those processes that it may inspect, maps them, and copies
their data at each read. Not here: the stats of the kernel (other sources), writing (``publish``), which files are
accepted (``publishers``), files that a process hands over itself (``passed``).
Rule: data that another process publishes is hostile until checked; a file that breaks a rule becomes a gap.

Cost: a walk of /proc reads the link of every open file of every process, so walks are limited to a share of the time;
between walks a read is one system call and a copy of each known file. A new file is seen at the next walk, the end of
a publication or of its process at once.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Final

from ..closing import Closable
from ..codec.publication import LINK_PREFIXES
from ..linux.files import PROC
from ..linux.memfd import find
from ..linux.namespaces import why_processes_are_hidden
from ..sample import Gap, Sample
from ..schema import Schema
from .publishers import PublishedFile, Publisher, Publishers

WALK_SHARE: Final = 0.05

_PREFIXES: Final = tuple(LINK_PREFIXES.values())


class PublishedSource(Closable):
    """Reads published stats. ``proc``: where the proc file system is mounted.

    ``simulated``: None for all publications, True for only simulated ones, False for only the others.
    ``walk_share``: the largest share of the time to spend on walks for new files; ``inf``: walk at each read.
    Raises Unavailable if there is no /proc, or no way to distinguish memfds (before Linux 5.14).
    """

    def __init__(
        self, *, proc: Path = Path(PROC), simulated: bool | None = None, walk_share: float = WALK_SHARE
    ) -> None:
        self._proc = proc
        self._simulated = simulated
        self._walk_share = walk_share
        self._publishers = Publishers(proc)
        self._hidden = 0
        self._next_walk = -math.inf

    @property
    def name(self) -> str:
        return "published"

    @property
    def schemas(self) -> tuple[Schema, ...]:
        """The schemas of the current publications."""
        self._refresh()
        return self._publishers.schemas

    def read(self) -> Sample:
        """One sample of everything that is published; empty if nothing is. Raises ValueError after ``close``."""
        self._refresh()
        taken_ns, monotonic_ns = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return self._publishers.sample(
            source=self.name, taken_ns=taken_ns, monotonic_ns=monotonic_ns, gaps=self._gaps()
        )

    def walk(self) -> None:
        """Look for publications in every process now."""
        began = time.monotonic()
        with os.scandir(self._proc) as entries:
            pids = sorted(int(entry.name) for entry in entries if entry.name.isdecimal())
        known = self._publishers.by_pid
        for pid in set(known).difference(pids):
            self._publishers.forget(known[pid])
        self._hidden = 0
        for pid in pids:
            self._walk_process(pid)
        self._publishers.forget_schemas()
        ended = time.monotonic()
        self._next_walk = ended + (ended - began) / self._walk_share

    def close(self) -> None:
        self._publishers.close()

    def _gaps(self) -> list[Gap]:
        gaps = []
        hidden = why_processes_are_hidden(proc_root=str(self._proc))
        if hidden is not None:
            gaps.append(Gap(f"{hidden[0]}; {hidden[1]}"))
        if self._hidden:
            processes = "process" if self._hidden == 1 else "processes"
            gaps.append(Gap(f"{self._hidden} {processes} could not be inspected by this user"))
        return gaps

    def _refresh(self) -> None:
        self._publishers.refresh()
        if time.monotonic() >= self._next_walk:
            self.walk()

    def _walk_process(self, pid: int) -> None:
        try:
            found = find(pid, _PREFIXES, mount=self._publishers.mount, proc_root=str(self._proc))
        except PermissionError:
            self._hidden += 1
            return
        except OSError:
            found = {}
        process = self._publishers.by_pid.get(pid)
        if process is None and found:
            process = self._publishers.meet(pid)
        if process is not None:
            self._publishers.compare(process, found, self._concerns_us)

    def _concerns_us(self, file: PublishedFile, process: Publisher) -> bool:
        """False for files excluded by ``simulated``, and for those that another process publishes."""
        about = file.about
        return self._simulated in (None, about.simulated) and about.owner_start in (0, process.started)
