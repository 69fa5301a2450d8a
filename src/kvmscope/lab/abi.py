"""The numbers and structures of /dev/kvm on x86-64 that the lab needs; ``kvm`` has the objects that use them.

Source: include/uapi/linux/kvm.h and arch/x86/include/uapi/asm/kvm.h (Linux 6.1-6.18). tests/lab/test_abi.py compares
each of them with the installed headers.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int64, c_uint8, c_uint16, c_uint32, c_uint64

# Capabilities, by their numbers in the uapi header.
KVM_CAP_IRQCHIP = 0
KVM_CAP_MAX_VCPUS = 66
KVM_CAP_SPLIT_IRQCHIP = 121
KVM_CAP_MAX_VCPU_ID = 128
KVM_CAP_X2APIC_API = 129
KVM_CAP_IMMEDIATE_EXIT = 136
KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 = 168
KVM_CAP_HALT_POLL = 182
KVM_CAP_DIRTY_LOG_RING = 192
KVM_CAP_BINARY_STATS_FD = 203

KVM_EXIT_UNKNOWN = 0
KVM_EXIT_EXCEPTION = 1
KVM_EXIT_IO = 2
KVM_EXIT_HYPERCALL = 3
KVM_EXIT_DEBUG = 4
KVM_EXIT_HLT = 5
KVM_EXIT_MMIO = 6
KVM_EXIT_IRQ_WINDOW_OPEN = 7
KVM_EXIT_SHUTDOWN = 8
KVM_EXIT_FAIL_ENTRY = 9
KVM_EXIT_INTR = 10
KVM_EXIT_SET_TPR = 11
KVM_EXIT_TPR_ACCESS = 12
KVM_EXIT_NMI = 16
KVM_EXIT_INTERNAL_ERROR = 17
KVM_EXIT_SYSTEM_EVENT = 24
KVM_EXIT_IOAPIC_EOI = 26
KVM_EXIT_X86_RDMSR = 29
KVM_EXIT_X86_WRMSR = 30
KVM_EXIT_DIRTY_RING_FULL = 31

KVM_MEM_LOG_DIRTY_PAGES = 1
KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE = 1
KVM_DIRTY_LOG_INITIALLY_SET = 2
KVM_DIRTY_LOG_PAGE_OFFSET = 64
KVM_DIRTY_GFN_F_DIRTY = 1
KVM_DIRTY_GFN_F_RESET = 2

KVM_IRQCHIP_PIC_MASTER = 0
KVM_IRQCHIP_IOAPIC = 2
KVM_IOAPIC_NUM_PINS = 24

EXIT_NAMES = {
    value: name.removeprefix("KVM_EXIT_").lower() for name, value in globals().items() if name.startswith("KVM_EXIT_")
}


class MemoryRegion(ctypes.Structure):
    """struct kvm_userspace_memory_region."""

    _fields_ = (
        ("slot", c_uint32),
        ("flags", c_uint32),
        ("guest_phys_addr", c_uint64),
        ("memory_size", c_uint64),
        ("userspace_addr", c_uint64),
    )


class DirtyLog(ctypes.Structure):
    """struct kvm_dirty_log."""

    _fields_ = (("slot", c_uint32), ("padding1", c_uint32), ("dirty_bitmap", c_uint64))


class ClearDirtyLog(ctypes.Structure):
    """struct kvm_clear_dirty_log."""

    _fields_ = (("slot", c_uint32), ("num_pages", c_uint32), ("first_page", c_uint64), ("dirty_bitmap", c_uint64))


class DirtyGfn(ctypes.Structure):
    """struct kvm_dirty_gfn: one entry of a dirty ring."""

    _fields_ = (("flags", c_uint32), ("slot", c_uint32), ("offset", c_uint64))


class IrqLevel(ctypes.Structure):
    """struct kvm_irq_level."""

    _fields_ = (("irq", c_uint32), ("level", c_uint32))


class Msi(ctypes.Structure):
    """struct kvm_msi."""

    _fields_ = (
        ("address_lo", c_uint32),
        ("address_hi", c_uint32),
        ("data", c_uint32),
        ("flags", c_uint32),
        ("devid", c_uint32),
        ("pad", c_uint8 * 12),
    )


class EnableCap(ctypes.Structure):
    """struct kvm_enable_cap."""

    _fields_ = (("cap", c_uint32), ("flags", c_uint32), ("args", c_uint64 * 4), ("pad", c_uint8 * 64))


class MpState(ctypes.Structure):
    """struct kvm_mp_state."""

    _fields_ = (("mp_state", c_uint32),)


class PitConfig(ctypes.Structure):
    """struct kvm_pit_config."""

    _fields_ = (("flags", c_uint32), ("pad", c_uint32 * 15))


class ReinjectControl(ctypes.Structure):
    """struct kvm_reinject_control."""

    _fields_ = (("pit_reinject", c_uint8), ("reserved", c_uint8 * 31))


class PitChannel(ctypes.Structure):
    """struct kvm_pit_channel_state."""

    _fields_ = (
        ("count", c_uint32),
        ("latched_count", c_uint16),
        ("count_latched", c_uint8),
        ("status_latched", c_uint8),
        ("status", c_uint8),
        ("read_state", c_uint8),
        ("write_state", c_uint8),
        ("write_latch", c_uint8),
        ("rw_mode", c_uint8),
        ("mode", c_uint8),
        ("bcd", c_uint8),
        ("gate", c_uint8),
        ("count_load_time", c_int64),
    )


class PitState(ctypes.Structure):
    """struct kvm_pit_state2."""

    _fields_ = (("channels", PitChannel * 3), ("flags", c_uint32), ("reserved", c_uint32 * 9))


class PicState(ctypes.Structure):
    """struct kvm_pic_state."""

    _fields_ = (
        ("last_irr", c_uint8),
        ("irr", c_uint8),
        ("imr", c_uint8),
        ("isr", c_uint8),
        ("priority_add", c_uint8),
        ("irq_base", c_uint8),
        ("read_reg_select", c_uint8),
        ("poll", c_uint8),
        ("special_mask", c_uint8),
        ("init_state", c_uint8),
        ("auto_eoi", c_uint8),
        ("rotate_on_auto_eoi", c_uint8),
        ("special_fully_nested_mode", c_uint8),
        ("init4", c_uint8),
        ("elcr", c_uint8),
        ("elcr_mask", c_uint8),
    )


class IoapicState(ctypes.Structure):
    """struct kvm_ioapic_state."""

    _fields_ = (
        ("base_address", c_uint64),
        ("ioregsel", c_uint32),
        ("id", c_uint32),
        ("irr", c_uint32),
        ("pad", c_uint32),
        ("redirtbl", c_uint64 * KVM_IOAPIC_NUM_PINS),
    )


class ChipState(ctypes.Union):
    """The union in struct kvm_irqchip."""

    _fields_ = (("pic", PicState), ("ioapic", IoapicState), ("dummy", c_uint8 * 512))


class IrqchipState(ctypes.Structure):
    """struct kvm_irqchip."""

    _fields_ = (("chip_id", c_uint32), ("pad", c_uint32), ("chip", ChipState))


class Regs(ctypes.Structure):
    """struct kvm_regs."""

    _fields_ = tuple(
        (name, c_uint64) for name in "rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags".split()
    )


class Segment(ctypes.Structure):
    """struct kvm_segment."""

    _fields_ = (
        ("base", c_uint64),
        ("limit", c_uint32),
        ("selector", c_uint16),
        ("type", c_uint8),
        ("present", c_uint8),
        ("dpl", c_uint8),
        ("db", c_uint8),
        ("s", c_uint8),
        ("l", c_uint8),
        ("g", c_uint8),
        ("avl", c_uint8),
        ("unusable", c_uint8),
        ("padding", c_uint8),
    )


class Dtable(ctypes.Structure):
    """struct kvm_dtable."""

    _fields_ = (("base", c_uint64), ("limit", c_uint16), ("padding", c_uint16 * 3))


class Sregs(ctypes.Structure):
    """struct kvm_sregs."""

    _fields_ = (
        *((name, Segment) for name in "cs ds es fs gs ss tr ldt".split()),
        ("gdt", Dtable),
        ("idt", Dtable),
        *((name, c_uint64) for name in "cr0 cr2 cr3 cr4 cr8 efer apic_base".split()),
        ("interrupt_bitmap", c_uint64 * 4),
    )


class CpuidEntry(ctypes.Structure):
    """struct kvm_cpuid_entry2."""

    _fields_ = (
        *((name, c_uint32) for name in "function index flags eax ebx ecx edx".split()),
        ("padding", c_uint32 * 3),
    )


class Cpuid(ctypes.Structure):
    """struct kvm_cpuid2 with room for 256 entries, KVM's maximum."""

    _fields_ = (("nent", c_uint32), ("padding", c_uint32), ("entries", CpuidEntry * 256))


