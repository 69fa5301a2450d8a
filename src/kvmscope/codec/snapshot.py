"""The snapshot format: what one run of the BPF iterator leaves in memory, as columns.

The other side of sources/bpf/snapshot.h, which has the meaning of every field. Pure: the caller maps the arrays.
Rule: records stay as they stand; stats and states are views of them, identities are copied once per change. A version,
magic or size that is not the expected one is a FormatError.
"""

from __future__ import annotations

import struct
import sys
from enum import IntFlag
from functools import cached_property, lru_cache
from typing import ClassVar, NamedTuple

import numpy as np

from ..errors import FormatError
from ..sample import I64Array, U64Array

MAGIC = 0x706F63736D766B
VERSION = 7
MAX_SLOTS = 5

_HEADER = struct.Struct("=QIIQQIIIIIxxxxQ")
_CONTROL = struct.Struct(f"={MAX_SLOTS}Q{MAX_SLOTS}I")
INHIBIT_BITS = 32
VM_SETTINGS_WORDS = 5
VM_SCHED_WORDS = 9
VM_QUOTA_WORDS = 6
VM_APICV_WORDS = INHIBIT_BITS + 7
VCPU_SCHED_WORDS = 3
VCPU_APICV_WORDS = 8
VM_EVENT_WORDS = 3 * INHIBIT_BITS + 1
VCPU_EVENT_WORDS = 25
_VM_IDENTITY, _VCPU_IDENTITY = 32, 16
_VM_OWN_WORDS = VM_SETTINGS_WORDS + VM_SCHED_WORDS + VM_QUOTA_WORDS
VM_HEAD_SIZE = _VM_IDENTITY + 8 * (_VM_OWN_WORDS + VM_APICV_WORDS)
VCPU_HEAD_SIZE = _VCPU_IDENTITY + 8 * (VCPU_SCHED_WORDS + VCPU_APICV_WORDS)
HEADER_SIZE = _HEADER.size
CONTROL_SIZE = _CONTROL.size


class SnapshotFlag(IntFlag):
    """State of a whole run."""

    BUSY = 1
    OVERFLOW = 2
    UNFINISHED = 4


class Feature(IntFlag):
    """What this kernel has to be read; the same for all of its VMs."""

    APICV = 1
    SYNIC = 2
    SEV = 4
    HLT_EXITS = 8
    HALT_POLL_CAP = 16
    HALT_POLL_CAP_SET = 32
    SCHED_INFO = 64
    CPU_QUOTA = 128
    DIRTY_LOG = 256


HAS_EVENTS = 2
"""Flag of either record: the words of the opt-in group were written."""

HAS_CREATED = 1
"""Flag of a VM's record: ``created_ns`` was read."""

HAS_APIC = 1
"""Flag of a vCPU's record: it has an in-kernel local APIC."""

HAS_SCHED = 4
"""Flag of either record: the thread that last ran the vCPU was there to be read; all threads of the VM's process were,
and it has no other VM."""

HAS_QUOTA = 8
"""Flag of a VM's record: some vCPU of it has a thread, whose cgroups were looked at."""


class SnapshotHeader(NamedTuple):
    """What the iterator's file says of its run; ``boot_ns`` is CLOCK_BOOTTIME when it began,
    ``inhibits`` has the bits that are set in some VM's inhibit word.

    A tuple, as one is made in each read and a dataclass takes three times as long to make.
    """

    flags: SnapshotFlag
    generation: int
    boot_ns: int
    slot: int
    vms: int
    vcpus: int
    vanished: int
    features: Feature
    inhibits: int


def parse_header(data: bytes) -> SnapshotHeader:
    """The header of a run. Raises FormatError if it is short, foreign, or of another version."""
    if len(data) != HEADER_SIZE:
        raise FormatError("snapshot header", offset=0, expected=f"{HEADER_SIZE} bytes", got=f"{len(data)}")
    magic, version, flags, generation, boot_ns, slot, vms, vcpus, vanished, features, inhibits = _HEADER.unpack(data)
    if magic != MAGIC:
        raise FormatError("snapshot magic", offset=0, expected=f"{MAGIC:#x}", got=f"{magic:#x}")
    if version != VERSION:
        raise FormatError("snapshot version", offset=8, expected=str(VERSION), got=str(version))
    if slot >= MAX_SLOTS:
        raise FormatError("snapshot slot", offset=32, expected=f"less than {MAX_SLOTS}", got=str(slot))
    return SnapshotHeader(
        _flags_of(flags), generation, boot_ns, slot, vms, vcpus, vanished, _features_of(features), inhibits
    )


_flags_of = lru_cache(maxsize=64)(SnapshotFlag)  # an enum looks a combination up in Python code
_features_of = lru_cache(maxsize=64)(Feature)


def parse_generation(control: bytes, slot: int) -> int:
    """The generation that a slot has now; if it is not the header's, its records are being overwritten.

    Raises FormatError if these are not the bytes of a ``control``.
    """
    if len(control) != CONTROL_SIZE:
        raise FormatError("snapshot control", offset=0, expected=f"{CONTROL_SIZE} bytes", got=f"{len(control)}")
    if not 0 <= slot < MAX_SLOTS:
        raise FormatError("snapshot slot", offset=32, expected=f"less than {MAX_SLOTS}", got=str(slot))
    return int(_CONTROL.unpack(control)[slot])


