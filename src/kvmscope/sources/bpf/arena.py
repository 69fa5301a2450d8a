"""Runs the iterator and reads what it left in memory. Knows nothing of what the words mean.

One run: open the iterator's file, read the header, take the records of its slot, then look whether the slot still has
the header's generation; if another reader has filled it meanwhile, run again.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ...codec import snapshot
from ...codec.snapshot import Feature, SnapshotFlag, SnapshotHeader, VcpuRecords, VmRecords
from ...errors import SourceError
from .holding import CopiedRecords, HeldRecords, SharedRecords
from .layout import Layout

_ATTEMPTS = 1000


class Overflow(SourceError):
    """The host has more VMs or vCPUs than the loaded program has room for."""

    def __init__(self, header: SnapshotHeader, layout: Layout) -> None:
        room = f"{layout.vm_room} VMs with {layout.vcpu_room} vCPUs"
        super().__init__(f"room for {room}, but {header.vms} with {header.vcpus} run here")
        self.vm_room, self.vcpu_room = layout.vm_room, layout.vcpu_room
        self.vms = header.vms
        self.vcpus = header.vcpus


class Run(NamedTuple):
    """What one run of the iterator gave."""

    header: SnapshotHeader
    vms: VmRecords
    vcpus: VcpuRecords


class Arena:
    """The arrays of one loaded program, mapped, and a way to run it."""

    def __init__(
        self, layout: Layout, fds: Mapping[str, int], open_iterator: Callable[[], int], *, is_own: bool = False
    ) -> None:
        """``is_own``: this process alone runs the program, and nobody has frozen its arrays."""
        self._layout = layout
        self._open_iterator = open_iterator
        self._control = mmap.mmap(
            fds["control"], mmap.PAGESIZE, prot=mmap.PROT_READ | (mmap.PROT_WRITE if is_own else 0)
        )
        vms = _map(fds["vms"], layout.vm_size * layout.vm_room * layout.slots)
        vcpus = _map(fds["vcpus"], layout.vcpu_size * layout.vcpu_room * layout.slots)
        self._records: HeldRecords = (
            SharedRecords(layout, vms, vcpus, self._control) if is_own else CopiedRecords(layout, vms, vcpus)
        )

    def close(self) -> None:
        """What samples have of the arrays stays mapped until they go."""
        self._records.close()
        self._control.close()

    def features(self) -> Feature:
        """What this kernel has to be read. Raises Overflow if the host has no room in the arrays."""
        header = self.header()
        self._check_room(header)
        return header.features

    def header(self) -> SnapshotHeader:
        """Of one run: how many VMs and vCPUs there are, among others."""
        for _ in range(_ATTEMPTS):
            header = self._run()
            if not _has(header, SnapshotFlag.BUSY):
                return header
            os.sched_yield()
        raise _busy()

    def read(self) -> Run:
        """One run. Raises Overflow, or SourceError if other readers left no slot in a thousand attempts."""
        for _ in range(_ATTEMPTS):
            header = self.header()
            self._check_room(header)
            vms, vcpus = self._records.take(header)
            if snapshot.parse_generation(self._control[: snapshot.CONTROL_SIZE], header.slot) == header.generation:
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
            return snapshot.parse_header(os.read(fd, snapshot.HEADER_SIZE))
        finally:
            os.close(fd)


def _map(fd: int, size: int) -> mmap.mmap:
    return mmap.mmap(fd, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE, prot=mmap.PROT_READ)


def _has(header: SnapshotHeader, flag: SnapshotFlag) -> bool:
    return bool(header.flags) and flag in header.flags  # there are none in nearly every run, and enums are slow


def _busy() -> SourceError:
    return SourceError("other readers keep all slots of the iterator busy", remedy="attach with more slots")
