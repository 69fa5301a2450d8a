"""Runs the iterator and copies what it left in memory. Knows nothing of what the words mean.

One run: open the iterator's file, read the header, copy the records of its slot, then look whether the slot still has
the header's generation; if another reader has taken it meanwhile, run again.
"""

from __future__ import annotations

import mmap
import os
import secrets
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from ...codec import snapshot
from ...codec.snapshot import (
    Feature,
    RecordBuffers,
    SnapshotFlag,
    SnapshotHeader,
    VcpuRecords,
    VmRecords,
    copy_records,
)
from ...errors import SourceError
from ..vm_ids import boot_key

_ATTEMPTS = 1000
_GROUP_APICV, _GROUP_APIC = 1, 2
_CHUNK = 64
"""vCPUs that the program reads before it checks them: CHUNK of kvmscope.bpf.c."""


_COUNTS = ("vm_counts", "vcpu_counts", "ga_log_counts")


class Overflow(SourceError):
    """The host has more VMs or vCPUs than the loaded program has room for."""

    def __init__(self, header: SnapshotHeader, layout: Layout) -> None:
        room = f"{layout.vm_room} VMs with {layout.vcpu_room} vCPUs"
        super().__init__(f"room for {room}, but {header.vms} with {header.vcpus} run here")
        self.vm_room, self.vcpu_room = layout.vm_room, layout.vcpu_room
        self.vms = header.vms
        self.vcpus = header.vcpus


@dataclass(frozen=True, slots=True)
class Layout:
    """How large the records of this kernel are, and how many fit. Sizes in bytes."""

    vm_stat_size: int
    vcpu_stat_size: int
    vm_room: int
    vcpu_room: int
    slots: int
    is_svm: bool = False
    """VMs are run by kvm_amd."""
    counts_apicv: bool = False
    """Group apicv: events are counted."""
    reads_apic: bool = False
    """Group apic: registers of local APICs are read."""

    @property
    def vm_size(self) -> int:
        return snapshot.VM_HEAD_SIZE + self.vm_stat_size + self.counts_apicv * 8 * snapshot.VM_EVENT_WORDS

    @property
    def vcpu_size(self) -> int:
        return snapshot.VCPU_HEAD_SIZE + self.vcpu_stat_size + self.counts_apicv * 8 * snapshot.VCPU_EVENT_WORDS

    @property
    def maps(self) -> dict[str, tuple[int | None, int]]:
        """(value_size, max_entries) of the maps that depend on kernel and host; None: as the object has it."""
        unused = {} if self.counts_apicv else dict.fromkeys(_COUNTS, (None, 1))
        return {
            **unused,
            "staged_vms": (self.vm_size, self.slots),
            "staged_vcpus": (self.vcpu_size, _CHUNK * self.slots),
            "vms": (self.vm_size, self.vm_room * self.slots),
            "vcpus": (self.vcpu_size, self.vcpu_room * self.slots),
        }

    @property
    def memory_bytes(self) -> int:
        """What the arrays hold in the kernel, used or not."""
        return sum((size or 0) * entries for size, entries in self.maps.values())

    def serves(self, wanted: Layout) -> bool:
        """Whether what was loaded so has records of the same shape, and room for at least as much."""
        roomy = replace(wanted, vm_room=self.vm_room, vcpu_room=self.vcpu_room)
        return self == roomy and self.vm_room >= wanted.vm_room and self.vcpu_room >= wanted.vcpu_room

    def constants(self) -> bytes:
        """The program's ``config``."""
        return boot_key() + struct.pack(
            "=8sIIIIIxxxx",
            secrets.token_bytes(8),
            self.slots,
            self.vm_room,
            self.vcpu_room,
            self.is_svm,
            _GROUP_APICV * self.counts_apicv | _GROUP_APIC * self.reads_apic,
        )


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of the iterator gave."""

    header: SnapshotHeader
    vms: VmRecords
    vcpus: VcpuRecords


class Arena:
    """The arrays of one loaded program, mapped read-only, and a way to run it."""

    def __init__(self, layout: Layout, fds: Mapping[str, int], open_iterator: Callable[[], int]) -> None:
        self._layout = layout
        self._open_iterator = open_iterator
        map_readonly = partial(mmap.mmap, prot=mmap.PROT_READ)
        self._control = map_readonly(fds["control"], mmap.PAGESIZE)
        self._vms = map_readonly(fds["vms"], _pages(layout.vm_size * layout.vm_room * layout.slots))
        self._vm_buffers, self._vcpu_buffers = RecordBuffers(), RecordBuffers()
        self._vcpus = map_readonly(fds["vcpus"], _pages(layout.vcpu_size * layout.vcpu_room * layout.slots))

    def close(self) -> None:
        for mapped in (self._control, self._vms, self._vcpus):
            mapped.close()

    def features(self) -> Feature:
        """What this kernel has to be read. Raises Overflow if the host has no room in the arrays."""
        header = self.header()
        if SnapshotFlag.OVERFLOW in header.flags:
            raise Overflow(header, self._layout)
        return header.features

    def header(self) -> SnapshotHeader:
        """Of one run: how many VMs and vCPUs there are, among others."""
        for _ in range(_ATTEMPTS):
            header = self._run()
            if SnapshotFlag.BUSY not in header.flags:
                return header
            os.sched_yield()
        raise _busy()

    def read(self) -> Run:
        """One run. Raises Overflow, or SourceError if other readers left no slot in a thousand attempts."""
        for _ in range(_ATTEMPTS):
            header = self._run()
            if SnapshotFlag.OVERFLOW in header.flags:
                raise Overflow(header, self._layout)
            if SnapshotFlag.BUSY not in header.flags:
                run = self._copy(header)
                if snapshot.parse_generation(self._control[: snapshot.CONTROL_SIZE], header.slot) == header.generation:
                    return run
            os.sched_yield()
        raise _busy()

    def _run(self) -> SnapshotHeader:
        fd = self._open_iterator()
        try:
            return snapshot.parse_header(os.read(fd, mmap.PAGESIZE))
        finally:
            os.close(fd)

    def _copy(self, header: SnapshotHeader) -> Run:
        layout, slot = self._layout, header.slot
        with memoryview(self._vms) as array:
            vms = copy_records(
                array,
                record_size=layout.vm_size,
                room=layout.vm_room,
                slot=slot,
                count=header.vms,
                buffers=self._vm_buffers,
            )
        with memoryview(self._vcpus) as array:
            vcpus = copy_records(
                array,
                record_size=layout.vcpu_size,
                room=layout.vcpu_room,
                slot=slot,
                count=header.vcpus,
                buffers=self._vcpu_buffers,
            )
        return Run(
            header,
            VmRecords(vms, stat_size=layout.vm_stat_size),
            VcpuRecords(vcpus, stat_size=layout.vcpu_stat_size),
        )


def _busy() -> SourceError:
    return SourceError("other readers keep all slots of the iterator busy", remedy="attach with more slots")


def _pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
