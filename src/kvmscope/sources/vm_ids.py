"""Ids of VMs for sources that know a VM by its process alone."""

from __future__ import annotations

import hashlib

from ..sample import VmId


def vm_id_in_process(pid: int, started_ticks: int, serial: int) -> VmId:
    """An id for the ``serial``-th VM that was seen in one process: the same to every reader that saw as many of it."""
    digest = hashlib.blake2b(f"{pid} {started_ticks} {serial}".encode(), digest_size=8).digest()
    return VmId(int.from_bytes(digest, "big"))
