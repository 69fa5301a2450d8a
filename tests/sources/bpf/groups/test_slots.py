"""The join of a group's slots to a sample, on arrays in ordinary memory: whose counts, and when zero may be said."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.sample import NOT_KNOWN, Block, Sample, Vcpus, Vms
from kvmscope.schema import Descriptor, Kind, Schema, Scope
from kvmscope.sources.bpf.groups.base import GroupShape, Part
from kvmscope.sources.bpf.groups.slots import NO_VCPU, Slots, rows_of

NAMES = ("first", "second")
VCPU_SCHEMA = Schema(
    "g", Scope.VCPU, tuple(Descriptor(n, Kind.CUMULATIVE, offset=8 * i) for i, n in enumerate(NAMES)), 16
)
VM_SCHEMA = Schema("g", Scope.VM, VCPU_SCHEMA.descriptors, 16)
RECENT, LONG_AGO = 10**9, 3600 * 10**9  # before now


@dataclass(frozen=True)
class Slot:
    vm: int
    vcpu: int
    counts: tuple[int, int]
    generation: int = 2


@contextmanager
def arrays(
    slots: Sequence[Slot],
    *,
    schema: Schema = VCPU_SCHEMA,
    room: int = 4,
    silent: str = "",
    lost_ns: int = 0,
    used: int = -1,
) -> Iterator[Slots]:
    """As a group's programs leave them."""
    who = b"".join(struct.pack("=QIIQQ32x", s.vm, s.vcpu, s.generation, 0, 0) for s in slots)
    data = b"".join(struct.pack("=2Q", *s.counts) for s in slots)
    state = struct.pack("=QQQQ32x", len(slots) if used < 0 else used, lost_ns, 0, 0)
    fds = {name: os.memfd_create(name) for name in ("who", "data", "state")}
    try:
        for name, content in (("who", who), ("data", data), ("state", state)):
            os.ftruncate(fds[name], 1 << 16)
            os.pwrite(fds[name], content, 0)
        opened = Slots(GroupShape("g", schema, room, silent, (("third", "no hook"),)), fds)
    finally:
        for fd in fds.values():
            os.close(fd)
    try:
        yield opened
    finally:
        opened.close()


def sample(vcpus: dict[int, list[int]], *, created_before_ns: int = LONG_AGO) -> Sample:
    """VMs by id, each with the ids of its vCPUs."""
    created = time.time_ns() - created_before_ns
    n = len(vcpus)
    vms = Vms(np.array(list(vcpus), np.uint64), np.full(n, 7), np.full(n, created), ("",) * n)
    rows = [row for row, ids in enumerate(vcpus.values()) for _ in ids]
    ids = [vcpu for own in vcpus.values() for vcpu in own]
    table = Vcpus(np.array(rows, np.int64), np.array(ids, np.int64), np.full(len(ids), NOT_KNOWN))
    return Sample(time.time_ns(), time.monotonic_ns(), "bpf", False, vms, table, ())


def block(part: Part) -> Block:
    (found,) = part.blocks
    return found


def reasons(part: Part) -> list[str]:
    return [gap.reason for gap in part.gaps if gap.stat is None]


def test_counts_come_to_the_vcpu_that_they_are_of_whatever_the_order_of_slots() -> None:
    with arrays([Slot(20, 5, (1, 2)), Slot(10, 0, (3, 4)), Slot(20, 0, (5, 6))]) as slots:
        found = block(slots.read(sample({10: [0], 20: [0, 5]})))
    assert found.rows.tolist() == [0, 1, 2]
    assert found.column("first").tolist() == [3, 5, 1]
    assert found.column("second").tolist() == [4, 6, 2]


def test_what_cannot_be_counted_is_a_gap_by_its_name() -> None:
    with arrays([]) as slots:
        assert [(gap.stat, gap.reason) for gap in slots.read(sample({10: [0]})).gaps] == [("third", "no hook")]


def test_a_slot_of_a_vm_that_is_gone_is_left_out() -> None:
    with arrays([Slot(99, 0, (1, 2)), Slot(10, 7, (1, 2))]) as slots:
        assert block(slots.read(sample({10: [0]}))).values.tolist() == [[0, 0]]


