"""What is exported of a host, read back by the parsers of prometheus_client from both texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from crafted import NOON_NS, Crafted, VmSpec
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from kvmscope.export.budget import SeriesChoice
from kvmscope.export.exposition import ExportOptions, Reading, expose
from kvmscope.export.stats import Detail
from kvmscope.export.text import TextFormat, write_text

EVIL = 'a"} 1\n# EOF\nx{y="\\z<script>\x1b[31m\u202e%s%d\0'

parse_openmetrics: Callable[[str], Iterable[Any]] = openmetrics.text_string_to_metric_families

Sample = tuple[str, dict[str, str], float]


def text_of(reading: Reading, form: TextFormat = TextFormat.PROMETHEUS, **options: Any) -> str:
    return b"".join(write_text(expose(reading, ExportOptions(**options)), form)).decode()


def samples_in(families: Iterable[Any]) -> list[Sample]:
    return [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]


def values(text: str, name: str) -> dict[tuple[str, ...], float]:
    """By the values of the labels."""
    return {tuple(labels.values()): value for each, labels, value in samples_in(parse_text(text)) if each == name}


def test_both_texts_say_the_same_to_parsers_that_are_not_ours(reading: Reading) -> None:
    options: dict[str, Any] = {"detail": Detail.FULL}
    text = samples_in(parse_text(text_of(reading, **options)))
    strict = samples_in(parse_openmetrics(text_of(reading, TextFormat.OPENMETRICS, **options)))
    in_text_alone = {name for name, labels, value in text if (name, labels, value) not in strict}
    assert in_text_alone == {"kvm_vm_disk_read_size_bytes_count", *_counts("vm"), *_counts("vcpu")}, "no sum, no count"
    assert [each for each in text if each[0] not in in_text_alone] == strict
    assert len(text) > 300


def _counts(level: str) -> set[str]:
    return {f"kvm_{level}_halt_wait_hist_seconds_count"}


def test_no_series_is_written_twice(reading: Reading) -> None:
    found = [
        (name, tuple(labels.items()))
        for name, labels, _ in samples_in(parse_text(text_of(reading, detail=Detail.FULL)))
    ]
    assert len(found) == len(set(found))


def test_a_vm_is_named_by_its_uuid_else_by_name_and_birth(reading: Reading, crafted: Crafted) -> None:
    found = {labels[0] for labels in values(text_of(reading), "kvm_vm_vcpus")}
    assert found == {
        "12345678-1234-1234-1234-123456789abc@2023-11-14T22:11:50.123Z",  # three VMs claim this UUID
        "12345678-1234-1234-1234-123456789abc@2023-11-14T22:13:19.123Z",
        "12345678-1234-1234-1234-123456789abc@2023-11-14T22:13:20.123Z",
        "数据库-with-a-name-that-goes-on-and-on@2023-11-14T22:13:20.123Z",
    }


def test_counts_of_vms_are_sums_over_their_vcpus(reading: Reading) -> None:
    exits = values(text_of(reading), "kvm_vm_exits_total")
    assert sorted(exits.values()) == [0, 5, 507, 41_700]


def test_what_is_unknown_has_no_series(reading: Reading) -> None:
    found = values(text_of(reading, detail=Detail.VCPU), "kvm_vcpu_exits_total")
    assert len(found) == 5, "of six vCPUs one could not be read"
    assert not [line for line in text_of(reading).splitlines() if line.endswith("NaN")]


def test_vcpus_are_written_when_asked_for_and_their_histograms_only_in_full(reading: Reading) -> None:
    def names(detail: Detail) -> set[str]:
        return {name for name, _, _ in samples_in(parse_text(text_of(reading, detail=detail)))}

    assert "kvm_vcpu_exits_total" in names(Detail.VCPU)
    assert "kvm_vcpu_halt_wait_hist_seconds_bucket" not in names(Detail.VCPU)
    assert "kvm_vcpu_halt_wait_hist_seconds_bucket" in names(Detail.FULL)


def test_vcpus_of_a_vm_are_written_while_a_finding_holds_for_it(reading: Reading) -> None:
    text = text_of(reading)
    found = {labels[0] for labels in values(text, "kvm_vm_finding")}
    assert found == {labels[0] for labels in values(text, "kvm_vcpu_exits_total")}
    assert len(found) == 1, "the counts of one VM were reset"


def test_buckets_add_up_and_end_in_the_count(reading: Reading) -> None:
    text = text_of(reading)
    buckets = values(text, "kvm_vm_halt_wait_hist_seconds_bucket")
    vms = {vm for vm, _ in buckets}
    counts = values(text, "kvm_vm_halt_wait_hist_seconds_count")
    assert vms == {vm for (vm,) in counts}
    for vm in vms:
        column = [count for (owner, _), count in buckets.items() if owner == vm]
        assert column == sorted(column)
        assert column[-1] == counts[(vm,)]
    assert max(counts.values()) == 1503 + 907 + 92 + 1


def test_a_publishers_stat_does_not_pass_for_one_of_kvm(reading: Reading) -> None:
    text = text_of(reading)
    assert list(values(text, "kvm_vm_disk_exits_total").values()) == [42]
    assert list(values(text, "kvm_vm_disk_written_bytes_total").values()) == [1_234_000]


def test_names_of_vms_that_look_like_markup_or_lines_stay_in_their_label(
    read_vms: Callable[[Sequence[VmSpec]], Reading], crafted: Crafted
) -> None:
    vms = [
        crafted.vm(EVIL, [crafted.vcpu(0, {"exits": 3})], created_ns=NOON_NS),
        crafted.vm("50 % of \\n", [crafted.vcpu(0)]),
    ]
    text = text_of(read_vms(vms), detail=Detail.FULL)
    list(parse_openmetrics(text_of(read_vms(vms), TextFormat.OPENMETRICS, detail=Detail.FULL)))
    assert len(values(text, "kvm_vm_exits_total")) == 2
    assert sorted(values(text, "kvm_vm_exits_total").values()) == [0, 3]
    assert "\x1b" not in text
    assert all(line.startswith(("kvm_", "kvmscope_", "# HELP kvm", "# TYPE kvm")) for line in text.splitlines())


def test_lists_choose_names(reading: Reading) -> None:
    choice = SeriesChoice(include=("kvm_vm_*",), exclude=("kvm_vm_metric_*", "kvm_vm_info"))
    names = {name for name, _, _ in samples_in(parse_text(text_of(reading, choice=choice)))}
    kvm = {name for name in names if not name.startswith("kvmscope_")}
    assert "kvm_vm_exits_total" in kvm
    assert not {
        name for name in kvm if not name.startswith("kvm_vm_") or name.startswith(("kvm_vm_metric", "kvm_vm_info"))
    }


@pytest.mark.parametrize("limit", [10, 60, 200, 500])
def test_a_budget_leaves_out_whole_names_and_says_how_many_series(reading: Reading, limit: int) -> None:
    options: dict[str, Any] = {"detail": Detail.FULL}
    whole = text_of(reading, **options)
    text = text_of(reading, **options, choice=SeriesChoice(limit=limit))
    left = values(text, "kvmscope_series_left_out")
    written = int(values(text, "kvmscope_series")[()])
    assert written + sum(left.values()) == values(whole, "kvmscope_series")[()]
    names = {name for name, _, _ in samples_in(parse_text(text))}
    core = {
        "kvm_host_info",
        "kvm_vm_info",
        "kvm_vm_apicv_state",
        "kvm_host_apicv",
        "kvm_vm_finding",
        "kvm_vm_apicv_reason",
    }
    assert written <= limit or {name for name in names if name.startswith("kvm_")} <= core
    for name in names - {"kvmscope_series", "kvmscope_series_left_out"}:
        assert values(text, name) == values(whole, name)


def test_the_first_to_go_are_the_histograms_of_vcpus(reading: Reading) -> None:
    whole = int(values(text_of(reading, detail=Detail.FULL), "kvmscope_series")[()])
    text = text_of(reading, detail=Detail.FULL, choice=SeriesChoice(limit=whole - 1))
    assert set(values(text, "kvmscope_series_left_out")) == {("vcpu-histograms",)}


def test_gaps_are_counted_by_reason(reading: Reading) -> None:
    assert values(text_of(reading), "kvmscope_gaps") == {
        ("its stats fd is not open",): 1,
        ("2 processes may not be looked into",): 1,
    }


def test_a_host_without_vms_is_written_too(read_vms: Callable[[Sequence[VmSpec]], Reading]) -> None:
    text = text_of(read_vms([]))
    assert values(text, "kvmscope_series")[()] == 1
    assert "kvm_vm_info" not in text
