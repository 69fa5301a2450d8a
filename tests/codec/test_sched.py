"""Provider ``sched``: which vCPUs have its words. That they are the kernel's is shown in tests/live/test_sched.py."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from kvmscope.catalog.stats import load_stats
from kvmscope.codec import sched, snapshot
from kvmscope.codec.snapshot import HAS_APIC, HAS_SCHED, VCPU_HEAD_SIZE, Feature, VcpuRecords

HEADER_FILE = Path(snapshot.__file__).parent.parent / "sources/bpf/snapshot.h"
FLAGS_AT, SCHED_AT = 12, 16


def vcpus(*flags: int) -> VcpuRecords:
    """vCPUs with these flags; their words count up through all records."""
    words = np.zeros((len(flags), VCPU_HEAD_SIZE // 8), dtype=np.uint64)
    words.view(np.uint32)[:, FLAGS_AT // 4] = flags
    numbers = np.arange(3 * len(flags), dtype=np.uint64).reshape(-1, 3)
    words[:, SCHED_AT // 8 : SCHED_AT // 8 + 3] = numbers
    return VcpuRecords(words, stat_size=0)


def test_a_vcpu_whose_thread_was_not_read_has_no_row() -> None:
    schema = sched.vcpu_schema(Feature.SCHED_INFO)
    assert schema is not None
    records = vcpus(HAS_APIC, HAS_SCHED, HAS_APIC | HAS_SCHED)
    block = sched.block(schema, records, sched.vcpu_rows(records))
    assert block.rows.tolist() == [1, 2]
    assert [block.column(name).tolist() for name in schema.names] == [[3, 6], [4, 7], [5, 8]]


def test_a_block_of_all_vcpus_copies_nothing() -> None:
    schema = sched.vcpu_schema(Feature.SCHED_INFO)
    assert schema is not None
    records = vcpus(HAS_SCHED, HAS_SCHED)
    assert np.shares_memory(sched.block(schema, records, sched.vcpu_rows(records)).values, records.sched)


def test_a_kernel_that_does_not_count_waits_has_no_such_stats() -> None:
    assert sched.vcpu_schema(Feature.APICV | Feature.HLT_EXITS) is None


def test_words_stand_where_the_c_header_has_them() -> None:
    text = HEADER_FILE.read_text(encoding="utf-8")
    words = re.search(r"enum vcpu_sched \{(.*?)\};", text, re.DOTALL)
    assert words is not None
    names = re.findall(r"VCPU_(\w+),", words[1])
    schema = sched.vcpu_schema(Feature.SCHED_INFO)
    assert schema is not None
    assert [name.lower() for name in names] == [*schema.names, "sched_words"]
    assert [schema[name].offset for name in schema.names] == [0, 8, 16]


def test_every_stat_is_catalogued_with_its_unit() -> None:
    schema = sched.vcpu_schema(Feature.SCHED_INFO)
    assert schema is not None
    for stat in schema.descriptors:
        entry = load_stats().find(sched.PROVIDER, schema.scope, stat.name)
        assert entry is not None, stat.name
        assert entry.shape == stat.shape, stat.name
