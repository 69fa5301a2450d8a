"""Runs the iterator and reads its output from memory. It does not interpret the values.

One run: open the iterator's file, read the header, take the records of its slot, then check that the slot still has the
header's generation; if another reader has filled it since, run again.
"""

from __future__ import annotations

import mmap
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from ...codec import snapshot
from ...codec.records import VcpuRecords, VmRecords
from ...codec.snapshot import Feature, SnapshotFlag, SnapshotHeader
from ...errors import Busy
from .holding import CopiedRecords, HeldRecords, SharedRecords
from .layout import Layout
from .run_errors import Overflow, Replaced

_LONGEST_WAIT_S = 1.0
_FEWEST_ATTEMPTS = 20
"""The fewest attempts, even if a busy CPU makes them exceed the time limit."""
_LONGEST_PAUSE_S = 0.002


class Run(NamedTuple):
    """The output of one run of the iterator."""

    header: SnapshotHeader
    vms: VmRecords
    vcpus: VcpuRecords


class Arena:
    """The mapped arrays of one loaded program, and a way to run it."""

    def __init__(
        self, layout: Layout, fds: Mapping[str, int], open_iterator: Callable[[], int], *, is_own: bool = False
    ) -> None:
        """``is_own``: only this process runs the program, and its arrays are not frozen."""
        self._layout = layout
        self._open_iterator = open_iterator
        self._control = mmap.mmap(
            fds["control"], mmap.PAGESIZE, prot=mmap.PROT_READ | (mmap.PROT_WRITE if is_own else 0)
        )
        self._generations = snapshot.generations(memoryview(self._control))
        vms = _map(fds["vms"], layout.vm_size * layout.vm_room * layout.slots)
        vcpus = _map(fds["vcpus"], layout.vcpu_size * layout.vcpu_room * layout.slots)
        self._records: HeldRecords = (
            SharedRecords(layout, vms, vcpus, self._control) if is_own else CopiedRecords(layout, vms, vcpus)
        )

    def close(self) -> None:
        """Close it; arrays that samples refer to stay mapped until these are gone."""
        self._records.close()
        self._generations.release()
        self._control.close()

    def features(self) -> Feature:
        """The features of this kernel that can be read. Raises Overflow if the arrays are too small for the host."""
        header = self.header()
        self._check_room(header)
        return header.features

    def header(self) -> SnapshotHeader:
        """The header of one run, with the number of VMs and vCPUs. Raises Busy, Replaced."""
        for _ in _attempts():
            header = self._run()
            if not _has(header, SnapshotFlag.BUSY):
                return header
        raise _busy()

    def read(self) -> Run:
        """One run. Raises Overflow, Busy, Replaced."""
        for _ in _attempts():
            header = self._run()
            if _has(header, SnapshotFlag.BUSY):
                continue
            self._check_room(header)
            vms, vcpus = self._records.take(header)
            if self._generations[header.slot] == header.generation:
                return Run(
                    header,
                    VmRecords(vms, stat_size=self._layout.vm_stat_size),
                    VcpuRecords(vcpus, stat_size=self._layout.vcpu_stat_size),
                )
        raise _busy()

    def _check_room(self, header: SnapshotHeader) -> None:
        if _has(header, SnapshotFlag.OVERFLOW):
            raise Overflow(header, self._layout)

    def _run(self) -> SnapshotHeader:
        self._records.free_slots()
        fd = self._open_iterator()
        try:
            header = os.read(fd, snapshot.HEADER_SIZE)
        finally:
            os.close(fd)
        if not header:
            raise Replaced("the iterator was detached")
        return snapshot.parse_header(header)


def _map(fd: int, size: int) -> mmap.mmap:
    return mmap.mmap(fd, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE, prot=mmap.PROT_READ)


def _has(header: SnapshotHeader, flag: SnapshotFlag) -> bool:
    return bool(header.flags) and flag in header.flags  # nearly every run has no flags, and enums are slow


def _busy() -> Busy:
    """The error if other readers hold all slots that this one may use, or overwrite each before it is copied."""
    return Busy(
        f"other readers kept the attached iterator busy for {_LONGEST_WAIT_S:g} s",
        remedy="as root: kvmscope attach --slots N, with a larger N",
    )


def _attempts() -> Iterator[None]:
    """A bounded number of attempts, with pauses in which other readers can finish."""
    yield
    deadline = time.monotonic() + _LONGEST_WAIT_S
    attempts = 1
    while attempts < _FEWEST_ATTEMPTS or time.monotonic() < deadline:
        time.sleep(random.uniform(0, _LONGEST_PAUSE_S))  # at random: readers in step would always collide
        yield
        attempts += 1
