"""The sizes of the arrays that a run of the iterator fills, and the constants that the loader passes to the program."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace

from ...codec import snapshot
from ...linux.boot import boot_key

_GROUP_APICV, _GROUP_APIC = 1, 2
_CHUNK = 64
"""vCPUs that the program reads before it checks them: CHUNK of kvmscope.bpf.c."""
_MARKS = 4096
"""vCPU threads of one process that it can distinguish: MARKS of kvmscope.bpf.c."""
_COUNTS = ("vm_counts", "vcpu_counts", "ga_log_counts")


@dataclass(frozen=True, slots=True)
class Layout:
    """The sizes of this kernel's records in bytes, and the number of records that fit."""

    vm_stat_size: int
    vcpu_stat_size: int
    vm_room: int
    vcpu_room: int
    slots: int
    root_slots: int = 0
    """How many of the ``slots``, the first ones, only root uses."""
    is_svm: bool = False
    """Whether kvm_amd runs the VMs."""
    counts_apicv: bool = False
    """Whether events of group apicv are counted."""
    reads_apic: bool = False
    """Whether registers of local APICs are read (group apic)."""

    @property
    def vm_size(self) -> int:
        return snapshot.VM_HEAD_SIZE + self.vm_stat_size + self.counts_apicv * 8 * snapshot.VM_EVENT_WORDS

    @property
    def vcpu_size(self) -> int:
        return snapshot.VCPU_HEAD_SIZE + self.vcpu_stat_size + self.counts_apicv * 8 * snapshot.VCPU_EVENT_WORDS

    @property
    def maps(self) -> dict[str, tuple[int | None, int]]:
        """(value_size, max_entries) of the maps that depend on kernel and host; None: as in the object."""
        unused = {} if self.counts_apicv else dict.fromkeys(_COUNTS, (None, 1))
        return {
            **unused,
            "staged_vms": (self.vm_size, self.slots),
            "staged_vcpus": (self.vcpu_size, _CHUNK * self.slots),
            "marks": (None, _MARKS * self.slots),
            "vms": (self.vm_size, self.vm_room * self.slots),
            "vcpus": (self.vcpu_size, self.vcpu_room * self.slots),
        }

    @property
    def memory_bytes(self) -> int:
        """The kernel memory of the arrays, used or not."""
        return sum((size or 0) * entries for size, entries in self.maps.values())

    def serves(self, wanted: Layout) -> bool:
        """Whether a program with this layout has records of the same shape and at least as much room as ``wanted``."""
        roomy = replace(wanted, vm_room=self.vm_room, vcpu_room=self.vcpu_room)
        return self == roomy and self.vm_room >= wanted.vm_room and self.vcpu_room >= wanted.vcpu_room

    def constants(self) -> bytes:
        """The program's ``config``."""
        return boot_key() + struct.pack(
            "=8sIIIIII",
            os.urandom(8),
            self.slots,
            self.vm_room,
            self.vcpu_room,
            self.is_svm,
            _GROUP_APICV * self.counts_apicv | _GROUP_APIC * self.reads_apic,
            self.root_slots,
        )
