"""Guests of a few bytes for the scripts inside emulated x86 kernels, and the ioctls that the lab has no use for.

Their code writes to a port and starts anew, so each KVM_RUN enters the guest once and comes back.
Source: Documentation/virt/kvm/api.rst; arch/x86/include/uapi/asm/kvm.h; AMD64 APM volume 2, appendix B (the VMCB).
"""

from __future__ import annotations

import ctypes
import struct
from ctypes import c_uint8, c_uint32, c_uint64

from kvmscope.lab import abi
from kvmscope.lab.abi import EnableCap, Regs, Segment
from kvmscope.lab.kvm import Kvm, Vcpu, ioctl

PORT = 0x11
NESTED_PORT = 0x12
CODE, NESTED_CODE, VMCB, PAGE_DIRECTORY = 0x1000, 0x2000, 0x3000, 0x4000
NESTED_PAGE_DIRECTORY, NESTED_PAGE_TABLE, HIDDEN_PAGE = 0x9000, 0xA000, 0xB000
PIC_VECTOR = 0x40

APIC_ID, APIC_LDR, APIC_SPIV = 0x20, 0xD0, 0xF0
APIC_ENABLED, APIC_X2APIC = 0x800, 0x400
EFER_SVME = 0x1000

VMRUN = bytes([0x0F, 0x01, 0xD8, 0x0F, 0x01, 0xDC])  # vmrun; stgi
VMMCALL = bytes([0x0F, 0x01, 0xD9])
_PAGE = 0x67  # present, writable, user, accessed, dirty
_LOOP = bytes([0xE6, PORT, 0xEB, 0xFC])  # 1: out %al, $PORT; jmp 1b
_IRET_AT = 0x800
_MEMORY = 0x10000
_MSR_SINT0 = 0x4000_0090
_MSR_VM_HSAVE_PA = 0xC001_0117
_CAP_HYPERV_SYNIC = 123
_GUESTDBG_BLOCKIRQ = 0x0010_0000


class _GuestDebug(ctypes.Structure):
    _fields_ = (("control", c_uint32), ("pad", c_uint32), ("debugreg", c_uint64 * 8))


class _Msrs(ctypes.Structure):
    _fields_ = (("nmsrs", c_uint32), ("pad", c_uint32), ("index", c_uint32), ("reserved", c_uint32), ("data", c_uint64))


class _Lapic(ctypes.Structure):
    _fields_ = (("regs", c_uint8 * 0x400),)


_SET_GUEST_DEBUG = 0x4048_AE9B
_SET_MSRS = 0x4008_AE89
_GET_LAPIC = 0x8400_AE8E
_SET_LAPIC = 0x4400_AE8F


class Guest:
    """One VM with vCPUs in real mode, local APICs as after reset, and no PIT."""

    def __init__(self, kvm: Kvm, *vcpu_ids: int, irqchip: bool = True) -> None:
        """vCPUs are for a VM with an irqchip; without one there is nothing to inhibit, and none is needed."""
        self.vm = kvm.create_vm()
        try:
            self._fill()
            if irqchip:
                self.vm.create_irqchip()
            for vcpu_id in vcpu_ids:
                self.add_vcpu(vcpu_id)
        except BaseException:
            self.vm.close()
            raise

    @property
    def vcpus(self) -> list[Vcpu]:
        return self.vm.vcpus

    def run(self) -> None:
        """Each vCPU once, until it writes to its port."""
        for vcpu in self.vcpus:
            reason = vcpu.run()
            assert reason == abi.KVM_EXIT_IO, f"vCPU {vcpu.id} ended its run with {reason} at {vcpu.regs().rip:#x}"

    def add_vcpu(self, vcpu_id: int) -> Vcpu:
        """One more vCPU, ready to run."""
        vcpu = self.vm.create_vcpu(vcpu_id)
        vcpu.set_cpuid(self.vm.kvm.supported_cpuid())
        vcpu.make_runnable()
        sregs = vcpu.sregs()
        sregs.cs.base = sregs.cs.selector = 0
        vcpu.set_sregs(sregs)
        vcpu.set_regs(Regs(rip=CODE, rflags=2, rsp=0x7000))
        return vcpu

    def _fill(self) -> None:
        memory = self.vm.set_memory(_MEMORY)
        memory[CODE : CODE + len(_LOOP)] = _LOOP
        # Real mode's table of vectors: every one leads to an iret.
        memory[0 : 4 * 256] = struct.pack("<HH", _IRET_AT, 0) * 256
        memory[_IRET_AT] = 0xCF
        memory[PAGE_DIRECTORY : PAGE_DIRECTORY + 4] = struct.pack("<I", 0xE7)  # 4 MiB, present, writable


