"""Providers ``sched`` and ``cgroup``: which subjects have their words. tests/live/test_sched.py has other witnesses."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from kvmscope.catalog.stats import load_stats
from kvmscope.codec import cgroup, sched, snapshot
from kvmscope.codec.records import VcpuRecords, VmRecords
from kvmscope.codec.snapshot import HAS_APIC, HAS_QUOTA, HAS_SCHED, VCPU_HEAD_SIZE, VM_HEAD_SIZE, Feature
from kvmscope.schema import Schema

HEADER_FILE = Path(snapshot.__file__).parent.parent / "sources/bpf/snapshot.h"
FLAGS_AT, SCHED_AT, VM_FLAGS_AT = 12, 16, 28
EVERYTHING = Feature.SCHED_INFO | Feature.CPU_QUOTA


def vcpus(*flags: int) -> VcpuRecords:
    """vCPUs with these flags; their words count up through all records."""
    words = np.zeros((len(flags), VCPU_HEAD_SIZE // 8), dtype=np.uint64)
    words.view(np.uint32)[:, FLAGS_AT // 4] = flags
    numbers = np.arange(3 * len(flags), dtype=np.uint64).reshape(-1, 3)
    words[:, SCHED_AT // 8 : SCHED_AT // 8 + 3] = numbers
    return VcpuRecords(words, stat_size=0)


def schemas() -> tuple[Schema, Schema]:
    vm, vcpu = sched.vm_schema(EVERYTHING), sched.vcpu_schema(EVERYTHING)
    assert vm is not None
    assert vcpu is not None
    return vm, vcpu


def test_a_vcpu_whose_thread_was_not_read_has_no_row() -> None:
    _, schema = schemas()
    records = vcpus(HAS_APIC, HAS_SCHED, HAS_APIC | HAS_SCHED)
    block = sched.block(schema, records, sched.rows(records))
    assert block.rows.tolist() == [1, 2]
    assert [block.column(name).tolist() for name in schema.names] == [[3, 6], [4, 7], [5, 8]]


def test_a_block_of_all_vcpus_copies_nothing() -> None:
    _, schema = schemas()
    records = vcpus(HAS_SCHED, HAS_SCHED)
    assert np.shares_memory(sched.block(schema, records, sched.rows(records)).values, records.sched)


def test_a_vm_that_shares_its_process_has_no_row() -> None:
    schema, _ = schemas()
    words = np.full((2, VM_HEAD_SIZE // 8), 7, dtype=np.uint64)
    words.view(np.uint32)[:, VM_FLAGS_AT // 4] = (HAS_SCHED, 0)
    records = VmRecords(words, stat_size=0)
    block = sched.block(schema, records, sched.rows(records))
    assert block.rows.tolist() == [0]
    assert {int(block.column(name)[0]) for name in schema.names} == {7}


def test_a_kernel_that_does_not_count_waits_has_no_such_stats() -> None:
    without = EVERYTHING & ~Feature.SCHED_INFO
    assert (sched.vm_schema(without), sched.vcpu_schema(without)) == (None, None)


def test_a_vm_none_of_whose_vcpus_has_run_has_no_quota() -> None:
    schema = cgroup.vm_schema(EVERYTHING)
    assert schema is not None
    words = np.full((2, VM_HEAD_SIZE // 8), 7, dtype=np.uint64)
    words.view(np.uint32)[:, VM_FLAGS_AT // 4] = (HAS_SCHED, HAS_SCHED | HAS_QUOTA)
    records = VmRecords(words, stat_size=0)
    block = cgroup.block(schema, records, cgroup.vm_rows(records))
    assert block.rows.tolist() == [1]
    assert {int(block.column(name)[0]) for name in schema.names} == {7}
    assert cgroup.vm_schema(Feature.SCHED_INFO) is None


SCHEMAS = {
    "vm_sched": sched.vm_schema(EVERYTHING),
    "vcpu_sched": sched.vcpu_schema(EVERYTHING),
    "vm_quota": cgroup.vm_schema(EVERYTHING),
}


@pytest.mark.parametrize("enum", SCHEMAS)
def test_words_stand_where_the_c_header_has_them(enum: str) -> None:
    words = re.search(rf"enum {enum} {{(.*?)}};", HEADER_FILE.read_text(encoding="utf-8"), re.DOTALL)
    assert words is not None
    scope, _, what = enum.partition("_")
    names = [name.lower() for name in re.findall(rf"\b{scope.upper()}_(\w+),", words[1])]
    schema = SCHEMAS[enum]
    assert schema is not None
    by_place = sorted(schema.descriptors, key=lambda stat: stat.offset)
    assert [*(stat.name for stat in by_place), f"{what}_words"] == names
    assert [stat.offset for stat in by_place] == list(range(0, schema.data_size, 8))


@pytest.mark.parametrize("enum", SCHEMAS)
def test_every_stat_is_catalogued_with_its_unit(enum: str) -> None:
    schema = SCHEMAS[enum]
    assert schema is not None
    for stat in schema.descriptors:
        entry = load_stats().find(schema.provider, schema.scope, stat.name)
        assert entry is not None, stat.name
        assert entry.shape == stat.shape, stat.name
