"""Provider ``sched``: which subjects have its words. That they are true is shown in tests/live/test_sched.py."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from kvmscope.catalog.stats import load_stats
from kvmscope.codec import sched, snapshot
from kvmscope.codec.snapshot import (
    HAS_APIC,
    HAS_SCHED,
    VCPU_HEAD_SIZE,
    VM_HEAD_SIZE,
    Feature,
    VcpuRecords,
    VmRecords,
)
from kvmscope.schema import Schema, Scope

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


def test_a_kernel_without_quotas_has_the_times_of_threads_alone() -> None:
    with_quotas, _ = schemas()
    without = sched.vm_schema(Feature.SCHED_INFO)
    assert without is not None
    assert set(with_quotas.names) - set(without.names) == {
        *("quota_set", "quota_ns", "quota_period_ns", "nr_periods", "nr_throttled", "throttled_ns")
    }


@pytest.mark.parametrize("scope", list(Scope))
def test_words_stand_where_the_c_header_has_them(scope: Scope) -> None:
    text = HEADER_FILE.read_text(encoding="utf-8")
    words = re.search(rf"enum {scope.value}_sched {{(.*?)}};", text, re.DOTALL)
    assert words is not None
    names = [name.lower() for name in re.findall(rf"\b{scope.name}_(\w+),", words[1])]
    schema = schemas()[list(Scope).index(scope)]
    by_place = sorted(schema.descriptors, key=lambda stat: stat.offset)
    assert [stat.name.removeprefix("quota_") if "period" in stat.name else stat.name for stat in by_place] == names[:-1]
    assert [stat.offset for stat in by_place] == list(range(0, schema.data_size, 8))
    assert names[-1] == "sched_words"


@pytest.mark.parametrize("scope", list(Scope))
def test_every_stat_is_catalogued_with_its_unit(scope: Scope) -> None:
    schema = schemas()[list(Scope).index(scope)]
    for stat in schema.descriptors:
        entry = load_stats().find(sched.PROVIDER, scope, stat.name)
        assert entry is not None, stat.name
        assert entry.shape == stat.shape, stat.name
