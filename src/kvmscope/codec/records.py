"""Records of VMs and vCPUs from one run of the BPF iterator, as columns.

The other side of ``struct vm_record`` and ``struct vcpu_record`` in sources/bpf/snapshot.h. Pure: the caller maps the
arrays. Rule: records are not moved; stats and states are views of them, identities are copied once per change. An array
that is too small for its records is a FormatError.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

import numpy as np

from ..errors import FormatError
from ..sample import I64Array, U64Array
from .snapshot import (
    VCPU_IDENTITY_SIZE,
    VCPU_SCHED_WORDS,
    VM_IDENTITY_SIZE,
    VM_OWN_WORDS,
    VM_QUOTA_WORDS,
    VM_SCHED_WORDS,
    VM_SETTINGS_WORDS,
)


def _columns(*sizes: int) -> Iterator[tuple[slice, slice]]:
    """The indices of groups of words, from the first word of each record. Making them in each read would take as long
    as using them."""
    first = 0
    for size in sizes:
        yield np.s_[:, first : first + size]
        first += size


_VM_IDENTITY, _VM_SETTINGS, _VM_SCHED, _VM_QUOTA = _columns(
    VM_IDENTITY_SIZE // 8, VM_SETTINGS_WORDS, VM_SCHED_WORDS, VM_QUOTA_WORDS
)
_VCPU_IDENTITY, _VCPU_SCHED = _columns(VCPU_IDENTITY_SIZE // 8, VCPU_SCHED_WORDS)


class RecordBuffers:
    """Memory for copies, reused once no array of it is referenced: fresh pages would cost more than the copying."""

    _MOST = 4  # a watch holds the samples of an interval, and sometimes those of the previous one

    def __init__(self) -> None:
        self._buffers: list[U64Array] = []

    def take(self, words: int) -> U64Array:
        """An array of this many uninitialised words. It is not shared until it is dropped."""
        self._buffers = [buffer for buffer in self._buffers if words <= len(buffer) <= 2 * words + _SLACK]
        for buffer in self._buffers:
            # In numpy, every view refers to the array that owns the memory. Three references: list, loop, call.
            if sys.getrefcount(buffer) == _HELD_HERE_ALONE:
                return buffer[:words]
        fresh = np.empty(words + words // 8, dtype=np.uint64)
        if len(self._buffers) < self._MOST:
            self._buffers.append(fresh)
        return fresh[:words]


_SLACK = 4096
_HELD_HERE_ALONE = 3


class Records:
    """Records of one array: shape (n, words) u64, heads included."""

    _identity_columns: ClassVar[tuple[slice, slice]]
    _first_of_apicv: ClassVar[int]
    """Number of words before those of ``apicv``."""

    def __init__(self, words: U64Array, *, stat_size: int) -> None:
        self._words = words
        stats = words.shape[1] - stat_size // 8
        self._stats = np.s_[:, stats:]
        self._apicv = np.s_[:, self._first_of_apicv : stats]

    def __len__(self) -> int:
        return len(self._words)

    @property
    def apicv(self) -> U64Array:
        """State and, with the group, counts, as in ``codec.apicv``: shape (n, words), a view."""
        return self._words[self._apicv]

    @property
    def stats(self) -> U64Array:
        """The kernel's stat structure: shape (n, words), a view."""
        return self._words[self._stats]

    def identities(self) -> bytes:
        """The identities of the subjects: equal bytes mean equal columns, including ``flags``."""
        return self._words[self._identity_columns].tobytes()

    @cached_property
    def _identity(self) -> U64Array:
        """The identities as a contiguous copy, so reading a column of them does not touch all records."""
        return np.ascontiguousarray(self._words[self._identity_columns])

    def _u32(self, offset: int) -> I64Array:
        return self._identity.view(np.uint32)[:, offset // 4].astype(np.int64)

    def _i32(self, offset: int) -> I64Array:
        return self._identity.view(np.int32)[:, offset // 4].astype(np.int64)


class VmRecords(Records):
    """Records of ``struct vm_record``."""

    _identity_columns = _VM_IDENTITY
    _first_of_apicv = VM_IDENTITY_SIZE // 8 + VM_OWN_WORDS

    @property
    def settings(self) -> U64Array:
        """The VMM's configuration of KVM, as in ``codec.settings``: shape (n, words), a view."""
        return self._words[_VM_SETTINGS]

    @property
    def sched(self) -> U64Array:
        """The scheduler's counts for the VMM, as in ``codec.sched``: shape (n, words), a view. Valid only where
        ``flags`` has HAS_SCHED."""
        return self._words[_VM_SCHED]

    @property
    def quota(self) -> U64Array:
        """CPU quotas of the vCPU threads, as in ``codec.cgroup``: shape (n, words), a view. Valid only where ``flags``
        has HAS_QUOTA."""
        return self._words[_VM_QUOTA]

    @property
    def id(self) -> U64Array:
        return self._identity[:, 0].copy()

    @property
    def created_ns(self) -> I64Array:
        """CLOCK_REALTIME. Valid only where ``flags`` has HAS_CREATED."""
        return self._identity[:, 1].astype(np.int64)

    @property
    def pid(self) -> I64Array:
        """Process id; 0: not visible to the reader."""
        return self._i32(16)

    @property
    def vcpus(self) -> I64Array:
        return self._u32(24)

    @property
    def flags(self) -> I64Array:
        return self._u32(28)


class VcpuRecords(Records):
    """Records of ``struct vcpu_record``."""

    _identity_columns = _VCPU_IDENTITY
    _first_of_apicv = VCPU_IDENTITY_SIZE // 8 + VCPU_SCHED_WORDS

    @property
    def sched(self) -> U64Array:
        """The scheduler's counts, as in ``codec.sched``: shape (n, words), a view. Valid only where ``flags`` has
        HAS_SCHED."""
        return self._words[_VCPU_SCHED]

    @property
    def vm(self) -> I64Array:
        """Row in the VM records."""
        return self._u32(0)

    @property
    def id(self) -> I64Array:
        return self._u32(4)

    @property
    def tid(self) -> I64Array:
        """Thread id; 0: it never ran, or is not visible to the reader."""
        return self._i32(8)

    @property
    def flags(self) -> I64Array:
        return self._u32(12)


def copy_records(
    array: memoryview, *, record_size: int, room: int, slot: int, count: int, buffers: RecordBuffers
) -> U64Array:
    """The first ``count`` records of one slot, copied to a buffer: shape (count, record_size / 8).

    Raises FormatError if the array is too small to hold them.
    """
    end = (slot * room + count) * record_size
    if count > room or end > len(array):
        raise FormatError("snapshot records", offset=len(array), expected=f"{count} of room {room}", got="fewer")
    first = slot * room * record_size
    words = np.frombuffer(array, np.uint64, count * record_size // 8, first)
    copied = buffers.take(len(words))
    copied[:] = words
    return copied.reshape(count, record_size // 8)


def words_of_rows(words: U64Array, rows: I64Array) -> U64Array:
    """The words of these rows: a view if these are all rows or none, else a copy."""
    if len(rows) == len(words):
        return words
    return words[rows] if len(rows) else words[:0]


def first_records(slot: U64Array, count: int) -> U64Array:
    """As ``copy_records``, but a view of a slot that is given as an array of its records. Raises FormatError."""
    if count > len(slot):
        raise FormatError("snapshot records", offset=slot.nbytes, expected=f"{count} of room {len(slot)}", got="fewer")
    return slot[:count]
