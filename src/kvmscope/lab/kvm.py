"""The ioctls of /dev/kvm that the lab needs, as three objects: Kvm, LabVm, Vcpu. x86-64 only.

It creates and runs VMs; guest code (``workloads``) and threads (``vmm``) are elsewhere.
Rule: every fd and mapping belongs to exactly one object, and closing that object releases it.
Source: Documentation/virt/kvm/api.rst; numbers and structures are in ``abi``.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import platform
from collections.abc import Callable
from ctypes import c_uint64
from pathlib import Path
from typing import Any

from ..closing import Closable
from ..errors import SourceError, Unavailable
from ..linux.kvm_device import DEVICE, open_kvm
from .abi import (
    IOCTL_NAMES,
    KVM_CAP_DIRTY_LOG_RING,
    KVM_CAP_HALT_POLL,
    KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
    KVM_CLEAR_DIRTY_LOG,
    KVM_CREATE_IRQCHIP,
    KVM_CREATE_PIT2,
    KVM_CREATE_VCPU,
    KVM_CREATE_VM,
    KVM_DIRTY_GFN_F_DIRTY,
    KVM_DIRTY_GFN_F_RESET,
    KVM_DIRTY_LOG_INITIALLY_SET,
    KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
    KVM_DIRTY_LOG_PAGE_OFFSET,
    KVM_ENABLE_CAP,
    KVM_EXIT_INTR,
    KVM_GET_DIRTY_LOG,
    KVM_GET_IRQCHIP,
    KVM_GET_PIT2,
    KVM_GET_REGS,
    KVM_GET_SREGS,
    KVM_GET_STATS_FD,
    KVM_GET_SUPPORTED_CPUID,
    KVM_GET_VCPU_MMAP_SIZE,
    KVM_IRQ_LINE,
    KVM_MEM_LOG_DIRTY_PAGES,
    KVM_REINJECT_CONTROL,
    KVM_RESET_DIRTY_RINGS,
    KVM_RUN,
    KVM_SET_CPUID2,
    KVM_SET_IDENTITY_MAP_ADDR,
    KVM_SET_IRQCHIP,
    KVM_SET_MP_STATE,
    KVM_SET_PIT2,
    KVM_SET_REGS,
    KVM_SET_SREGS,
    KVM_SET_TSS_ADDR,
    KVM_SET_USER_MEMORY_REGION,
    KVM_SIGNAL_MSI,
    ChipState,
    ClearDirtyLog,
    Cpuid,
    DirtyGfn,
    DirtyLog,
    EnableCap,
    IrqchipState,
    IrqLevel,
    MemoryRegion,
    MpState,
    Msi,
    PitConfig,
    PitState,
    Regs,
    ReinjectControl,
    RunState,
    Sregs,
)

PAGE = 4096

MEMORY_LIMIT = 0x7FFB_C000
"""Guest memory ends below this address. The four pages that Intel's KVM needs for real mode are here; it is below
2 GiB, since fcntl.ioctl takes a C int."""
_IDENTITY_MAP_ADDRESS = MEMORY_LIMIT
_TSS_ADDRESS = MEMORY_LIMIT + PAGE
_UNTOUCHED_BYTES = 8 << 30
_PAGES_A_WALK = 1 << 17
"""A walk of about 200 µs: many times longer than a fault, far shorter than a time slice."""
_MAP_NORESERVE = 0x4000  # mmap has it from Python 3.13 on


def ioctl(fd: int, request: int, argument: Any = 0) -> int:
    """Call an ioctl. Raises SourceError with its name; EINTR is InterruptedError."""
    try:
        return int(fcntl.ioctl(fd, request, argument))
    except InterruptedError:
        raise
    except OSError as error:
        name = IOCTL_NAMES.get(request, hex(request))
        raise SourceError(f"{name}: {error.strerror}", path=DEVICE, errno=error.errno) from error


class Kvm(Closable):
    """An open /dev/kvm. Raises Unavailable or PermissionNeeded, with a remedy, if it cannot be opened."""

    def __init__(self, device: str | Path = DEVICE) -> None:
        if platform.machine() != "x86_64":
            raise Unavailable(f"the lab's guests are x86-64, this machine is {platform.machine()}")
        self.fd = open_kvm(str(device))
        self.run_size = ioctl(self.fd, KVM_GET_VCPU_MMAP_SIZE)

    def supported_cpuid(self) -> Cpuid:
        """The CPUID that this KVM supports for guests."""
        cpuid = Cpuid(nent=256)
        ioctl(self.fd, KVM_GET_SUPPORTED_CPUID, cpuid)
        return cpuid

    def create_vm(self) -> LabVm:
        return LabVm(self)

    def close(self) -> None:
        self.fd = _close(self.fd)


class LabVm(Closable):
    """One VM: its memory, its interrupt controllers, its vCPUs. Closing it closes them all."""

    def __init__(self, kvm: Kvm) -> None:
        self.kvm = kvm
        self.fd = ioctl(kvm.fd, KVM_CREATE_VM)
        self.vcpus: list[Vcpu] = []
        self.memory: mmap.mmap | None = None
        self.ring_entries = 0
        self._untouched: mmap.mmap | None = None

    def set_memory(self, size_bytes: int, *, log_dirty: bool = False) -> mmap.mmap:
        """Give the guest ``size_bytes`` at address 0, in pages of 4 KiB, so each page costs one fault.

        ``log_dirty`` makes KVM log the pages that the guest writes to, for ``fetch_dirty_log``.
        """
        memory = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        self.memory = memory
        self._set_region(0, KVM_MEM_LOG_DIRTY_PAGES if log_dirty else 0, 0, size_bytes, _address(memory))
        return memory

    def _set_region(self, slot: int, flags: int, start: int, size_bytes: int, address: int) -> None:
        region = MemoryRegion(
            slot=slot, flags=flags, guest_phys_addr=start, memory_size=size_bytes, userspace_addr=address
        )
        ioctl(self.fd, KVM_SET_USER_MEMORY_REGION, region)

    def fetch_dirty_log(self) -> bytes:
        """One bit per page, set if it was written to since the last call. KVM then tracks the next write to each."""
        assert self.memory is not None
        words = (c_uint64 * -(-len(self.memory) // PAGE // 64))()
        ioctl(self.fd, KVM_GET_DIRTY_LOG, DirtyLog(dirty_bitmap=ctypes.addressof(words)))
        return bytes(words)

    def enable_dirty_rings(self, entries: int) -> None:
        """Have KVM log dirty pages in a ring per vCPU, not in bitmaps. Call it before the first vCPU exists."""
        self.enable(KVM_CAP_DIRTY_LOG_RING, entries * ctypes.sizeof(DirtyGfn))
        self.ring_entries = entries

    def reset_dirty_rings(self) -> None:
        """Return the taken entries to KVM, which then tracks the next write to each page."""
        ioctl(self.fd, KVM_RESET_DIRTY_RINGS)

    def add_untouched_memory(self) -> None:
        """Give the VM another 8 GiB from address 4 GiB on, which stay untouched, for ``restart_dirty_log``."""
        self.enable(
            KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET
        )
        self._untouched = mmap.mmap(-1, _UNTOUCHED_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)

    def restart_dirty_log(self) -> None:
        """Restart the dirty log of the untouched memory and clear it, which holds the VM's mmu_lock.

        A new log begins with every page set. KVM_CLEAR_DIRTY_LOG holds the lock from the first page to the last and
        does not yield to waiters (kvm_clear_dirty_log_protect in virt/kvm/kvm_main.c), unlike zapping or unmapping.
        """
        assert self._untouched is not None
        for flags in (0, KVM_MEM_LOG_DIRTY_PAGES):
            self._set_region(1, flags, 4 << 30, _UNTOUCHED_BYTES, _address(self._untouched))
        bitmap = ctypes.create_string_buffer(b"\xff" * (_PAGES_A_WALK // 8))
        for first in range(0, _UNTOUCHED_BYTES // PAGE, _PAGES_A_WALK):
            clear = ClearDirtyLog(
                slot=1, first_page=first, num_pages=_PAGES_A_WALK, dirty_bitmap=ctypes.addressof(bitmap)
            )
            ioctl(self.fd, KVM_CLEAR_DIRTY_LOG, clear)

    def end_dirty_log(self) -> None:
        """Stop the dirty log of the untouched memory."""
        assert self._untouched is not None
        self._set_region(1, 0, 4 << 30, _UNTOUCHED_BYTES, _address(self._untouched))

    def set_intel_pages(self) -> None:
        """Place the pages that Intel's KVM needs before the first vCPU; harmless elsewhere."""
        ioctl(self.fd, KVM_SET_TSS_ADDR, _TSS_ADDRESS)
        ioctl(self.fd, KVM_SET_IDENTITY_MAP_ADDR, c_uint64(_IDENTITY_MAP_ADDRESS))

    def enable(self, capability: int, *arguments: int) -> None:
        cap = EnableCap(cap=capability)
        cap.args[: len(arguments)] = arguments
        ioctl(self.fd, KVM_ENABLE_CAP, cap)

    def limit_halt_poll(self, limit_ns: int) -> None:
        """Set the VM's halt polling limit, which replaces the host's; also works on a running VM."""
        self.enable(KVM_CAP_HALT_POLL, limit_ns)

    def create_irqchip(self) -> None:
        """Create PIC, IOAPIC and local APICs in the kernel."""
        ioctl(self.fd, KVM_CREATE_IRQCHIP)

    def create_pit(self) -> None:
        ioctl(self.fd, KVM_CREATE_PIT2, PitConfig())

    def set_pit_reinjection(self, on: bool) -> None:
        """Set whether the PIT reinjects ticks that the guest missed; KVM's default is True."""
        ioctl(self.fd, KVM_REINJECT_CONTROL, ReinjectControl(pit_reinject=on))

    def start_pit(self, count: int) -> None:
        """Let the PIT's channel 0 tick every ``count`` cycles of its 1,193,182 Hz clock (mode 2)."""
        state = PitState()
        ioctl(self.fd, KVM_GET_PIT2, state)
        state.channels[0].count = count
        state.channels[0].mode = 2
        state.channels[0].gate = 1
        ioctl(self.fd, KVM_SET_PIT2, state)

    def change_chip(self, chip_id: int, change: Callable[[ChipState], None]) -> None:
        """Read the state of the PIC or IOAPIC, let ``change`` edit it, write it back."""
        chip = IrqchipState(chip_id=chip_id)
        ioctl(self.fd, KVM_GET_IRQCHIP, chip)
        change(chip.chip)
        ioctl(self.fd, KVM_SET_IRQCHIP, chip)

    def pulse_line(self, gsi: int) -> None:
        """Raise and lower an interrupt line: one edge."""
        ioctl(self.fd, KVM_IRQ_LINE, IrqLevel(irq=gsi, level=1))
        ioctl(self.fd, KVM_IRQ_LINE, IrqLevel(irq=gsi, level=0))

    def signal_msi(self, *, apic_id: int, vector: int) -> None:
        """Send one fixed, edge-triggered message interrupt to an APIC id below 255."""
        ioctl(self.fd, KVM_SIGNAL_MSI, Msi(address_lo=0xFEE0_0000 | apic_id << 12, data=vector))

    def create_vcpu(self, vcpu_id: int) -> Vcpu:
        vcpu = Vcpu(self, vcpu_id)
        self.vcpus.append(vcpu)
        return vcpu

    def stats_fd(self) -> int:
        """A new fd of this VM's statistics. The caller closes it; until then it keeps the VM alive."""
        return ioctl(self.fd, KVM_GET_STATS_FD)

    def close(self) -> None:
        for vcpu in self.vcpus:
            vcpu.close()
        self.fd = _close(self.fd)
        if self.memory is not None:
            self.memory.close()
            self.memory = None
        if self._untouched is not None:
            self._untouched.close()
            self._untouched = None


