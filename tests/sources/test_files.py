"""Stats files become one sample: grouping by schema, rows, order, gaps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from kvmscope.sample import NOT_KNOWN, Sample, VmId
from kvmscope.schema import Descriptor, Kind, Schema, Scope
from kvmscope.sources.files import StatsOf, VcpuStats, VmStats, Words, assemble


def schema(scope: Scope, *names: str, provider: str = "kvm") -> Schema:
    descriptors = tuple(Descriptor(name, Kind.CUMULATIVE, offset=8 * i) for i, name in enumerate(names))
    return Schema(provider, scope, descriptors, 8 * len(names))


def words(*values: int) -> bytes:
    return np.array(values, dtype=np.uint64).tobytes()


VM = schema(Scope.VM, "flushes")
VCPU = schema(Scope.VCPU, "exits", "halts")
OTHER = schema(Scope.VCPU, "exits", "naps")
QUEUE = schema(Scope.VCPU, "requests", provider="disk")


def sample_of(*vms: VmStats) -> Sample:
    return assemble(vms, source="test", taken_ns=1, monotonic_ns=2)


def test_subjects_of_equal_schemas_share_one_block() -> None:
    equal_but_other_object = schema(Scope.VCPU, "exits", "halts")
    sample = sample_of(
        VmStats(VmId(7), vcpus=[VcpuStats(0, [StatsOf(VCPU, words(1, 2))])]),
        VmStats(VmId(8), vcpus=[VcpuStats(0, [StatsOf(equal_but_other_object, words(3, 4))])]),
    )
    (block,) = sample.blocks
    assert block.values.tolist() == [[1, 2], [3, 4]]
    assert block.rows.tolist() == [0, 1]
    assert block.column("halts").tolist() == [2, 4]


def test_schemas_that_differ_get_blocks_of_their_own() -> None:
    sample = sample_of(
        VmStats(VmId(7), vcpus=[VcpuStats(0, [StatsOf(VCPU, words(1, 2))])]),
        VmStats(VmId(8), vcpus=[VcpuStats(0, [StatsOf(OTHER, words(3, 4))])]),
    )
    assert [(block.schema.names, block.rows.tolist()) for block in sample.blocks] == [
        (("exits", "halts"), [0]),
        (("exits", "naps"), [1]),
    ]


def test_a_subject_can_have_several_providers() -> None:
    vcpu = VcpuStats(3, [StatsOf(VCPU, words(1, 2)), StatsOf(QUEUE, words(9))], tid=44)
    sample = sample_of(VmStats(VmId(7), [StatsOf(VM, words(5))], [vcpu], pid=40, label="web-1"))
    assert {block.schema.provider: block.values.tolist() for block in sample.blocks_of(Scope.VCPU)} == {
        "kvm": [[1, 2]],
        "disk": [[9]],
    }
    assert (sample.vms.pid.tolist(), sample.vms.label) == ([40], ("web-1",))
    assert (sample.vcpus.id.tolist(), sample.vcpus.tid.tolist(), sample.vcpus.vm.tolist()) == ([3], [44], [0])


def test_a_subject_without_a_file_has_a_row_but_no_values() -> None:
    vcpus = [VcpuStats(0), VcpuStats(1, [StatsOf(VCPU, words(1, 2))])]
    sample = sample_of(VmStats(VmId(7), vcpus=vcpus))
    assert len(sample.vcpus) == 2
    assert sample.blocks[0].rows.tolist() == [1]
    assert sample.vcpus.tid.tolist() == [NOT_KNOWN, NOT_KNOWN]


def test_vms_stand_in_order_of_creation_with_their_vcpus() -> None:
    young = VmStats(VmId(1), [StatsOf(VM, words(20))], [VcpuStats(0, [StatsOf(VCPU, words(21, 0))])], created_ns=20)
    old = VmStats(VmId(2), [StatsOf(VM, words(10))], [VcpuStats(5, [StatsOf(VCPU, words(11, 0))])], created_ns=10)
    sample = sample_of(young, old)
    assert sample.vms.id.tolist() == [2, 1]
    assert sample.vcpus.id.tolist() == [5, 0]
    assert [block.values[:, 0].tolist() for block in sample.blocks] == [[10, 20], [11, 21]]
    assert sample.vcpus_of_vm == (slice(0, 1), slice(1, 2))


def test_a_second_file_with_the_same_stats_is_a_gap() -> None:
    vcpu = VcpuStats(4, [StatsOf(VCPU, words(1, 2)), StatsOf(VCPU, words(3, 4))])
    sample = sample_of(VmStats(VmId(7), vcpus=[vcpu]))
    assert sample.blocks[0].values.tolist() == [[1, 2]]
    (gap,) = sample.gaps
    assert (gap.vm, gap.vcpu, gap.provider) == (VmId(7), 4, "kvm")


@pytest.mark.parametrize("convert", [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint64)])
def test_words_may_come_in_any_buffer(convert: Callable[[bytes], Words]) -> None:
    sample = sample_of(VmStats(VmId(7), [StatsOf(VM, convert(words(2**64 - 1)))]))
    assert sample.blocks[0].values.tolist() == [[2**64 - 1]]


def test_words_of_another_length_than_the_schema_are_refused() -> None:
    with pytest.raises(ValueError, match="8 bytes of data for a schema of 16"):
        sample_of(VmStats(VmId(7), vcpus=[VcpuStats(0, [StatsOf(VCPU, words(1))])]))


def test_a_schema_of_the_wrong_scope_is_refused() -> None:
    with pytest.raises(ValueError, match="stats of a vm with a schema of a vcpu"):
        sample_of(VmStats(VmId(7), [StatsOf(VCPU, words(1, 2))]))


def test_a_host_without_vms_is_an_empty_sample() -> None:
    sample = sample_of()
    assert (len(sample.vms), len(sample.vcpus), sample.blocks, sample.gaps) == (0, 0, (), ())
