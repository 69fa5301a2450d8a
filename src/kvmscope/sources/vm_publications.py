"""Stats that VMMs publish about VMs that another source reads: found in the VMM's process, for ``collect`` to join.

Not here: the search for the files of a process (``host.naming``, in another thread), which files are accepted
(``publishers``), the VM of a process to which they belong (``collect``).
Rule: a file counts for a VM only if the VM's own process publishes it. The file must contain the start time of that
process, and its user or root must have made it: a process may hold files that others handed to it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ..codec.publication import LINK_PREFIXES
from ..errors import Unavailable
from ..linux.files import PROC
from ..sample import Sample
from ..schema import Schema
from .publishers import PublishedFile, Publisher, Publishers

PREFIXES = tuple(LINK_PREFIXES.values())
"""The prefixes of the names of the memfds to look for."""


class VmPublications:
    """The published files of VMMs. Must be closed. Opens nothing until there is a file."""

    def __init__(self, *, proc: Path = Path(PROC)) -> None:
        self._proc = proc
        self._publishers: Publishers | None = None
        self._seen: dict[int, Mapping[int, int]] = {}

    @property
    def schemas(self) -> tuple[Schema, ...]:
        """The schemas of the current publications."""
        return () if self._publishers is None else self._publishers.schemas

    def read(self, found: Mapping[int, Mapping[int, int]]) -> Sample | None:
        """A sample of the publications of these processes; ``found``: for each pid its memfds, fd number by inode.

        None if there are no files, not even rejected ones.
        """
        if self._publishers is None and not self._open(any(found.values())):
            return None
        assert self._publishers is not None
        self._publishers.refresh()
        for process in list(self._publishers.by_pid.values()):
            if process.pid not in found:
                self._publishers.forget(process)
        for pid, files in found.items():
            if self._seen.get(pid) is not files:  # each search makes a new mapping: bad files are tried again
                self._compare(self._publishers, pid, dict(files))
        self._seen = dict(found)
        sample = self._publishers.sample(
            source="published", taken_ns=time.time_ns(), monotonic_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        )
        return sample if len(sample.vms) or sample.gaps else None

    def close(self) -> None:
        """Idempotent."""
        if self._publishers is not None:
            self._publishers.close()
            self._publishers = None

    def _open(self, is_needed: bool) -> bool:
        if is_needed:
            with suppress(Unavailable):
                self._publishers = Publishers(self._proc)
        return self._publishers is not None

    def _compare(self, publishers: Publishers, pid: int, files: dict[int, int]) -> None:
        process = publishers.by_pid.get(pid) or publishers.meet(pid)
        if process is not None:
            publishers.compare(process, files, _is_by)


def _is_by(file: PublishedFile, process: Publisher) -> bool:
    """Whether this process publishes the file, and for a VM that exists."""
    return not file.about.simulated and file.about.owner_start == process.started
