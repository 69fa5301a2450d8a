"""A sample's words never change while somebody holds them, whether its records are copied or stay where they are.

The arrays are of anonymous memory, and the test fills them as runs of the iterator would: a slot whose busy word is 0.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager

import numpy as np
import pytest

from kvmscope.codec import snapshot
from kvmscope.codec.snapshot import Feature, SnapshotFlag, SnapshotHeader
from kvmscope.errors import FormatError
from kvmscope.sample import U64Array
from kvmscope.sources.bpf.holding import CopiedRecords, HeldRecords, SharedRecords
from kvmscope.sources.bpf.layout import Layout

VMS, VCPUS = 3, 5


class SlotFiller:
    """Fills slots as the iterator does, each time with another number."""

    def __init__(self, *, slots: int, shared: bool = True) -> None:
        self.layout = Layout(16, 24, VMS, VCPUS, slots)
        self._vms = mmap.mmap(-1, self.layout.vm_size * VMS * slots)
        self._vcpus = mmap.mmap(-1, self.layout.vcpu_size * VCPUS * slots)
        self.control = mmap.mmap(-1, mmap.PAGESIZE)
        self.records: HeldRecords = (
            SharedRecords(self.layout, self._vms, self._vcpus, self.control)
            if shared
            else CopiedRecords(self.layout, self._vms, self._vcpus)
        )
        self.runs = 0

    def busy(self) -> list[int]:
        return snapshot.busy_words(memoryview(self.control)).tolist()

    def read(self, *, vms: int = VMS, vcpus: int = VCPUS) -> tuple[U64Array, U64Array]:
        """What a sample would have of one run, all of its words the number of the run."""
        self.records.free_slots()
        slot = self.busy().index(0)
        assert slot < self.layout.slots, "no slot is free"
        self.runs += 1
        for array, size in ((self._vms, self.layout.vm_size * VMS), (self._vcpus, self.layout.vcpu_size * VCPUS)):
            np.frombuffer(array, np.uint64)[slot * size // 8 : (slot + 1) * size // 8] = self.runs
        return self.records.take(header(slot, vms, vcpus))

    def close(self) -> None:
        self.records.close()
        self.control.close()


def header(slot: int, vms: int, vcpus: int) -> SnapshotHeader:
    return SnapshotHeader(SnapshotFlag(0), 1, 0, slot, vms, vcpus, 0, Feature(0), 0)


@contextmanager
def program(*, slots: int, shared: bool = True) -> Iterator[SlotFiller]:
    with closing(SlotFiller(slots=slots, shared=shared)) as made:
        yield made


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("slots", [1, 2, 4])
@pytest.mark.parametrize("kept", [0, 1, 2, 7])
def test_what_is_held_never_changes(shared: bool, slots: int, kept: int) -> None:
    with program(slots=slots, shared=shared) as running:
        held: list[tuple[int, tuple[U64Array, U64Array]]] = []
        for _ in range(20):
            records = running.read()
            held.append((running.runs, records))
            del records
            held = held[-kept:] if kept else []
            for run, (vms, vcpus) in held:
                assert set(vms.ravel().tolist()) == set(vcpus.ravel().tolist()) == {run}


@pytest.mark.parametrize("part", ["vms", "vcpus", "column", "word"])
def test_any_view_of_a_part_holds_the_slot(part: str) -> None:
    with program(slots=2) as running:
        vms, vcpus = running.read()
        kept = {"vms": vms, "vcpus": vcpus, "column": vcpus[1:, 3], "word": vms[2:3, :1].reshape(-1)}[part]
        del vms, vcpus
        for _ in range(5):
            running.read()
        assert set(kept.ravel().tolist()) == {1}


def test_nothing_is_copied_while_only_the_last_is_held() -> None:
    with program(slots=2) as running:
        first = running.read()
        address = first[1].ctypes.data
        del first
        again = running.read()
        assert again[1].ctypes.data == address, "the slot is filled again"
        assert running.busy()[:2] == [1, 0]


def test_the_last_free_slot_is_copied_and_filled_again() -> None:
    with program(slots=2) as running:
        first = running.read()
        assert running.busy()[:2] == [1, 0]
        second, third = running.read(), running.read()
        assert running.busy()[:2] == [1, 0], "the second slot is never in a sample while the first is"
        assert [set(vms.ravel().tolist()) for vms, _ in (first, second, third)] == [{1}, {2}, {3}]


def test_a_slot_is_free_once_nobody_holds_it() -> None:
    with program(slots=3) as running:
        held = [running.read(), running.read()]
        assert running.busy()[:3] == [1, 1, 0]
        del held[0]
        running.records.free_slots()
        assert running.busy()[:3] == [0, 1, 0]


def test_what_is_held_at_a_fork_is_never_filled_again() -> None:
    with program(slots=2) as running:
        vms, _vcpus = running.read()
        told, tell = os.pipe()
        answer, say = os.pipe()
        child = os.fork()
        if not child:
            os.read(told, 1)
            os.write(say, vms.tobytes())
            os._exit(0)
        expected = vms.tobytes()
        del vms, _vcpus
        for _ in range(5):
            running.read()
        os.write(tell, b"1")
        assert os.read(answer, 1 << 16) == expected
        os.waitpid(child, 0)
        for fd in (told, tell, answer, say):
            os.close(fd)
        assert running.busy()[:2] == [1, 0]


def test_what_is_held_outlives_the_program_that_is_closed_twice() -> None:
    with program(slots=2) as running:
        vms, vcpus = running.read()
        running.close()
    assert set(vms.ravel().tolist()) == set(vcpus.ravel().tolist()) == {1}


@pytest.mark.parametrize("shared", [False, True])
def test_more_records_than_a_slot_has_room_for_are_a_format_error(shared: bool) -> None:
    with program(slots=2, shared=shared) as running, pytest.raises(FormatError):
        running.read(vcpus=VCPUS + 1)
