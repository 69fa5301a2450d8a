"""This host: joins the samples of a source with the facts of ``host`` about the machine and the VMs' processes."""

from __future__ import annotations

import os
import time
import warnings
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from ..analysis.uncounted import UncountedStats
from ..errors import Busy, SourceError, UsageError
from ..host.facts import Machine
from ..host.machine import WatchedMachine
from ..host.naming import Naming, VmmAnswer
from ..host.origin import read_origin
from ..host.process import VmmProcess
from ..sample import NOT_KNOWN, Gap, Sample, Vms
from ..scene import Scene, VmIdentity
from ..schema import Schema
from ..sources.base import Source
from ..sources.vm_pressure import SCHEMA, with_pressure
from ..sources.vm_publications import VmPublications
from .host import SceneHost
from .joining import join, published_names

_OF_PUBLISHED = ("published", "passed")
"""Sources of published stats, to which nothing is joined."""


class Host(SceneHost):
    """An opened source on this host; a context manager. Not for use by two threads at once.

    Once it is closed, and in a process that was forked while it was open, every use of it raises UsageError. One that
    is collected without having been closed closes its source with a ResourceWarning.
    """

    def __init__(
        self,
        source: Source,
        why_not: Mapping[str, SourceError],
        *,
        machine: Machine | None = None,
        instead: Callable[[], Source] | None = None,
    ) -> None:
        """``machine``: the facts of the host, read if not given. ``instead``: opens the replacement for ``source`` if
        other readers keep that busy."""
        self._process = os.getpid()
        self._opened = source
        self._publications = VmPublications()
        self._end = self._ends_with(source)
        self._instead = instead
        self._has_pressure = False
        self._detour: tuple[Gap, ...] = ()
        self._naming = Naming()
        self._identified: _Identified | None = None
        self._given_machine = machine
        self._watched_machine: WatchedMachine | None = None
        self._uncounted: UncountedStats | None = None
        self._origin = read_origin()
        self.why_not = why_not

    @property
    def source(self) -> str:
        """Name of the source that is read."""
        return self._opened.name

    @property
    def _source(self) -> Source:
        """The source. Raises UsageError if it may not be used any more."""
        if not self._end.alive:
            raise UsageError("this host is closed; open it again with open_host()")
        if os.getpid() != self._process:
            raise UsageError("this host was opened by the process that forked this one; open one here with open_host()")
        return self._opened

    @property
    def schemas(self) -> tuple[Schema, ...]:
        """The schemas that samples can have blocks of; after a look also of blocks that only looks have."""
        pressure = (SCHEMA,) if self._has_pressure else ()
        return (*self._source.schemas, *pressure, *self._publications.schemas)

    def read(self) -> Sample:
        """One sample of the whole host, as the source gives it: only ``look`` removes stats that the host's kernel
        describes but does not count. Raises SourceError if the source is gone."""
        try:
            sample = self._source.read()
        except Busy as busy:
            sample = self._go_on_instead(busy).read()
        if self._detour:
            sample = replace(sample, gaps=(*sample.gaps, *self._detour))
        return sample.of_origin(self._origin)

    def look(self) -> Scene:
        """One scene: a sample and all facts that rules need. Raises SourceError if the source is gone."""
        sample = self.read()
        answers = self._ask(sample)
        if sample.source not in _OF_PUBLISHED:
            sample = self._take_out_uncounted(sample)
            sample = with_pressure(sample, {pid: answer.group for pid, answer in answers.items()})
            self._has_pressure = self._has_pressure or sample.block(SCHEMA.provider, SCHEMA.scope) is not None
        names: Mapping[int, str] = {}
        published = self._read_published(sample, answers)
        if published is not None:
            sample, names = join(sample, published), published_names(sample, published)
        why_not = {name: error.reason for name, error in self.why_not.items()}
        return Scene(sample, self._identities(sample, answers, names), self._read_machine(), why_not)

    @property
    def now_s(self) -> float:
        return time.monotonic()

    def look_after(self, interval_s: float) -> Scene:
        time.sleep(interval_s)
        return self.look()

    def identify(self, sample: Sample) -> tuple[VmIdentity, ...]:
        """The identity of each row of ``sample.vms``. VMs with the same name are numbered: ``#1``, ``#2`` …"""
        return self._identities(sample, self._ask(sample), {})

    def _ask(self, sample: Sample) -> Mapping[int, VmmAnswer]:
        return self._naming.of({pid for pid in sample.vms.pid.tolist() if pid != NOT_KNOWN})

    def _identities(
        self, sample: Sample, answers: Mapping[int, VmmAnswer], published: Mapping[int, str]
    ) -> tuple[VmIdentity, ...]:
        """``published``: names that VMMs publish, by process id."""
        known = self._identified
        if known is None or known.vms is not sample.vms or (known.answers, known.published) != (answers, published):
            identities = _identities(sample, answers, published)
            known = self._identified = _Identified(sample.vms, answers, published, identities)
        return known.identities

    def _read_published(self, sample: Sample, answers: Mapping[int, VmmAnswer]) -> Sample | None:
        """The publications of a sample's VMMs; None if there are none, or the sample is of published stats itself."""
        if sample.source in _OF_PUBLISHED:
            return None
        return self._publications.read({pid: answer.published for pid, answer in answers.items() if answer.published})

    def close(self) -> None:
        """Close the source. Idempotent; does nothing in a process that was forked since it was opened."""
        if self._end.detach() is not None and os.getpid() == self._process:
            self._publications.close()
            self._opened.close()

    def _go_on_instead(self, busy: Busy) -> Source:
        """The source to read from now on. Raises ``busy`` if there is none that works."""
        if self._instead is None:
            raise busy
        try:
            source = self._instead()
        except SourceError:
            raise busy from None
        self.why_not = {**self.why_not, self._opened.name: busy}
        self._detour = (Gap(f"read by {source.name}, since {busy.reason}"),)
        self._end.detach()
        self._opened.close()
        self._opened, self._instead = source, None
        self._end = self._ends_with(source)
        return source

    def _ends_with(self, source: Source) -> weakref.finalize[[Source, VmPublications, int], Host]:
        end = weakref.finalize(self, _end_unclosed, source, self._publications, self._process)
        end.atexit = False  # the kernel frees the resources of a process
        return end

    def _take_out_uncounted(self, sample: Sample) -> Sample:
        if self._uncounted is None:
            self._uncounted = UncountedStats(self._read_machine())
        return self._uncounted.taken_out(sample)

    def _read_machine(self) -> Machine:
        if self._given_machine is not None:
            return self._given_machine
        self._watched_machine = self._watched_machine or WatchedMachine()
        return self._watched_machine.now

    def __enter__(self) -> Self:
        _ = self._source
        return self