def busy_words(control: memoryview) -> memoryview:
    """Of each slot whether no run may fill it, to be read and written."""
    first = 8 * MAX_SLOTS
    return control[first:CONTROL_SIZE].cast("I")


class RecordBuffers:
    """Memory for copies, used again once nobody holds an array of it: fresh pages would cost more than the copying."""

    _MOST = 4  # a watch holds the samples of an interval, and sometimes those of the one before

    def __init__(self) -> None:
        self._buffers: list[U64Array] = []

    def take(self, words: int) -> U64Array:
        """An array of so many words, whatever they are; nobody else has it until it is dropped."""
        self._buffers = [buffer for buffer in self._buffers if words <= len(buffer) <= 2 * words + _SLACK]
        for buffer in self._buffers:
            # numpy has every view refer to the array that owns the memory. Three are the list, the loop and the call.
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

    _identity_size: ClassVar[int]
    _own_words: ClassVar[int]
    """Between the identity and the words of ``apicv``."""

    def __init__(self, words: U64Array, *, stat_size: int) -> None:
        self._words = words
        self._stats = words.shape[1] - stat_size // 8

    def __len__(self) -> int:
        return len(self._words)

    @property
    def apicv(self) -> U64Array:
        """Shape (n, words): state and, with the group, counts as ``codec.apicv`` describes them, a view."""
        return self._words[:, self._identity_size // 8 + self._own_words : self._stats]

    @property
    def stats(self) -> U64Array:
        """Shape (n, words of the kernel's stat structure), a view."""
        return self._words[:, self._stats :]

    def identities(self) -> bytes:
        """Who the subjects are and what their records have: equal bytes have equal columns, ``flags`` among them."""
        return self._words[:, : self._identity_size // 8].tobytes()

    @cached_property
    def _identity(self) -> U64Array:
        """The identities in one piece: a column of them then costs no walk over all records."""
        return np.ascontiguousarray(self._words[:, : self._identity_size // 8])

    def _u32(self, offset: int) -> I64Array:
        return self._identity.view(np.uint32)[:, offset // 4].astype(np.int64)

    def _i32(self, offset: int) -> I64Array:
        return self._identity.view(np.int32)[:, offset // 4].astype(np.int64)


class VmRecords(Records):
    """Records of ``struct vm_record``."""

    _identity_size = _VM_IDENTITY
    _own_words = _VM_OWN_WORDS

    @property
    def settings(self) -> U64Array:
        """Shape (n, words): what the VMM has told KVM, as ``codec.settings`` describes it, a view."""
        first = _VM_IDENTITY // 8
        return self._words[:, first : first + VM_SETTINGS_WORDS]

    @property
    def sched(self) -> U64Array:
        """Shape (n, words): what the scheduler has counted for the VMM, as ``codec.sched`` describes it, a view. Only
        where ``flags`` has HAS_SCHED."""
        first = _VM_IDENTITY // 8 + VM_SETTINGS_WORDS
        return self._words[:, first : first + VM_SCHED_WORDS]

    @property
    def quota(self) -> U64Array:
        """Shape (n, words): CPU quotas of its vCPU threads, as ``codec.cgroup`` describes them, a view. Only where
        ``flags`` has HAS_QUOTA."""
        first = _VM_IDENTITY // 8 + VM_SETTINGS_WORDS + VM_SCHED_WORDS
        return self._words[:, first : first + VM_QUOTA_WORDS]

    @property
    def id(self) -> U64Array:
        return self._identity[:, 0].copy()

    @property
    def created_ns(self) -> I64Array:
        """CLOCK_REALTIME; only where ``flags`` has HAS_CREATED."""
        return self._identity[:, 1].astype(np.int64)

    @property
    def pid(self) -> I64Array:
        """0: not visible to the reader."""
        return self._i32(16)

    @property
    def vcpus(self) -> I64Array:
        return self._u32(24)

    @property
    def flags(self) -> I64Array:
        return self._u32(28)


class VcpuRecords(Records):
    """Records of ``struct vcpu_record``."""

    _identity_size = _VCPU_IDENTITY
    _own_words = VCPU_SCHED_WORDS

    @property
    def sched(self) -> U64Array:
        """Shape (n, words): what the scheduler has counted, as ``codec.sched`` describes it, a view. Only where
        ``flags`` has HAS_SCHED."""
        first = _VCPU_IDENTITY // 8
        return self._words[:, first : first + VCPU_SCHED_WORDS]

    @property
    def vm(self) -> I64Array:
        """Row in the VM records."""
        return self._u32(0)

    @property
    def id(self) -> I64Array:
        return self._u32(4)

    @property
    def tid(self) -> I64Array:
        """0: it never ran, or not visible to the reader."""
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


def first_records(slot: U64Array, count: int) -> U64Array:
    """The same of a slot that is given as an array of its records, and not copied. Raises FormatError."""
    if count > len(slot):
        raise FormatError("snapshot records", offset=slot.nbytes, expected=f"{count} of room {len(slot)}", got="fewer")
    return slot[:count]
