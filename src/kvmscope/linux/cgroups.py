"""Cgroups of the unified hierarchy (cgroup v2): its mount, the cgroup of a process, and the pressure of a cgroup.

Pressure stall information (PSI) is the time that tasks of a cgroup waited for a resource. A read of the file updates
the sums; otherwise the kernel updates them every two seconds.
Source: cgroups(7), proc_pid_mountinfo(5), Documentation/accounting/psi.rst, kernel/sched/psi.c (psi_show).
"""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .facts import Fact
from .files import PROC, read_text, reason_of
from .procfs import Process

NO_PRESSURE: Final = "this kernel keeps no pressure stall information (psi=1 on its command line turns it on)"
_NOT_MOUNTED: Final = "no unified hierarchy of cgroups (cgroup v2) is mounted here"
_OUTSIDE: Final = "its cgroup lies outside of those that this process sees"
_OF_HOST: Final = "its process is in the root cgroup, whose pressure is that of the whole host"
_MOST_BYTES: Final = 4096
_LINE: Final = re.compile(rb"^(some|full) .*\btotal=(\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class UnifiedHierarchy:
    """The mount point, and the cgroup mounted there: ``/`` unless only a part of the hierarchy is mounted."""

    place: str
    root: str

    def folder_of(self, group: str) -> Fact[str]:
        """The directory of a cgroup that is not the root."""
        if group == "/":
            return Fact.unknown(_OF_HOST)
        below = posixpath.relpath(group, self.root)
        if ".." in group.split("/") or below.startswith(".."):
            return Fact.unknown(_OUTSIDE)
        return Fact(posixpath.normpath(posixpath.join(self.place, below)))


def find_unified(*, proc_root: str = PROC) -> UnifiedHierarchy | None:
    """The unified hierarchy as this process sees it; None if it is not mounted."""
    for line in (read_text(f"{proc_root}/self/mountinfo").value or "").splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if after.startswith("cgroup2 ") and len(fields) > 4:
            return UnifiedHierarchy(fields[4], fields[3])
    return None


def folder_of_process(process: Process, hierarchy: UnifiedHierarchy | None) -> Fact[str]:
    """The directory of the innermost cgroup that all its threads are in."""
    if hierarchy is None:
        return Fact.unknown(_NOT_MOUNTED)
    groups = set((process.unified_groups() or {}).values())
    return hierarchy.folder_of(posixpath.commonpath(groups)) if groups else Fact.unknown("its cgroup cannot be read")


@dataclass(frozen=True, slots=True)
class Pressure:
    """The total time that tasks waited: at least one of them (``some``), or all non-idle ones at once (``full``)."""

    some_us: int
    full_us: int


def read_pressure(folder: str, resource: str, *, proc_root: str = PROC) -> Fact[Pressure]:
    """The pressure of a cgroup for ``cpu`` or ``memory``."""
    path = f"{folder}/{resource}.pressure"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(fd, _MOST_BYTES)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return Fact.unknown(_why_missing(folder, proc_root))
    except OSError as error:
        return Fact.unknown(reason_of(error))
    totals = dict(_LINE.findall(text))
    if totals.keys() != {b"some", b"full"}:
        return Fact.unknown(f"{path} does not have the totals of some and full")
    return Fact(Pressure(int(totals[b"some"]), int(totals[b"full"])))


def _why_missing(folder: str, proc_root: str) -> str:
    if not Path(f"{proc_root}/pressure").is_dir():
        return NO_PRESSURE
    if not Path(folder).is_dir():
        return f"its cgroup {folder} is gone"
    return f"{folder} keeps no pressure (1 in its cgroup.pressure turns it on)"
