"""The errors of a run of the iterator, besides Busy."""

from __future__ import annotations

from ...codec.snapshot import SnapshotHeader
from ...errors import SourceError
from .layout import Layout


class Replaced(SourceError):
    """The opened program is no longer the attached one."""


class Overflow(SourceError):
    """The host has more VMs or vCPUs than the loaded program has room for."""

    def __init__(self, header: SnapshotHeader, layout: Layout) -> None:
        room = f"{layout.vm_room} VMs with {layout.vcpu_room} vCPUs"
        super().__init__(f"room for {room}, but {header.vms} with {header.vcpus} run here")
        self.vm_room, self.vcpu_room = layout.vm_room, layout.vcpu_room
        self.vms = header.vms
        self.vcpus = header.vcpus
