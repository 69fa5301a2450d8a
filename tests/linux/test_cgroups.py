"""Cgroups: the directory of a process by where its threads are, and pressure files as the kernel writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from kvmscope.linux import cgroups
from kvmscope.linux.cgroups import Pressure, UnifiedHierarchy, find_unified, folder_of_process, read_pressure
from kvmscope.linux.procfs import open_process

MOUNTED = UnifiedHierarchy("/sys/fs/cgroup", "/")
CPU = b"some avg10=1.50 avg60=0.40 avg300=0.10 total=2000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=700\n"


def proc_with(place: Path, threads: Mapping[int, str], mountinfo: str = "") -> str:
    """A /proc with process 7 whose threads are in these cgroups."""
    for tid, group in threads.items():
        folder = place / "7" / "task" / str(tid)
        folder.mkdir(parents=True)
        (folder / "cgroup").write_text(f"3:cpu,cpuacct:/elsewhere\n0::{group}\n")
    (place / "self").mkdir(parents=True)
    (place / "self" / "mountinfo").write_text(mountinfo)
    return str(place)


def folder_with(place: Path, threads: Mapping[int, str], hierarchy: UnifiedHierarchy | None = MOUNTED) -> str | None:
    process = open_process(7, proc_root=proc_with(place, threads))
    assert process is not None
    with process:
        return folder_of_process(process, hierarchy).value


@pytest.mark.parametrize(
    ("threads", "folder"),
    [
        ({7: "/vm", 8: "/vm"}, "/sys/fs/cgroup/vm"),
        ({7: "/vm/libvirt/emulator", 8: "/vm/libvirt/vcpu0", 9: "/vm/libvirt/vcpu1"}, "/sys/fs/cgroup/vm/libvirt"),
        ({7: "/vm-1", 8: "/vm-10"}, None),
        ({7: "/", 8: "/vm"}, None),
        ({7: "/../other"}, None),
    ],
    ids=["one", "libvirt", "names that begin alike", "root", "outside of the namespace"],
)
def test_a_process_is_in_the_innermost_cgroup_of_all_its_threads(
    tmp_path: Path, threads: Mapping[int, str], folder: str | None
) -> None:
    assert folder_with(tmp_path, threads) == folder


def test_a_part_of_the_hierarchy_has_only_what_is_below_it(tmp_path: Path) -> None:
    part = UnifiedHierarchy("/cgroups", "/pods")
    assert folder_with(tmp_path / "inside", {7: "/pods/web"}, part) == "/cgroups/web"
    assert folder_with(tmp_path / "outside", {7: "/podsaver/web"}, part) is None
    assert folder_with(tmp_path / "none", {7: "/pods/web"}, None) is None


def test_the_unified_hierarchy_is_found_beside_those_of_version_1(tmp_path: Path) -> None:
    lines = [
        "32 31 0:28 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu",
        "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:4 - cgroup2 cgroup2 rw",
    ]
    assert find_unified(proc_root=proc_with(tmp_path / "hybrid", {}, "\n".join(lines))) == UnifiedHierarchy(
        "/sys/fs/cgroup/unified", "/"
    )
    assert find_unified(proc_root=proc_with(tmp_path / "version 1", {}, lines[0])) is None


def test_totals_are_taken_from_the_file_of_a_cgroup(tmp_path: Path) -> None:
    (tmp_path / "cpu.pressure").write_bytes(CPU)
    assert read_pressure(str(tmp_path), "cpu").value == Pressure(2000, 700)


def test_half_a_file_has_no_pressure(tmp_path: Path) -> None:
    (tmp_path / "cpu.pressure").write_bytes(CPU.splitlines(keepends=True)[0])
    found = read_pressure(str(tmp_path), "cpu")
    assert found.value is None
    assert "totals" in (found.reason or "")


def test_what_is_missing_is_said_by_its_cause(tmp_path: Path) -> None:
    kept, off = tmp_path / "kept", tmp_path / "off"
    (kept / "pressure").mkdir(parents=True)
    off.mkdir()
    group = tmp_path / "group"
    assert read_pressure(str(group), "cpu", proc_root=str(off)).reason == cgroups.NO_PRESSURE
    assert "is gone" in (read_pressure(str(group), "cpu", proc_root=str(kept)).reason or "")
    group.mkdir()
    assert "cgroup.pressure" in (read_pressure(str(group), "cpu", proc_root=str(kept)).reason or "")
