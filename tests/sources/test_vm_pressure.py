"""Pressure of cgroups beside what a source read: shared by VMs of one cgroup, and unknown with the reason, never 0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from kvmscope.linux.cgroups import NO_PRESSURE
from kvmscope.linux.facts import Fact
from kvmscope.sample import Sample, VmId
from kvmscope.schema import Scope
from kvmscope.sources.files import VmStats, assemble
from kvmscope.sources.vm_pressure import PROVIDER, SCHEMA, with_pressure


def sample_of(*pids: int) -> Sample:
    vms = [VmStats(VmId(1 + number), [], [], pid=pid) for number, pid in enumerate(pids)]
    return assemble(vms, source="bpf", taken_ns=1, monotonic_ns=1)


def group_with(folder: Path, **totals: tuple[int, int]) -> Fact[str]:
    """A cgroup whose files say that its tasks waited for so many microseconds, some and full."""
    folder.mkdir()
    for resource, (some, full) in totals.items():
        lines = (
            f"{kind} avg10=0.00 avg60=0.00 avg300=0.00 total={total}\n"
            for kind, total in (("some", some), ("full", full))
        )
        (folder / f"{resource}.pressure").write_text("".join(lines))
    return Fact(str(folder))


@pytest.fixture
def proc(tmp_path: Path) -> str:
    """A kernel that keeps pressure."""
    (tmp_path / "proc" / "pressure").mkdir(parents=True)
    return str(tmp_path / "proc")


def stats_of(sample: Sample) -> Mapping[int, Mapping[str, int]]:
    """By the row of a VM."""
    block = sample.block(PROVIDER, Scope.VM)
    if block is None:
        return {}
    return {
        row: {name: int(block.column(name)[at]) for name in SCHEMA.names} for at, row in enumerate(block.rows.tolist())
    }


def test_each_vm_has_the_pressure_of_its_cgroup_in_nanoseconds(tmp_path: Path, proc: str) -> None:
    own = group_with(tmp_path / "own", cpu=(5, 3), memory=(2, 1))
    shared = group_with(tmp_path / "shared", cpu=(70, 30), memory=(0, 0))
    read = with_pressure(sample_of(10, 20, 30), {10: shared, 20: own, 30: shared}, proc_root=proc)
    of_shared = {"cpu_some_ns": 70_000, "cpu_full_ns": 30_000, "memory_some_ns": 0, "memory_full_ns": 0}
    of_own = {"cpu_some_ns": 5000, "cpu_full_ns": 3000, "memory_some_ns": 2000, "memory_full_ns": 1000}
    assert stats_of(read) == {0: of_shared, 1: of_own, 2: of_shared}
    assert read.gaps == ()


def test_a_vm_whose_pressure_is_not_known_has_no_row_and_the_reason(tmp_path: Path, proc: str) -> None:
    known = group_with(tmp_path / "known", cpu=(5, 3), memory=(2, 1))
    half = group_with(tmp_path / "half", cpu=(5, 3))
    sample = sample_of(10, 20, 30, 40)
    read = with_pressure(sample, {10: half, 20: known, 30: Fact.unknown("in the root cgroup")}, proc_root=proc)
    assert list(stats_of(read)) == [1]
    assert {gap.vm for gap in read.gaps} == {sample.vms.vm_id(row) for row in (0, 2, 3)}
    assert {gap.provider for gap in read.gaps} == {PROVIDER}
    assert "in the root cgroup" in {gap.reason for gap in read.gaps}


def test_a_kernel_without_pressure_is_one_gap_of_the_host(tmp_path: Path) -> None:
    groups = {pid: group_with(tmp_path / str(pid)) for pid in (10, 20)}
    read = with_pressure(sample_of(10, 20), groups, proc_root=str(tmp_path / "proc"))
    assert stats_of(read) == {}
    assert [(gap.reason, gap.vm) for gap in read.gaps] == [(NO_PRESSURE, None)]


def test_a_host_without_vms_lacks_nothing() -> None:
    assert with_pressure(sample_of(), {}).gaps == ()
