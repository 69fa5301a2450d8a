"""Protobuf, read back by Google's library with the messages of Prometheus' client_model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from crafted import Crafted, VmSpec
from hypothesis import given
from hypothesis import strategies as st
from metric_families import parse_families
from prometheus_client.parser import text_string_to_metric_families as parse_text

from kvmscope.export.exposition import ExportOptions, Reading, expose
from kvmscope.export.protobuf import varint, varints, write_protobuf
from kvmscope.export.stats import Detail
from kvmscope.export.text import write_text


def both(reading: Reading) -> tuple[dict[str, Any], dict[str, Any]]:
    series = expose(reading, ExportOptions(Detail.FULL))
    families = {family.name: family for family in parse_families(b"".join(write_protobuf(series)))}
    text: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in parse_text(b"".join(write_text(series)).decode()):
        for sample in family.samples:
            labels = frozenset(pair for pair in sample.labels.items() if pair[1])
            text.setdefault(sample.name, {})[labels] = sample.value
    return families, text


def labels_of(metric: Any) -> frozenset[tuple[str, str]]:
    return frozenset((pair.name, pair.value) for pair in metric.label)


def test_numbers_and_labels_are_those_of_the_text(reading: Reading) -> None:
    families, text = both(reading)
    plain = {name: family for name, family in families.items() if family.type != 4}
    assert set(plain) == {name for name in text if "_hist_" not in name and "read_size" not in name}
    for name, family in plain.items():
        field = {0: "counter", 1: "gauge"}[family.type]
        assert {labels_of(each): getattr(each, field).value for each in family.metric} == text[name]


def test_a_log_histogram_is_native_in_nanoseconds_with_the_same_counts(reading: Reading) -> None:
    families, text = both(reading)
    bounds = [2**k - 1 for k in range(31)]
    for level in ("vm", "vcpu"):
        classic = text[f"kvm_{level}_halt_wait_hist_seconds_bucket"]
        for metric in families[f"kvm_{level}_halt_wait_hist_nanoseconds"].metric:
            found = metric.histogram
            counts = [found.zero_count, *accumulate(found.positive_delta)]
            (span,) = found.positive_span
            assert (found.schema, span.offset, span.length) == (0, 1, 31)
            cumulative = list(accumulate(counts))
            by_bound = {dict(labels)["le"]: count for labels, count in classic.items() if labels_of(metric) <= labels}
            assert [by_bound[repr(bound / 1e9)] for bound in bounds] == cumulative[:31]
            assert by_bound["+Inf"] == found.sample_count == cumulative[31]
            assert math.isnan(found.sample_sum), "this kernel has no sum of it"


def test_a_linear_histogram_has_its_own_bounds(reading: Reading) -> None:
    (metric,) = both(reading)[0]["kvm_vm_disk_read_size_bytes"].metric
    assert [(b.cumulative_count, b.upper_bound) for b in metric.histogram.bucket] == [
        (3, 4095.0), (3, 8191.0), (3, 12287.0), (12, math.inf)
    ]  # fmt: skip


def test_a_name_with_anything_in_it_stays_in_its_label(
    read_vms: Callable[[Sequence[VmSpec]], Reading], crafted: Crafted
) -> None:
    reading = read_vms([crafted.vm('"}\n数\x1b', [crafted.vcpu(0, {"exits": 2**60})])])
    families, _ = both(reading)
    (metric,) = families["kvm_vm_exits_total"].metric
    assert metric.counter.value == 2**60
    assert labels_of(metric) == {("vm", '"}\\x0a数\\x1b')}


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_many_varints_are_as_one_after_another(numbers: list[int]) -> None:
    encoded, lengths = varints(np.array(numbers, dtype=np.uint64))
    assert encoded.tobytes() == b"".join(map(varint, numbers))
    assert lengths.tolist() == [len(varint(number)) for number in numbers]
