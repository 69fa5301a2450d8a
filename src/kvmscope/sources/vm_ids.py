"""Ids of VMs, which are equal for all readers with the same facts about a VM.

A VM's id is a hash of the boot id and of the VM's debugfs directory, ``debugfs/kvm/TID-FD``: the number of its inode
and its time of creation. A source that cannot see the directory hashes the VMM's process and a count of its VMs.
The functions are also in sources/bpf/identity.h, for programs in the kernel.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from contextlib import suppress

from ..linux.boot import boot_key
from ..sample import VmId

DEBUGFS = "/sys/kernel/debug/kvm"
_ALL = (1 << 64) - 1
_BY_BIRTH, _BY_PROCESS = 0, 1


def vm_id_by_birth(inode: int, created_ns: int) -> VmId:
    """The id of the VM whose debugfs directory has this inode number and time of creation."""
    return VmId(_hash(inode, created_ns, _BY_BIRTH))


def vm_id_in_process(pid: int, started_ticks: int, serial: int) -> VmId:
    """An id for the ``serial``-th VM seen in one process: equal for all readers that saw the same number of its VMs."""
    return VmId(_hash(pid & 0xFFFF_FFFF, started_ticks, 2 * serial + _BY_PROCESS))


def vm_id_in_debugfs(creators: Iterable[int], fd: int, *, folder: str = DEBUGFS) -> VmId | None:
    """The id of the VM that one of these threads created as ``fd``; None if its debugfs directory cannot be seen.

    Needs root. Works under lockdown, since no file is opened.
    """
    for tid in creators:
        with suppress(OSError):
            status = os.stat(f"{folder}/{tid}-{fd}")  # noqa: PTH116
            return vm_id_by_birth(status.st_ino, status.st_ctime_ns)
    return None


def _hash(first: int, second: int, kind: int) -> int:
    key = struct.unpack("=2Q", boot_key())
    return _mix(_mix(_mix(first ^ key[0]) + second) + ((kind & _ALL) ^ key[1]))


def _mix(x: int) -> int:
    x &= _ALL
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _ALL
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _ALL
    return x ^ x >> 31