def test_where_events_are_known_to_come_no_slot_means_zero() -> None:
    with arrays([]) as slots:
        assert block(slots.read(sample({10: [0, 1]}))).values.tolist() == [[0, 0], [0, 0]]


def test_where_events_may_not_come_nothing_is_said_until_one_was_seen() -> None:
    with arrays([], silent="they may not come") as slots:
        part = slots.read(sample({10: [0]}))
    assert part.blocks == ()
    assert reasons(part) == ["they may not come"]
    with arrays([Slot(99, 0, (1, 1))], silent="they may not come") as slots:
        part = slots.read(sample({10: [0]}))
    assert block(part).values.tolist() == [[0, 0]], "an event of another VM shows that they come"
    assert reasons(part) == []


def test_a_vcpu_that_may_have_lost_its_slot_has_no_row_and_a_gap() -> None:
    with arrays([Slot(10, 1, (1, 2))], lost_ns=time.monotonic_ns() - RECENT) as slots:
        part = slots.read(sample({10: [0, 1]}))
    assert block(part).rows.tolist() == [1]
    assert reasons(part) == ["group g has room for 4 vCPUs: 1 of 2 have no place in it"]


def test_a_vm_that_was_created_after_the_last_loss_cannot_have_lost_anything() -> None:
    lost_ns = time.monotonic_ns() - 10 * RECENT
    with arrays([], lost_ns=lost_ns) as slots:
        assert block(slots.read(sample({10: [0]}, created_before_ns=RECENT))).rows.tolist() == [0]
        assert block(slots.read(sample({10: [0]}, created_before_ns=20 * RECENT))).rows.tolist() == []


def test_a_vm_of_unknown_birth_may_have_lost_its_slot() -> None:
    known = sample({10: [0]})
    vms = Vms(known.vms.id, known.vms.pid, np.array([NOT_KNOWN]), ("",))
    with arrays([], lost_ns=1) as slots:
        assert block(slots.read(Sample(1, 1, "bpf", False, vms, known.vcpus, ()))).rows.tolist() == []


@pytest.mark.parametrize("generation", [1, 3])
def test_a_slot_that_is_being_taken_over_is_not_read(generation: int) -> None:
    with arrays([Slot(10, 0, (7, 7), generation)]) as slots:
        assert block(slots.read(sample({10: [0]}))).values.tolist() == [[0, 0]]


def test_slots_of_one_subject_count_together() -> None:
    with arrays([Slot(10, NO_VCPU, (1, 2)), Slot(10, NO_VCPU, (10, 20))], schema=VM_SCHEMA) as slots:
        assert block(slots.read(sample({10: [0], 11: []}))).values.tolist() == [[11, 22], [0, 0]]


def test_a_count_of_used_slots_beyond_the_room_is_the_room() -> None:
    with arrays([Slot(10, i, (i, i)) for i in range(4)], used=9) as slots:
        assert block(slots.read(sample({10: [0, 1, 2, 3]}))).column("first").tolist() == [0, 1, 2, 3]


def test_a_host_without_vms_has_an_empty_block() -> None:
    with arrays([Slot(10, 0, (1, 1))]) as slots:
        assert block(slots.read(sample({}))).values.shape == (0, 2)


IDS = st.integers(1, 2**64 - 1)


@given(
    st.dictionaries(IDS, st.lists(st.integers(0, 2**32 - 2), unique=True, max_size=4), max_size=5),
    st.lists(st.tuples(IDS, st.integers(0, 2**32 - 1)), max_size=5),
)
def test_each_subject_is_found_at_its_own_row_and_strangers_nowhere(
    host: dict[int, list[int]], strangers: list[tuple[int, int]]
) -> None:
    there = sample(host)
    of_vms = [(vm, vcpu) for vm, ids in host.items() for vcpu in ids]
    asked = [*reversed(of_vms), *(pair for pair in strangers if pair not in of_vms)]
    vms, vcpus = np.array([a for a, _ in asked], np.uint64), np.array([b for _, b in asked], np.uint32)
    rows = rows_of(there, Scope.VCPU, vms, vcpus).tolist()
    assert rows == [of_vms.index(pair) if pair in of_vms else NOT_KNOWN for pair in asked]


def test_closing_twice_is_as_good_as_once() -> None:
    with arrays([]) as slots, suppress(ValueError):
        slots.close()
