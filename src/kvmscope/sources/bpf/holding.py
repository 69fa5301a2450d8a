"""The records of a sample, from the arrays that runs of the iterator fill: a copy, or views of the arrays.

Rule: the words of a sample never change while it is referenced. If other processes run the iterator too, or all slots
but one are in use by samples, this needs a copy. Otherwise a slot stays busy, by its word in `control`, as long as an
array of its records is referenced, so no run writes to it. A child forked in that time may hold the array for longer
than this process, so slots in use at a fork stay busy for good.
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
    """The arrays of one loaded program, as a supplier of records for samples."""

    def free_slots(self) -> None:
        """Release the slots that no sample uses any more, before a run."""

    def take(self, header: SnapshotHeader) -> tuple[U64Array, U64Array]:
        """The records of VMs and of vCPUs of the run with this header. Raises FormatError."""

    def close(self) -> None:
        """Unmap the arrays, except those that samples refer to."""


class CopiedRecords:
    """For arrays that other processes fill too: every run is copied."""

    def __init__(self, layout: Layout, vms: mmap.mmap, vcpus: mmap.mmap) -> None:
        self._layout = layout
        self._vms, self._vcpus = vms, vcpus
        self._vm_buffers, self._vcpu_buffers = RecordBuffers(), RecordBuffers()

    def free_slots(self) -> None:
        """Nothing to do: no slot is kept busy."""

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
    """For arrays that only this process fills: a run is copied only if it filled the last free slot."""

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
        """Drop all views but those of samples; the arrays are unmapped when the last view is gone."""
        _SHARED.discard(self)
        self._busy.release()
        self._slots.clear()
        self._copied = None

    def retire_held(self) -> None:
        """Keep slots that are in a sample now from being filled ever again."""
        for slot in self._slots:
            slot.is_retired = slot.is_retired or (slot.is_given and slot.is_held())


class _Slot:
    """The records of one slot.

    Every numpy view refers to the array that was made first of the memory, so its reference count shows whether any
    view exists.
    """

    def __init__(self, layout: Layout, number: int, vms: mmap.mmap, vcpus: mmap.mmap) -> None:
        self._all_vms = _words(vms, layout.vm_size * layout.vm_room, number)
        self._all_vcpus = _words(vcpus, layout.vcpu_size * layout.vcpu_room, number)
        self.vms = self._all_vms.reshape(layout.vm_room, -1)
        self.vcpus = self._all_vcpus.reshape(layout.vcpu_room, -1)
        self.is_given = False
        """A sample uses it, and it is busy."""
        self.is_retired = False
        """It stays busy permanently."""
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