class Vcpu(Closable):
    """One vCPU. Only its owner thread may call ``run``; any thread may call ``request_exit``."""

    def __init__(self, vm: LabVm, vcpu_id: int) -> None:
        self.vm = vm
        self.id = vcpu_id
        self.fd = ioctl(vm.fd, KVM_CREATE_VCPU, vcpu_id)
        self._mapping: mmap.mmap | None = None
        self._state: RunState | None = None
        self._ring: mmap.mmap | None = None
        self._ring_taken = 0

    @property
    def state(self) -> RunState:
        """The shared struct kvm_run; mapped at first use, so a vCPU that never runs has no mapping."""
        if self._state is None:
            self._mapping = mmap.mmap(self.fd, self.vm.kvm.run_size)
            self._state = RunState.from_buffer(self._mapping)
        return self._state

    def run(self) -> int:
        """Run the guest until a userspace exit; returns its reason, KVM_EXIT_INTR if a signal ended the run."""
        state = self.state
        try:
            ioctl(self.fd, KVM_RUN)
        except InterruptedError:
            return KVM_EXIT_INTR
        return int(state.exit_reason)

    def take_dirty_ring(self) -> list[int]:
        """Take the new pages of its ring, in order; for one thread at a time."""
        entries = self.vm.ring_entries
        if self._ring is None:
            size = entries * ctypes.sizeof(DirtyGfn)
            self._ring = mmap.mmap(self.fd, size, offset=KVM_DIRTY_LOG_PAGE_OFFSET * PAGE)
        taken = []
        ring = (DirtyGfn * entries).from_buffer(self._ring)
        while (entry := ring[self._ring_taken % entries]).flags == KVM_DIRTY_GFN_F_DIRTY:
            taken.append(int(entry.offset))
            entry.flags = KVM_DIRTY_GFN_F_RESET
            self._ring_taken += 1
        return taken

    def request_exit(self, on: bool = True) -> None:
        """Make KVM_RUN return at once from now on; if the guest is running, its thread also needs a signal."""
        self.state.immediate_exit = on

    def set_cpuid(self, cpuid: Cpuid) -> None:
        ioctl(self.fd, KVM_SET_CPUID2, cpuid)

    def make_runnable(self) -> None:
        """Let a vCPU other than the first start at once, rather than wait for another to start it."""
        ioctl(self.fd, KVM_SET_MP_STATE, MpState(mp_state=0))

    def regs(self) -> Regs:
        regs = Regs()
        ioctl(self.fd, KVM_GET_REGS, regs)
        return regs

    def set_regs(self, regs: Regs) -> None:
        ioctl(self.fd, KVM_SET_REGS, regs)

    def sregs(self) -> Sregs:
        sregs = Sregs()
        ioctl(self.fd, KVM_GET_SREGS, sregs)
        return sregs

    def set_sregs(self, sregs: Sregs) -> None:
        ioctl(self.fd, KVM_SET_SREGS, sregs)

    def stats_fd(self) -> int:
        """A new fd of this vCPU's statistics. Waits while the vCPU is inside KVM_RUN."""
        return ioctl(self.fd, KVM_GET_STATS_FD)

    def close(self) -> None:
        self._state = None  # it points into the mapping, which could not be closed otherwise
        if self._mapping is not None:
            self._mapping.close()
            self._mapping = None
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        self.fd = _close(self.fd)


def _address(memory: mmap.mmap) -> int:
    # A view would prevent the mapping from being closed, so only its address is kept.
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _close(fd: int) -> int:
    if fd >= 0:
        os.close(fd)
    return -1
