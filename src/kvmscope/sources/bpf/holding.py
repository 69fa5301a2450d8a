"""What a sample has of the arrays that runs of the iterator fill: a copy of its records, or the records where they are.

Rule: the words of a sample never change while somebody holds them. Where other processes run the iterator too, or
while all slots but one are in samples, that takes a copy. Otherwise a slot stays busy, by its word in `control`, for as
long as an array of its records is held, so no run writes to it. A child that is forked in that time may hold it for
longer than this process: what is held at a fork stays busy for good.
"""

from __future__ import annotations

import mmap
import os
import sys
from typing import Protocol
from weakref import WeakSet

import numpy as np

from ...codec import snapshot
from ...codec.records import RecordBuffers, copy_records, first_records
from ...codec.snapshot import SnapshotHeader
from ...sample import U64Array
from .layout import Layout


class HeldRecords(Protocol):
    """The arrays of one loaded program, as samples get them."""

    def free_slots(self) -> None:
        """Before a run: let it have the slots that no sample has any more."""

    def take(self, header: SnapshotHeader) -> tuple[U64Array, U64Array]:
        """Records of VMs and of vCPUs that this run has left. Raises FormatError."""

    def close(self) -> None:
        """Unmap the arrays, but for what samples have of them."""


class CopiedRecords:
    """For arrays that others have filled, too: every run is copied."""

    def __init__(self, layout: Layout, vms: mmap.mmap, vcpus: mmap.mmap) -> None:
        self._layout = layout
        self._vms, self._vcpus = vms, vcpus
        self._vm_buffers, self._vcpu_buffers = RecordBuffers(), RecordBuffers()

    def free_slots(self) -> None:
        """Whoever runs the iterator has any slot."""

    def take(self, header: SnapshotHeader) -> tuple[U64Array, U64Array]:
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
        return vms, vcpus

    def close(self) -> None:
        self._vms.close()
        self._vcpus.close()


class SharedRecords:
    """For arrays that only this process has filled: a run is copied only if it has filled the last free slot."""

    def __init__(self, layout: Layout, vms: mmap.mmap, vcpus: mmap.mmap, control: mmap.mmap) -> None:
        """``control``: mapped for writing."""
        self._copied: HeldRecords | None = CopiedRecords(layout, vms, vcpus)
        self._busy = snapshot.busy_words(memoryview(control))
        self._slots = [_Slot(layout, slot, vms, vcpus) for slot in range(layout.slots)]
        _SHARED.add(self)

    def free_slots(self) -> None:
        for number, slot in enumerate(self._slots):
            if slot.is_given and not slot.is_retired and not slot.is_held():
                slot.is_given = False
                self._busy[number] = 0

    def take(self, header: SnapshotHeader) -> tuple[U64Array, U64Array]:
        if not self._has_free_slot_besides(header.slot):
            assert self._copied is not None, "the arrays are closed"
            return self._copied.take(header)
        slot = self._slots[header.slot]
        self._busy[header.slot] = 1
        slot.is_given = True
        return first_records(slot.vms, header.vms), first_records(slot.vcpus, header.vcpus)

    def _has_free_slot_besides(self, number: int) -> bool:
        for other, slot in enumerate(self._slots):  # noqa: SIM110 - any() over a generator takes twice as long
            if other != number and not slot.is_given:
                return True
        return False

    def close(self) -> None:
        """The arrays are unmapped when the last view of them is gone; this drops all but those of samples."""
        _SHARED.discard(self)
        self._busy.release()
        self._slots.clear()
        self._copied = None

    def retire_held(self) -> None:
        """Never again have a run fill a slot that is in a sample now."""
        for slot in self._slots:
            slot.is_retired = slot.is_retired or (slot.is_given and slot.is_held())


class _Slot:
    """The records of one slot.

    numpy has every view refer to the array that was made first of the memory, so its references show whether any view
    of it is held.
    """

    def __init__(self, layout: Layout, number: int, vms: mmap.mmap, vcpus: mmap.mmap) -> None:
        self._all_vms = _words(vms, layout.vm_size * layout.vm_room, number)
        self._all_vcpus = _words(vcpus, layout.vcpu_size * layout.vcpu_room, number)
        self.vms = self._all_vms.reshape(layout.vm_room, -1)
        self.vcpus = self._all_vcpus.reshape(layout.vcpu_room, -1)
        self.is_given = False
        """Some sample got it, and it is busy."""
        self.is_retired = False
        """It stays busy for good."""
        self._references = self._count_references()

    def is_held(self) -> bool:
        return self._count_references() != self._references

    def _count_references(self) -> int:
        return sys.getrefcount(self._all_vms) + sys.getrefcount(self._all_vcpus)


def _words(array: mmap.mmap, size: int, slot: int) -> U64Array:
    return np.frombuffer(array, np.uint64, size // 8, slot * size)


_SHARED: WeakSet[SharedRecords] = WeakSet()


def _retire_held() -> None:
    for records in _SHARED:
        records.retire_held()


os.register_at_fork(before=_retire_held)
