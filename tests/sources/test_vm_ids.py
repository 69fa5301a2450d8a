"""Ids of VMs: by birth, and by process where the birth cannot be seen."""

from __future__ import annotations

from pathlib import Path

from kvmscope.sources.vm_ids import vm_id_by_birth, vm_id_in_debugfs, vm_id_in_process


def test_vm_ids_differ_by_process_start_and_serial() -> None:
    ids = {vm_id_in_process(pid, start, serial) for pid in (1, 11) for start in (1, 11) for serial in (-1, 0, 1)}
    assert len(ids) == 12
    assert vm_id_in_process(1, 11, 0) in ids


def test_an_id_by_birth_is_none_by_process() -> None:
    births = {vm_id_by_birth(number, created_ns) for number in range(50) for created_ns in range(50)}
    processes = {
        vm_id_in_process(pid, ticks, serial) for pid in range(20) for ticks in range(20) for serial in range(3)
    }
    assert len(births) == 2500
    assert not births & processes


def test_the_directory_of_the_thread_that_made_the_vm_gives_its_id(tmp_path: Path) -> None:
    directory = tmp_path / "101-9"
    directory.mkdir()
    status = directory.stat()
    expected = vm_id_by_birth(status.st_ino, status.st_ctime_ns)
    assert vm_id_in_debugfs([100, 101], 9, folder=str(tmp_path)) == expected
    assert vm_id_in_debugfs([100, 101], 8, folder=str(tmp_path)) is None
    assert vm_id_in_debugfs([9], 101, folder=str(tmp_path)) is None