# -- things that a VMM or a guest can do to a vCPU -------------------------------------------------------------------


def set_apic_base(vcpu: Vcpu, base: int) -> None:
    """Write IA32_APIC_BASE; the bit of the bootstrap processor stays."""
    sregs = vcpu.sregs()
    sregs.apic_base = sregs.apic_base & 0x100 | base
    vcpu.set_sregs(sregs)


def set_apic_register(vcpu: Vcpu, register: int, value: int) -> None:
    """Write one register of the local APIC as a VMM does that restores it."""
    lapic = _Lapic()
    ioctl(vcpu.fd, _GET_LAPIC, lapic)
    struct.pack_into("<I", lapic.regs, register, value)
    ioctl(vcpu.fd, _SET_LAPIC, lapic)


def hold_interrupts(vcpu: Vcpu, on: bool) -> None:
    """As a debugger does that steps a guest and wants to see none of its interrupts."""
    ioctl(vcpu.fd, _SET_GUEST_DEBUG, _GuestDebug(control=1 | _GUESTDBG_BLOCKIRQ if on else 0))


def enable_synic(vcpu: Vcpu) -> None:
    """Give the vCPU Hyper-V's synthetic interrupt controller."""
    ioctl(vcpu.fd, abi.KVM_ENABLE_CAP, EnableCap(cap=_CAP_HYPERV_SYNIC))


def set_synic_auto_eoi(vcpu: Vcpu, on: bool) -> None:
    """SINT0: a vector with AutoEOI, or masked."""
    set_msr(vcpu, _MSR_SINT0, 1 << 17 | 0x51 if on else 1 << 16)


def set_msr(vcpu: Vcpu, index: int, value: int) -> None:
    assert ioctl(vcpu.fd, _SET_MSRS, _Msrs(nmsrs=1, index=index, data=value)) == 1, f"MSR {index:#x} was refused"


def open_pic(guest: Guest) -> None:
    """As after its initialization: vectors from PIC_VECTOR, nothing masked, acknowledged as taken."""

    def change(chip: abi.ChipState) -> None:
        chip.pic.irq_base, chip.pic.imr, chip.pic.auto_eoi = PIC_VECTOR, 0, 1

    guest.vm.change_chip(abi.KVM_IRQCHIP_PIC_MASTER, change)


def allow_interrupts(vcpu: Vcpu, on: bool) -> None:
    """Set the guest's IF; KVM_RUN must be done with the port write before."""
    finish_exit(vcpu)
    regs = vcpu.regs()
    regs.rflags = regs.rflags | 0x200 if on else regs.rflags & ~0x200
    vcpu.set_regs(regs)


def finish_exit(vcpu: Vcpu) -> None:
    """Let KVM complete the last port write without entering the guest."""
    vcpu.request_exit()
    assert vcpu.run() == abi.KVM_EXIT_INTR
    vcpu.request_exit(False)


def set_flat_mode(vcpu: Vcpu) -> None:
    """32 bits, every segment from 0 to 4 GiB, no paging, level 0."""
    sregs = vcpu.sregs()
    sregs.cs = Segment(limit=0xFFFF_FFFF, selector=8, type=11, present=1, s=1, g=1, db=1)
    for name in ("ds", "es", "fs", "gs", "ss"):
        setattr(sregs, name, Segment(limit=0xFFFF_FFFF, selector=16, type=3, present=1, s=1, g=1, db=1))
    sregs.cr0 = 0x33  # NE, ET, MP, PE
    vcpu.set_sregs(sregs)


def prepare_nested(guest: Guest) -> None:
    """Let the first vCPU be a hypervisor; its own guest writes to NESTED_PORT and then asks it back."""
    nest(guest, VMRUN + _LOOP, bytes([0xE6, NESTED_PORT]) + VMMCALL)


