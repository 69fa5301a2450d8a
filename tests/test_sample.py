"""Samples: subjects in tables, raw words in blocks, and which belong together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.sample import NOT_KNOWN, Block, Sample, VcpuId, Vcpus, VmId, Vms
from kvmscope.schema import Descriptor, Kind, Schema, Scope, Unit

SCHEMA = Schema(
    "kvm",
    Scope.VCPU,
    (
        Descriptor("halts", Kind.CUMULATIVE, offset=0),
        Descriptor("waits", Kind.LOG_HISTOGRAM, size=3, offset=8),
        Descriptor("exits", Kind.CUMULATIVE, offset=32),
    ),
    data_size=48,
)
OF_VM = Schema("kvm", Scope.VM, (Descriptor("flushes", Kind.CUMULATIVE),), data_size=8)


def sample_of(vcpus_by_vm: list[int], *blocks: Block) -> Sample:
    """VMs with so many vCPUs each, numbered from 0."""
    number = len(vcpus_by_vm)
    none = np.full(number, NOT_KNOWN)
    vms = Vms(np.arange(10, 10 + number).astype(np.uint64), none, none, ("",) * number)
    rows = np.repeat(np.arange(number), vcpus_by_vm)
    ids = np.array([vcpu for count in vcpus_by_vm for vcpu in range(count)], dtype=np.int64)
    return Sample(1, 2, "test", False, vms, Vcpus(rows, ids, np.full(len(ids), NOT_KNOWN)), blocks)


def test_a_scalar_is_one_word_a_subject_and_a_histogram_several() -> None:
    values = np.arange(12, dtype=np.uint64).reshape(2, 6)
    block = Block(SCHEMA, values, np.arange(2))
    assert block.column("halts").tolist() == [0, 6]
    assert block.column("exits").tolist() == [4, 10]
    assert block.column("waits").tolist() == [[1, 2, 3], [7, 8, 9]]


def test_a_column_is_a_view_of_the_bytes_as_read() -> None:
    values = np.zeros((2, 6), dtype=np.uint64)
    block = Block(SCHEMA, values, np.arange(2))
    values[1, 4] = 99
    assert block.column("exits").tolist() == [0, 99]
    assert np.shares_memory(block.column("waits"), values)


def test_a_compact_column_is_the_column_in_one_piece_copied_once() -> None:
    block = Block(SCHEMA, np.arange(24, dtype=np.uint64).reshape(2, 12)[:, ::2], np.arange(2))
    for name in ("halts", "exits", "waits"):
        assert np.array_equal(block.compact_column(name), block.column(name))
    assert block.compact_column("exits").flags.c_contiguous
    assert block.compact_column("exits") is block.compact_column("exits")


def test_stats_of_one_word_are_had_in_one_piece() -> None:
    bit = Descriptor("second", Kind.INSTANT, Unit.BIT, bucket_size=1, offset=40)
    schema = Schema("kvm", Scope.VCPU, (*SCHEMA.descriptors, bit), SCHEMA.data_size)
    block = Block(schema, np.arange(24, dtype=np.uint64).reshape(2, 12)[:, ::2], np.arange(2))
    assert set(block.single_words) == {"halts", "exits", "second"}
    assert all(np.array_equal(words, block.column(name)) for name, words in block.single_words.items())
    assert all(words.flags.c_contiguous for words in block.single_words.values())
    assert Block(schema, np.zeros((0, 6), dtype=np.uint64), np.arange(0)).single_words["exits"].shape == (0,)


def test_a_bit_is_0_or_1_whatever_else_its_word_holds() -> None:
    bits = [Descriptor(f"bit_{bit}", Kind.INSTANT, Unit.BIT, bucket_size=bit) for bit in (0, 1, 63, 64)]
    values = np.array([[2], [2**63 + 1], [2**64 - 1]], dtype=np.uint64)
    block = Block(Schema("disk", Scope.VM, tuple(bits), data_size=8), values, np.arange(3))
    found = [block.column(f"bit_{bit}").tolist() for bit in (0, 1, 63)]
    assert found == [[0, 1, 1], [1, 0, 1], [0, 1, 1]]
    assert block.column("bit_64").tolist() == values[:, 0].tolist()  # no bit: kept raw


def test_a_stat_that_the_schema_has_not_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Block(SCHEMA, np.zeros((1, 6), dtype=np.uint64), np.arange(1)).column("naps")


def test_a_full_word_is_kept_whole() -> None:
    values = np.full((1, 6), 2**64 - 1, dtype=np.uint64)
    assert int(Block(SCHEMA, values, np.arange(1)).column("exits")[0]) == 2**64 - 1


def test_a_block_is_found_by_provider_and_scope() -> None:
    of_vcpu = Block(SCHEMA, np.zeros((0, 6), dtype=np.uint64), np.arange(0))
    of_vm = Block(OF_VM, np.zeros((0, 1), dtype=np.uint64), np.arange(0))
    sample = sample_of([], of_vm, of_vcpu)
    assert sample.block("kvm", Scope.VCPU) is of_vcpu
    assert sample.block("kvm", Scope.VM) is of_vm
    assert sample.block("disk", Scope.VM) is None
    assert list(sample.blocks_of(Scope.VM)) == [of_vm]


@given(st.lists(st.integers(0, 5), max_size=12))
def test_every_vm_has_its_own_rows_of_vcpus_and_none_is_left_over(vcpus_by_vm: list[int]) -> None:
    sample = sample_of(vcpus_by_vm)
    assert len(sample.vcpus_of_vm) == len(sample.vms) == len(vcpus_by_vm)
    for row, rows in enumerate(sample.vcpus_of_vm):
        assert sample.vcpus.id[rows].tolist() == list(range(vcpus_by_vm[row]))
        assert set(sample.vcpus.vm[rows].tolist()) <= {row}
    assert sum(rows.stop - rows.start for rows in sample.vcpus_of_vm) == len(sample.vcpus)


def test_ids_are_written_so_that_they_can_be_told_apart() -> None:
    assert str(VmId(0xABC)) == "0000000000000abc"
    assert str(VcpuId(VmId(1), 7)) == "0000000000000001/7"
    assert VmId(1) < VmId(2)
    assert len({VmId(1), VmId(1), VmId(2)}) == 2


def test_a_row_gives_the_id_as_a_value() -> None:
    vm = sample_of([1, 1]).vms.vm_id(1)
    assert vm == VmId(11)
    assert type(vm.value) is int
