"""The source that reads what processes publish by ``kvmscope.publish``, or by any program that follows docs/publish.md.

It finds sealed memfds by their names in /proc/PID/fd of those processes that it may look into, maps them, and at each
read copies their data. Not here: the stats of the kernel (other sources), writing (``publish``), what is taken of a
file (``publishers``), files that a process hands over itself (``passed``).
Rule: what another process publishes is hostile until checked; a file that breaks a rule is a gap and nothing else.

Cost: a walk of /proc reads the link of every open file of every process, so walks are rationed to a share of the time;
between walks a read is one system call and a copy of each known file. A new file is seen at the next walk, the end of
a publication or of its process at once.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Final

from ..codec.publication import FILE_LIMIT, LINK_PREFIXES
from ..errors import FormatError
from ..linux.files import PROC
from ..linux.memfd import NotShared, find, open_shared
from ..linux.namespaces import why_processes_are_hidden
from ..sample import Gap, Sample
from ..schema import Schema
from .publishers import BAD_LIMIT, PublishedFile, Publisher, Publishers

WALK_SHARE: Final = 0.05

_PREFIXES: Final = tuple(LINK_PREFIXES.values())


class PublishedSource:
    """Reads published stats. ``proc``: where the proc file system is mounted.

    ``simulated``: None for everything that is published, else only what is (True) or is not (False) simulated.
    ``walk_share``: the largest share of the time that may go into looking for new files; ``inf``: look at each read.
    Raises Unavailable if there is no /proc, or no memfds that can be told apart (before Linux 5.14).
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
        """The schemas of what is published at the moment."""
        self._refresh()
        return self._publishers.schemas

    def read(self) -> Sample:
        """One sample of everything that is published; empty if nothing is. ValueError after ``close``."""
        self._refresh()
        taken_ns, monotonic_ns = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return self._publishers.sample(
            source=self.name, taken_ns=taken_ns, monotonic_ns=monotonic_ns, gaps=self._gaps()
        )

    def walk(self) -> None:
        """Looks for publications in every process, now."""
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

    def __enter__(self) -> PublishedSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
            self._compare(process, found)

    def _compare(self, process: Publisher, found: dict[int, int]) -> None:
        """Brings what is known of a process in line with the memfds that it has: fd number by inode."""
        for inode in process.files.keys() - found.keys():
            process.drop(inode)
        process.ignored &= found.keys()
        process.bad.clear()
        process.descriptions = len({id(file.schema) for file in process.files.values()})
        for inode in sorted(found.keys() - process.files.keys() - process.ignored, key=found.__getitem__):
            if len(process.bad) == BAD_LIMIT:
                process.bad[-1] = Gap(f"process {process.pid}: no more of its files were tried, so many are bad")
                break
            self._take(process, inode, found[inode])
        if not process.files and not process.bad and not process.ignored:
            self._publishers.forget(process)

    def _take(self, process: Publisher, inode: int, number: int) -> None:
        try:
            mapping = open_shared(
                process.pid, number, mount=self._publishers.mount, limit=FILE_LIMIT, proc_root=str(self._proc)
            )
            file = self._publishers.understand(process, mapping)
        except (FileNotFoundError, ProcessLookupError):
            return
        except (FormatError, NotShared, OSError) as error:
            process.bad[inode] = Gap(f"process {process.pid}, fd {number}: {error}")
            return
        if self._concerns_us(file, process, inode):
            process.keep(inode, file)
        else:
            process.ignore(inode, file)

    def _concerns_us(self, file: PublishedFile, process: Publisher, inode: int) -> bool:
        """False for what is over, what is not asked for, and what another process publishes and this one only holds."""
        about = file.about
        return (
            about.live
            and self._simulated in (None, about.simulated)
            and about.owner_start in (0, process.started)
            and not any(inode in other.files for other in self._publishers.by_pid.values())
        )
