"""How metrics, gaps and the choice of a source are put into words."""

from __future__ import annotations

import pytest

from kvmscope.catalog.metrics import MetricUnit
from kvmscope.sample import Gap
from kvmscope.view.text import cells, cut, format_metric, no_vm_line, note_lines


@pytest.mark.parametrize(
    ("unit", "value", "text", "partial"),
    [
        (MetricUnit.PER_SECOND, 15300.0, "15.3k", "≥15.3k"),
        (MetricUnit.COUNT, 2.0, "2", "≥2"),
        (MetricUnit.CPUS, 0.5, "0.5 CPU", "≥0.5 CPU"),
        (MetricUnit.VCPUS, 0.5, "0.5 vCPU", "≥0.5 vCPU"),
        (MetricUnit.BYTES, 4096.0, "4 KiB", "≥4 KiB"),
        (MetricUnit.SHARE, 0.125, "12.5 %", "~12.5 %"),
        (MetricUnit.SECONDS, 2e-5, "20 µs", "~20 µs"),
        (MetricUnit.RATIO, 1.5, "1.5", "~1.5"),
    ],
)
def test_a_metric_is_written_in_its_unit_and_one_that_lacks_some_says_so(
    unit: MetricUnit, value: float, text: str, partial: str
) -> None:
    assert format_metric(unit, value) == text
    assert format_metric(unit, value, partial=True) == partial


@pytest.mark.parametrize("unit", MetricUnit)
def test_what_is_not_known_is_a_dash(unit: MetricUnit) -> None:
    assert format_metric(unit, None) == format_metric(unit, None, partial=True) == "–"


def test_a_lesser_source_is_named_with_the_reason_why_bpf_failed() -> None:
    why_not = {"pinned": "nothing is attached", "bpf": "loading needs CAP_BPF"}
    assert note_lines("statsfd", why_not, []) == ["read by statsfd, since bpf failed: loading needs CAP_BPF"]
    assert note_lines("bpf", {"pinned": "nothing is attached"}, []) == [], "bpf sees what pinned sees"
    assert note_lines("statsfd", {}, []) == [], "it was asked for by name"


@pytest.mark.parametrize("provider", [None, "kvm"])
def test_where_processes_could_not_be_inspected_it_is_not_said_that_there_is_no_vm(provider: str | None) -> None:
    gaps = [Gap("8 processes could not be inspected", provider=provider)]
    assert no_vm_line("statsfd", gaps) == "no VMs found, but source statsfd does not see all of this host"
    assert note_lines("statsfd", {}, gaps) == ["missing data: 8 processes could not be inspected"]


def test_gaps_of_a_group_or_a_stat_leave_no_doubt_that_there_is_no_vm() -> None:
    for gap in (Gap("off", provider="exits"), Gap("odd", provider="kvm", stat="exits")):
        assert no_vm_line("bpf", [gap]).startswith("no VM is running here")


@pytest.mark.parametrize(
    ("text", "width"),
    [("abc", 3), ("数据", 4), ("e\u0301", 1), ("…–", 2), ("Ａ", 2), ("", 0)],
)
def test_a_text_takes_as_many_columns_as_a_terminal_gives_it(text: str, width: int) -> None:
    assert cells(text) == width


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("abcdef", 6, "abcdef"), ("abcdef", 5, "abcd…"), ("数据库", 5, "数据…"), ("数据库", 4, "数…"), ("abc", 1, "…")],
)
def test_a_text_that_is_cut_fits_and_says_so(text: str, width: int, expected: str) -> None:
    assert cut(text, width) == expected
    assert cells(cut(text, width)) <= width