class _IoExit(ctypes.Structure):
    _fields_ = (
        ("direction", c_uint8),
        ("size", c_uint8),
        ("port", c_uint16),
        ("count", c_uint32),
        ("data_offset", c_uint64),
    )


class _MmioExit(ctypes.Structure):
    _fields_ = (("phys_addr", c_uint64), ("data", c_uint8 * 8), ("len", c_uint32), ("is_write", c_uint8))


class _InternalError(ctypes.Structure):
    _fields_ = (("suberror", c_uint32), ("ndata", c_uint32), ("data", c_uint64 * 16))


class _Exit(ctypes.Union):
    _fields_ = (
        ("io", _IoExit),
        ("mmio", _MmioExit),
        ("internal", _InternalError),
        ("hardware_entry_failure_reason", c_uint64),
    )


class RunState(ctypes.Structure):
    """The start of struct kvm_run, through which KVM and the VMM exchange data around KVM_RUN."""

    _fields_ = (
        ("request_interrupt_window", c_uint8),
        ("immediate_exit", c_uint8),
        ("padding1", c_uint8 * 6),
        ("exit_reason", c_uint32),
        ("ready_for_interrupt_injection", c_uint8),
        ("if_flag", c_uint8),
        ("flags", c_uint16),
        ("cr8", c_uint64),
        ("apic_base", c_uint64),
        ("exit", _Exit),
    )


