"""How large the arrays are that a run of the iterator fills, and what the loader passes to the program."""

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
"""vCPU threads of one process that it can keep apart: MARKS of kvmscope.bpf.c."""
_COUNTS = ("vm_counts", "vcpu_counts", "ga_log_counts")


@dataclass(frozen=True, slots=True)
class Layout:
    """How large the records of this kernel are, and how many fit. Sizes in bytes."""

    vm_stat_size: int
    vcpu_stat_size: int
    vm_room: int
    vcpu_room: int
    slots: int
    root_slots: int = 0
    """Of ``slots``, the first, which only root takes."""
    is_svm: bool = False
    """VMs are run by kvm_amd."""
    counts_apicv: bool = False
    """Group apicv: events are counted."""
    reads_apic: bool = False
    """Group apic: registers of local APICs are read."""

    @property
    def vm_size(self) -> int:
        return snapshot.VM_HEAD_SIZE + self.vm_stat_size + self.counts_apicv * 8 * snapshot.VM_EVENT_WORDS

    @property
    def vcpu_size(self) -> int:
        return snapshot.VCPU_HEAD_SIZE + self.vcpu_stat_size + self.counts_apicv * 8 * snapshot.VCPU_EVENT_WORDS

    @property
    def maps(self) -> dict[str, tuple[int | None, int]]:
        """(value_size, max_entries) of the maps that depend on kernel and host; None: as the object has it."""
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
        """What the arrays hold in the kernel, used or not."""
        return sum((size or 0) * entries for size, entries in self.maps.values())

    def serves(self, wanted: Layout) -> bool:
        """Whether what was loaded so has records of the same shape, and room for at least as much."""
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
