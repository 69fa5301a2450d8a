"""The table of workloads is sound, and docs/reference/lab.md shows it as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmscope.errors import UsageError
from kvmscope.lab.workloads import (
    HARDWARE,
    WORKLOADS,
    Bound,
    Engine,
    StatBounds,
    Workload,
    as_markdown,
    find_engine,
    find_workload,
)

DOCS = Path(__file__).parent.parent.parent / "docs/reference/lab.md"

every_workload = pytest.mark.parametrize("workload", WORKLOADS.values(), ids=lambda workload: workload.name)


@every_workload
def test_its_guest_fits_below_the_mailboxes_in_one_word_addresses(workload: Workload) -> None:
    assert 0 < len(workload.image) <= 0x8000


@every_workload
def test_every_expectation_gives_its_reason_and_a_bound_that_can_fail(workload: Workload) -> None:
    assert workload.expectations
    for expectation in workload.expectations:
        assert expectation.reason
        assert expectation.engines
        rejects_zero = not expectation.allows(0, 1000)
        rejects_many = not expectation.allows(10**9, 1000)
        assert rejects_zero or rejects_many


@every_workload
def test_no_stat_has_two_expectations_on_one_engine(workload: Workload) -> None:
    for engine in Engine:
        stats = [expectation.stat for expectation in workload.expectations if engine in expectation.engines]
        assert len(stats) == len(set(stats))


def test_a_bound_allows_its_ends_and_nothing_beyond() -> None:
    expectation = StatBounds("exits", Bound(1), Bound(1.1, 16), "")
    assert [expectation.allows(moved, 100) for moved in (99, 100, 126, 127)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (Bound(1, 1), Bound(1, 1), "= N + 1"),
        (Bound(0), Bound(0), "= 0"),
        (Bound(1), None, "≥ N"),
        (Bound(0), Bound(1.1, 16), "0 … 1.1 N + 16"),
    ],
)
def test_a_bound_is_written_as_a_formula(low: Bound, high: Bound | None, text: str) -> None:
    assert StatBounds("exits", low, high, "").bound == text


def test_an_unknown_workload_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(UsageError) as caught:
        find_workload("hal")
    assert "halt" in caught.value.nearest


def test_the_documentation_shows_this_very_table() -> None:
    assert as_markdown() in DOCS.read_text()


@pytest.mark.parametrize(
    ("files", "flags", "engine"),
    [
        ({"kvm_pvm/refcnt": "1"}, "avic", Engine.PVM),
        ({"kvm_intel/parameters/enable_apicv": "Y\n"}, "vmx", Engine.HARDWARE_APICV),
        ({"kvm_intel/parameters/enable_apicv": "N\n"}, "vmx", Engine.HARDWARE),
        ({"kvm_amd/parameters/avic": "0\n"}, "svm avic", Engine.HARDWARE),
        ({"kvm_amd/parameters/avic": "Y\n"}, "svm avic", Engine.HARDWARE_APICV),
        ({"kvm_amd/parameters/avic": "Y\n"}, "svm x2avic", Engine.FORCED_AVIC),
        ({}, "", None),
    ],
)
def test_the_engine_is_told_by_the_loaded_module_and_the_cpu(
    tmp_path: Path, files: dict[str, str], flags: str, engine: Engine | None
) -> None:
    for name, content in files.items():
        (tmp_path / "module" / name).parent.mkdir(parents=True)
        (tmp_path / "module" / name).write_text(content)
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: fpu {flags}\n")
    assert find_engine(proc_root=str(tmp_path), sys_root=str(tmp_path)) is engine


def test_interrupts_through_the_apic_do_not_arrive_where_avic_is_forced() -> None:
    stuck = {name for name, workload in WORKLOADS.items() if workload.ends and not workload.ends_on(Engine.FORCED_AVIC)}
    assert stuck == {"halt", "ioapic", "msi", "kick", "wake", "uneven", "ipi"}
    assert all(WORKLOADS[name].ends_on(Engine.HARDWARE_APICV) for name in stuck)


def test_a_guest_that_an_engine_cannot_run_does_not_come_to_its_end_there() -> None:
    assert not WORKLOADS["yield"].ends_on(Engine.PVM)
    assert all(WORKLOADS["yield"].ends_on(engine) for engine in HARDWARE)