def _io(number: int) -> int:
    return 0xAE00 | number


def _sized(direction: int, number: int, kind: type[ctypes.Structure] | None, size: int | None = None) -> int:
    size = size if kind is None else ctypes.sizeof(kind)
    assert size is not None
    return direction << 30 | size << 16 | 0xAE00 | number


_WRITE, _READ = 1, 2

KVM_GET_API_VERSION = _io(0x00)
KVM_CREATE_VM = _io(0x01)
KVM_CHECK_EXTENSION = _io(0x03)
KVM_GET_VCPU_MMAP_SIZE = _io(0x04)
# The size in the ioctl number excludes the flexible array of kvm_cpuid2.
KVM_GET_SUPPORTED_CPUID = _sized(_READ | _WRITE, 0x05, None, 8)
KVM_SET_CPUID2 = _sized(_WRITE, 0x90, None, 8)
KVM_CREATE_VCPU = _io(0x41)
KVM_GET_DIRTY_LOG = _sized(_WRITE, 0x42, DirtyLog)
KVM_SET_USER_MEMORY_REGION = _sized(_WRITE, 0x46, MemoryRegion)
KVM_SET_TSS_ADDR = _io(0x47)
KVM_SET_IDENTITY_MAP_ADDR = _sized(_WRITE, 0x48, None, 8)
KVM_CREATE_IRQCHIP = _io(0x60)
KVM_IRQ_LINE = _sized(_WRITE, 0x61, IrqLevel)
KVM_GET_IRQCHIP = _sized(_READ | _WRITE, 0x62, IrqchipState)
KVM_SET_IRQCHIP = _sized(_READ, 0x63, IrqchipState)
KVM_REINJECT_CONTROL = _io(0x71)
KVM_CREATE_PIT2 = _sized(_WRITE, 0x77, PitConfig)
KVM_GET_PIT2 = _sized(_READ, 0x9F, PitState)
KVM_SET_PIT2 = _sized(_WRITE, 0xA0, PitState)
KVM_RUN = _io(0x80)
KVM_CLEAR_DIRTY_LOG = _sized(_READ | _WRITE, 0xC0, ClearDirtyLog)
KVM_RESET_DIRTY_RINGS = _io(0xC7)
KVM_GET_REGS = _sized(_READ, 0x81, Regs)
KVM_SET_REGS = _sized(_WRITE, 0x82, Regs)
KVM_GET_SREGS = _sized(_READ, 0x83, Sregs)
KVM_SET_SREGS = _sized(_WRITE, 0x84, Sregs)
KVM_SET_MP_STATE = _sized(_WRITE, 0x99, MpState)
KVM_ENABLE_CAP = _sized(_WRITE, 0xA3, EnableCap)
KVM_SIGNAL_MSI = _sized(_WRITE, 0xA5, Msi)
KVM_GET_STATS_FD = _io(0xCE)

IOCTL_NAMES = {
    value: name
    for name, value in globals().items()
    if name.startswith("KVM_") and isinstance(value, int) and value >= 0xAE00
}
