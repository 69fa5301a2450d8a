"""Ids of VMs that are known by their process."""

from __future__ import annotations

from kvmscope.sources.vm_ids import vm_id_in_process


def test_vm_ids_differ_by_process_start_and_serial() -> None:
    ids = {vm_id_in_process(pid, start, serial) for pid in (1, 11) for start in (1, 11) for serial in (0, 1)}
    assert len(ids) == 8
    assert vm_id_in_process(1, 11, 0) in ids
