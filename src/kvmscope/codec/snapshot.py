"""The snapshot format: the sizes of the records of a run of the BPF iterator, and the header of the run.

The other side of sources/bpf/snapshot.h, which has the meaning of every field; the records are in ``records``. Pure.
Rule: an unexpected version, magic or size is a FormatError. Nothing here needs numpy: the iterator is loaded with this
module while numpy is still loading (see ``sources.bpf.loading``).
"""

from __future__ import annotations

import struct
from enum import IntFlag
from functools import lru_cache
from typing import NamedTuple

from ..errors import FormatError

MAGIC = 0x706F63736D766B
VERSION = 7
MAX_SLOTS = 5

_HEADER = struct.Struct("=QIIQQIIIIIxxxxQ")
INHIBIT_BITS = 32
VM_SETTINGS_WORDS = 5
VM_SCHED_WORDS = 9
VM_QUOTA_WORDS = 6
VM_APICV_WORDS = INHIBIT_BITS + 7
VCPU_SCHED_WORDS = 3
VCPU_APICV_WORDS = 8
VM_EVENT_WORDS = 3 * INHIBIT_BITS + 1
VCPU_EVENT_WORDS = 25
VM_IDENTITY_SIZE, VCPU_IDENTITY_SIZE = 32, 16
VM_OWN_WORDS = VM_SETTINGS_WORDS + VM_SCHED_WORDS + VM_QUOTA_WORDS
VM_HEAD_SIZE = VM_IDENTITY_SIZE + 8 * (VM_OWN_WORDS + VM_APICV_WORDS)
VCPU_HEAD_SIZE = VCPU_IDENTITY_SIZE + 8 * (VCPU_SCHED_WORDS + VCPU_APICV_WORDS)
HEADER_SIZE = _HEADER.size
_BUSY_AT = 8 * MAX_SLOTS
CONTROL_SIZE = _BUSY_AT + 4 * MAX_SLOTS


class SnapshotFlag(IntFlag):
    """The state of a whole run."""

    BUSY = 1
    OVERFLOW = 2
    UNFINISHED = 4


class Feature(IntFlag):
    """The data that this kernel has; the same for all of its VMs."""

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
"""Flag of either record. vCPU: the thread that last ran it could be read. VM: all threads of its process could be read,
and the process has no other VM."""

HAS_QUOTA = 8
"""Flag of a VM's record: at least one of its vCPUs has a thread, whose cgroups were read."""


class SnapshotHeader(NamedTuple):
    """The header of a run in the iterator's file. ``boot_ns``: CLOCK_BOOTTIME when the run began. ``inhibits``: bits
    that are set in any VM's inhibit word.

    A tuple, since each read makes one and a dataclass takes three times as long.
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
    """The header of a run. Raises FormatError if it is too short, not a snapshot, or of another version."""
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


_flags_of = lru_cache(maxsize=64)(SnapshotFlag)  # an enum looks up combinations in Python code
_features_of = lru_cache(maxsize=64)(Feature)


def generations(control: memoryview) -> memoryview:
    """The current generation of each slot; if it differs from the header's, records of that slot are being
    overwritten."""
    return control[:_BUSY_AT].cast("Q")


def busy_words(control: memoryview) -> memoryview:
    """For each slot, a writable word: whether runs must not fill it."""
    return control[_BUSY_AT:CONTROL_SIZE].cast("I")
