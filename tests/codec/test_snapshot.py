"""The snapshot format: headers and records as the BPF program writes them, and bytes that it would not write.

That the two sides agree is shown on real guests in tests/live/test_bpf.py; here are the rules of the Python side.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.codec import snapshot
from kvmscope.codec.records import RecordBuffers, VcpuRecords, VmRecords, copy_records
from kvmscope.codec.snapshot import (
    CONTROL_SIZE,
    HAS_APIC,
    HAS_CREATED,
    HEADER_SIZE,
    MAGIC,
    MAX_SLOTS,
    VCPU_HEAD_SIZE,
    VCPU_SCHED_WORDS,
    VERSION,
    VM_HEAD_SIZE,
    VM_QUOTA_WORDS,
    VM_SCHED_WORDS,
    VM_SETTINGS_WORDS,
    SnapshotFlag,
    busy_words,
    generations,
    parse_header,
)
from kvmscope.errors import FormatError
from kvmscope.sample import U64Array

# struct snapshot up to `vanished`; what comes behind it differs from version to version.
_FIRST = struct.Struct("=QIIQQIIII")
_SLOT_AT = 32

HEADER_FILE = Path(snapshot.__file__).parent.parent / "sources/bpf/snapshot.h"


def header(
    *, magic: int = MAGIC, version: int = VERSION, flags: int = 0, slot: int = 0, vms: int = 0, vcpus: int = 0
) -> bytes:
    return _FIRST.pack(magic, version, flags, 77, 88, slot, vms, vcpus, 3).ljust(HEADER_SIZE, b"\0")


def test_every_field_of_a_header_is_read() -> None:
    parsed = parse_header(header(flags=SnapshotFlag.OVERFLOW | SnapshotFlag.UNFINISHED, slot=1, vms=5, vcpus=9))
    assert parsed.flags == SnapshotFlag.OVERFLOW | SnapshotFlag.UNFINISHED
    assert SnapshotFlag.BUSY not in parsed.flags
    assert (parsed.generation, parsed.boot_ns, parsed.slot) == (77, 88, 1)
    assert (parsed.vms, parsed.vcpus, parsed.vanished) == (5, 9, 3)


def test_a_flag_that_a_later_program_sets_is_no_error() -> None:
    assert SnapshotFlag.BUSY not in parse_header(header(flags=1 << 31)).flags


@pytest.mark.parametrize("size", [0, 1, HEADER_SIZE - 1, HEADER_SIZE + 1, 4096])
def test_a_header_of_another_size_is_a_format_error(size: int) -> None:
    with pytest.raises(FormatError) as caught:
        parse_header(header()[:size].ljust(size, b"\0"))
    assert (caught.value.offset, caught.value.got) == (0, str(size))
    assert str(HEADER_SIZE) in caught.value.expected


def test_a_foreign_magic_is_a_format_error() -> None:
    with pytest.raises(FormatError) as caught:
        parse_header(header(magic=0xBAD))
    assert (caught.value.offset, caught.value.expected, caught.value.got) == (0, hex(MAGIC), "0xbad")


@pytest.mark.parametrize("version", [0, VERSION - 1, VERSION + 1, 0xFFFF_FFFF])
def test_another_version_is_a_format_error(version: int) -> None:
    with pytest.raises(FormatError) as caught:
        parse_header(header(version=version))
    assert (caught.value.offset, caught.value.expected, caught.value.got) == (8, str(VERSION), str(version))


@pytest.mark.parametrize("slot", [MAX_SLOTS, 0xFFFF_FFFF])
def test_a_slot_that_there_is_not_is_a_format_error(slot: int) -> None:
    with pytest.raises(FormatError) as caught:
        parse_header(header(slot=slot))
    assert (caught.value.offset, caught.value.got) == (_SLOT_AT, str(slot))


@given(st.binary(max_size=2 * HEADER_SIZE) | st.binary(min_size=HEADER_SIZE, max_size=HEADER_SIZE))
def test_any_bytes_are_a_header_or_a_format_error(data: bytes) -> None:
    try:
        parse_header(data)
    except FormatError as error:
        assert error.expected != error.got


@given(st.binary(min_size=HEADER_SIZE - 12, max_size=HEADER_SIZE - 12))
def test_any_bytes_behind_magic_and_version_are_a_header_or_a_format_error(rest: bytes) -> None:
    try:
        parsed = parse_header(header()[:12] + rest)
    except FormatError as error:
        assert error.offset == _SLOT_AT
    else:
        assert parsed.slot < MAX_SLOTS


# -- the control -----------------------------------------------------------------------------------------------------


def test_each_slot_has_its_generation_and_its_word_that_keeps_runs_away() -> None:
    written = [10, 2**64 - 1, 0, 13, 7][:MAX_SLOTS]
    busy = [0, 1, 1, 0, 1][:MAX_SLOTS]
    control = memoryview(bytearray(struct.pack(f"={MAX_SLOTS}Q{MAX_SLOTS}I", *written, *busy).ljust(4096, b"\1")))
    assert generations(control).tolist() == written
    assert busy_words(control).tolist() == busy


def test_a_run_sees_what_is_written_to_the_control_later() -> None:
    control = bytearray(CONTROL_SIZE)
    words = generations(memoryview(control))
    struct.pack_into("=Q", control, 8 * (MAX_SLOTS - 1), 77)
    assert words[MAX_SLOTS - 1] == 77


# -- the records -----------------------------------------------------------------------------------------------------

RECORD, ROOM, SLOTS = 24, 4, 2


def array() -> bytes:
    """Words that say which slot, record and place they stand in."""
    return b"".join(
        struct.pack("=Q", 100 * slot + 10 * record + word)
        for slot in range(SLOTS)
        for record in range(ROOM)
        for word in range(RECORD // 8)
    )


def copied(data: bytes, *, slot: int = 0, count: int, room: int = ROOM) -> list[list[int]]:
    with memoryview(data) as view:
        words = copy_records(view, record_size=RECORD, room=room, slot=slot, count=count, buffers=RecordBuffers())
    return [[int(word) for word in record] for record in words]


@pytest.mark.parametrize("slot", range(SLOTS))
@pytest.mark.parametrize("count", range(ROOM + 1))
def test_the_first_records_of_a_slot_are_copied(slot: int, count: int) -> None:
    expected = [[100 * slot + 10 * record + word for word in range(RECORD // 8)] for record in range(count)]
    assert copied(array(), slot=slot, count=count) == expected


def test_records_are_a_copy_that_outlives_the_array() -> None:
    data = bytearray(array())
    with memoryview(data) as view:
        words = copy_records(view, record_size=RECORD, room=ROOM, slot=1, count=1, buffers=RecordBuffers())
    data[:] = bytes(len(data))
    assert words.tolist() == [[100, 101, 102]]
    assert words.dtype == np.uint64


@pytest.mark.parametrize(
    ("size", "slot", "count"),
    [
        (None, 0, ROOM + 1),  # would reach into the next slot
        (None, SLOTS, 1),
        (RECORD - 1, 0, 1),
        (0, 0, 1),
        (RECORD * ROOM, 1, 1),
    ],
)
def test_records_that_are_not_there_are_a_format_error(size: int | None, slot: int, count: int) -> None:
    data = array()[:size]
    with pytest.raises(FormatError) as caught:
        copied(data, slot=slot, count=count)
    assert caught.value.offset == len(data)
    assert str(count) in caught.value.expected


@given(
    st.binary(max_size=RECORD * ROOM * SLOTS * 2),
    st.integers(0, 5),
    st.integers(0, 2**32 - 1) | st.integers(0, 10),
    st.integers(0, 2**32 - 1) | st.integers(0, 10),
)
def test_any_counts_are_records_or_a_format_error(data: bytes, slot: int, count: int, room: int) -> None:
    try:
        words = copied(data, slot=slot, count=count, room=room)
    except FormatError:
        assert count > room or (slot * room + count) * RECORD > len(data)
    else:
        assert len(words) == count


def record(identity: bytes, *, head: int, stats: list[int]) -> U64Array:
    """One record as an array of one: its head, whose end is filled with sevens, and the kernel's words."""
    words = np.frombuffer(identity, np.uint64)
    filled = np.full(head // 8 - len(words), 7, dtype=np.uint64)
    return np.concatenate([words, filled, np.array(stats, dtype=np.uint64)]).reshape(1, -1)


def test_a_vm_has_its_identity_its_state_and_its_stats() -> None:
    identity = struct.pack("=QQiIII", 2**64 - 2, 1_700_000_000_000_000_000, -5, 11, 12, HAS_CREATED)
    vms = VmRecords(record(identity, head=VM_HEAD_SIZE, stats=[1, 2**64 - 1]), stat_size=16)
    assert len(vms) == 1
    assert vms.id.tolist() == [2**64 - 2]
    assert vms.created_ns.tolist() == [1_700_000_000_000_000_000]
    assert vms.pid.tolist() == [-5]
    assert vms.vcpus.tolist() == [12]
    assert vms.flags.tolist() == [HAS_CREATED]
    assert vms.stats.tolist() == [[1, 2**64 - 1]]
    assert set(vms.apicv.ravel().tolist()) == {7}
    assert vms.settings.tolist() == [[7] * VM_SETTINGS_WORDS]
    assert vms.sched.tolist() == [[7] * VM_SCHED_WORDS]
    assert vms.quota.tolist() == [[7] * VM_QUOTA_WORDS]
    own = (vms.settings, vms.sched, vms.quota, vms.apicv)
    assert sum(words.shape[1] for words in own) * 8 + len(identity) == VM_HEAD_SIZE


def test_a_vcpu_has_its_identity_its_state_and_its_stats() -> None:
    identity = struct.pack("=IIiI", 3, 0xFFFF_FFFF, -1, HAS_APIC)
    vcpus = VcpuRecords(record(identity, head=VCPU_HEAD_SIZE, stats=[5, 6, 8]), stat_size=24)
    assert (vcpus.vm.tolist(), vcpus.id.tolist(), vcpus.tid.tolist()) == ([3], [0xFFFF_FFFF], [-1])
    assert vcpus.flags.tolist() == [HAS_APIC]
    assert vcpus.stats.tolist() == [[5, 6, 8]]
    assert set(vcpus.apicv.ravel().tolist()) == {7}
    assert vcpus.sched.tolist() == [[7] * VCPU_SCHED_WORDS]
    assert (vcpus.sched.shape[1] + vcpus.apicv.shape[1]) * 8 + len(identity) == VCPU_HEAD_SIZE


def test_stats_are_views_of_what_was_copied() -> None:
    words = record(bytes(16), head=VCPU_HEAD_SIZE, stats=[5])
    vcpus = VcpuRecords(words, stat_size=8)
    assert np.shares_memory(vcpus.stats, words)
    assert np.shares_memory(vcpus.apicv, words)


# -- the other side --------------------------------------------------------------------------------------------------


def test_the_constants_are_those_of_the_c_header() -> None:
    defined = dict(re.findall(r"#define SNAPSHOT_(\w+) (\w+)", HEADER_FILE.read_text(encoding="utf-8")))
    assert int(defined["MAGIC"].removesuffix("ULL"), 16) == MAGIC
    assert int(defined["VERSION"]) == VERSION
    assert int(defined["MAX_SLOTS"]) == MAX_SLOTS


def test_the_flags_are_those_of_the_c_header() -> None:
    text = HEADER_FILE.read_text(encoding="utf-8")
    for flag in SnapshotFlag:
        assert re.search(rf"\bSNAPSHOT_{flag.name} = {flag.value}\b", text), flag


def test_a_buffer_is_used_again_only_when_nobody_holds_an_array_of_it() -> None:
    buffers = RecordBuffers()
    first = buffers.take(1000)
    first[:] = 7
    column = first.reshape(100, 10)[:, 3:5]
    del first
    second = buffers.take(1000)
    second[:] = 9
    assert set(column.ravel().tolist()) == {7}, "a view of the first is still held"
    address = second.ctypes.data
    del second
    assert buffers.take(990).ctypes.data == address
    kept = [buffers.take(1000) for _ in range(9)]
    assert len({array.ctypes.data for array in kept}) == 9
    assert len(buffers.take(5)) == 5
    assert len(buffers.take(10**6)) == 10**6