@dataclass(frozen=True, slots=True)
class _Identified:
    """The identities of the last look's VMs, and the data from which they were made; most looks find no change."""

    vms: Vms
    answers: Mapping[int, VmmAnswer]
    published: Mapping[int, str]
    identities: tuple[VmIdentity, ...]


def _end_unclosed(source: Source, publications: VmPublications, process: int) -> None:
    """Close the source of a host that was garbage-collected without having been closed."""
    if os.getpid() == process:
        publications.close()
        warnings.warn(f"a host that reads by {source.name} was not closed", ResourceWarning, stacklevel=2)
        source.close()


def _identities(
    sample: Sample, answers: Mapping[int, VmmAnswer], published: Mapping[int, str]
) -> tuple[VmIdentity, ...]:
    """The identity of each row of ``sample.vms``. ``published``: names that VMMs publish, by process id."""
    processes = {pid: answer.process for pid, answer in answers.items() if answer.process is not None}
    names = _distinct(_names(sample, processes, published))
    nothing = VmmAnswer(None, None, None)
    of_vms = (answers.get(pid, nothing) for pid in sample.vms.pid.tolist())
    return tuple(
        VmIdentity(name, answer.process, answer.domain_xml, answer.silent_s)
        for name, answer in zip(names, of_vms, strict=True)
    )


def _names(sample: Sample, processes: Mapping[int, VmmProcess], published: Mapping[int, str]) -> list[str]:
    """One name per VM: from the source, its VMM, the VMM's publications, the process id, the kernel, or the opaque id,
    in this order."""

    def name(row: int) -> str:
        pid = int(sample.vms.pid[row])
        process = processes.get(pid)
        given = sample.vms.given_label(row)
        if given:
            return given
        if process is not None and process.name:
            return process.name
        if pid in published:
            return published[pid]
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
            while f"{name}#{seen[name]}" in total:  # another VM has that very name
                seen[name] += 1
            names[row] = f"{name}#{seen[name]}"
    return names