def nest(guest: Guest, hypervisor: bytes, nested: bytes, *, on_pause: bool = False, has_npt: bool = False) -> None:
    """Let the first vCPU be a hypervisor with this code, and its guest have that one.

    Both are in 32-bit mode with one page of 4 MiB. The hypervisor intercepts VMRUN, as it must, and VMMCALL, and
    ``on_pause`` each PAUSE. Where its guest was intercepted, that one goes on at the next VMRUN. ``has_npt``: it maps
    its guest's memory by page tables of its own, and all of it but HIDDEN_PAGE.
    """
    vcpu, memory = guest.vcpus[0], guest.vm.memory
    assert memory is not None
    memory[CODE : CODE + len(hypervisor)] = hypervisor
    memory[NESTED_CODE : NESTED_CODE + len(nested)] = nested
    set_flat_mode(vcpu)
    sregs = vcpu.sregs()
    sregs.tr = Segment(limit=0x67, type=11, present=1)
    sregs.cr0, sregs.cr3, sregs.cr4 = 0x8000_0033, PAGE_DIRECTORY, 0x10  # PG, NE, ET, MP, PE; PSE
    sregs.efer = EFER_SVME
    vcpu.set_sregs(sregs)
    set_msr(vcpu, _MSR_VM_HSAVE_PA, 0x5000)
    vcpu.set_regs(Regs(rip=CODE, rflags=2, rsp=0x7000, rax=VMCB))
    memory[VMCB : VMCB + 4096] = _vmcb(cr0=sregs.cr0, cr3=sregs.cr3, cr4=sregs.cr4, on_pause=on_pause)
    if has_npt:
        pages = [0 if page == HIDDEN_PAGE else page | _PAGE for page in range(0, _MEMORY, 4096)]
        table = struct.pack(f"<{len(pages)}I", *pages)
        memory[NESTED_PAGE_TABLE : NESTED_PAGE_TABLE + len(table)] = table
        memory[NESTED_PAGE_DIRECTORY : NESTED_PAGE_DIRECTORY + 4] = struct.pack("<I", NESTED_PAGE_TABLE | _PAGE)
        memory[VMCB + 0x90 : VMCB + 0x91] = b"\x01"
        memory[VMCB + 0xB0 : VMCB + 0xB8] = struct.pack("<Q", NESTED_PAGE_DIRECTORY)


def make_invalid(vcpu: Vcpu) -> None:
    """64-bit mode with a code segment of 64 and 32 bits, which KVM accepts and no CPU enters (APM 2, 15.5.1)."""
    set_flat_mode(vcpu)
    sregs = vcpu.sregs()
    sregs.cs.l = sregs.cs.db = 1
    sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer = 0x8000_0033, PAGE_DIRECTORY, 0x20, 0x500  # PAE; LME, LMA
    vcpu.set_sregs(sregs)


def _vmcb(*, cr0: int, cr3: int, cr4: int, on_pause: bool) -> bytes:
    vmcb = bytearray(4096)
    struct.pack_into("<I", vmcb, 0x0C, on_pause << 23)
    struct.pack_into("<I", vmcb, 0x10, 0b11)  # intercepts: VMRUN, VMMCALL
    struct.pack_into(
        "<QQ", vmcb, 0x40, 0x8000, 0xC000
    )  # maps of ports and MSRs, not consulted without their intercepts
    struct.pack_into("<I", vmcb, 0x58, 1)  # ASID
    save = 0x400
    for place, attributes in ((0x00, 0xC93), (0x10, 0xC9B), (0x20, 0xC93), (0x30, 0xC93), (0x90, 0x8B)):
        struct.pack_into("<HHIQ", vmcb, save + place, 16, attributes, 0xFFFF_FFFF, 0)
    struct.pack_into("<Q", vmcb, save + 0xD0, EFER_SVME)
    struct.pack_into("<QQQ", vmcb, save + 0x148, cr4, cr3, cr0)
    struct.pack_into("<QQQQ", vmcb, save + 0x160, 0x400, 0xFFFF_0FF0, 2, NESTED_CODE)  # DR7, DR6, RFLAGS, RIP
    struct.pack_into("<Q", vmcb, save + 0x1D8, 0x6000)  # RSP
    return bytes(vmcb)
