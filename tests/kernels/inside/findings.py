"""Runs inside an emulated x86 kernel: brings about troubles, one after the other, and prints what was read of them.

Each trouble has its VMs to itself, since they share one slow CPU. Of each the BPF source is read a few times; what
``kvmscope doctor`` would say of that is found out where it costs less (tests/kernels/test_findings.py).
The output is one JSON object: the machine and, for each trouble, its samples, pickled; and what each of its VMs was, in
the order in which they were made.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import copyreg
import ctypes
import functools
import json
import mmap
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kvmscope.host.apicv import host_apicv
from kvmscope.host.machine import read_machine
from kvmscope.lab import abi
from kvmscope.lab.abi import KVM_SET_USER_MEMORY_REGION, MemoryRegion, Regs
from kvmscope.lab.kvm import Kvm, LabVm, Vcpu, ioctl
from kvmscope.lab.spec import LabSpec
from kvmscope.lab.vmm import RunningGuest, install_kick_handler
from kvmscope.lab.workloads import GuestPit
from kvmscope.sample import Sample
from kvmscope.sources.bpf.source import BpfSource

from .faulting import FetchedPages
from .guests import CODE, HIDDEN_PAGE, VMMCALL, VMRUN, Guest, make_invalid, nest, set_flat_mode

_WINDOW_S = 0.5
_LARGE = 2 << 20
_LARGE_PAGES = 80


class Observer:
    """The source, with the samples of one trouble, and what its VMs are."""

    def __init__(self, kvm: Kvm, source: BpfSource) -> None:
        self.kvm = kvm
        self.source = source
        self.samples: list[Sample] = []
        self.vms: list[str] = []

    def look(self, windows: int = 2) -> None:
        """Read at the ends of so many windows; the first begins where the last one ended, if there was one."""
        if not self.samples:
            self.samples.append(self.source.read())
        for _ in range(windows):
            time.sleep(_WINDOW_S)
            self.samples.append(self.source.read())


Trouble = Callable[[Observer], None]


def main() -> None:
    """Print what was read of each trouble."""
    copyreg.pickle(MappingProxyType, _as_dict)
    install_kick_handler()
    host = read_machine()
    troubles = WITH_AVIC if host_apicv(host).switched_on.value else WITHOUT_AVIC
    source = BpfSource()
    seen: dict[str, list[Sample]] = {}
    vms: dict[str, list[str]] = {}
    with Kvm() as kvm:
        for name in sys.argv[1:] or troubles:
            observer = Observer(kvm, source)
            troubles[name](observer)
            seen[name], vms[name] = observer.samples, observer.vms
            print(f"{time.monotonic():.1f} s: {name}", file=sys.stderr)
    source.close()
    json.dump({"pickled": base64.b64encode(pickle.dumps((host, seen))).decode(), "vms": vms}, sys.stdout)


def _as_dict(mapping: MappingProxyType[Any, Any]) -> Any:
    """How to pickle what cannot be."""
    return dict, (dict(mapping),)


@contextlib.contextmanager
def _guests(observer: Observer, *specs: LabSpec) -> Iterator[list[RunningGuest]]:
    """In threads of this process, since a process of their own would take a second to start."""
    with contextlib.ExitStack() as stack:
        machines = []
        for spec in specs:
            machines.append(RunningGuest(observer.kvm, spec.checked(), 0))
            stack.callback(machines[-1].close)
            observer.vms.append(spec.workload)
        for machine in machines:
            machine.start()
            machine.go(when_still=lambda: None)
        yield machines


def _on(*specs: LabSpec, settle_s: float = 0.1) -> Trouble:
    def look(observer: Observer) -> None:
        with _guests(observer, *specs):
            time.sleep(settle_s)
            observer.look()

    return look


def _counting(group: str, trouble: Trouble) -> Trouble:
    """The same, seen by a source that counts a group."""

    def look(observer: Observer) -> None:
        usual, observer.source = observer.source, _counting_source(group)
        try:
            trouble(observer)
        finally:
            observer.source = usual

    return look


@functools.cache
def _counting_source(group: str) -> BpfSource:
    """Loading a group takes seconds here, so it counts to the end; troubles that need one come last."""
    source = BpfSource((group,))
    atexit.register(source.close)
    return source


# -- troubles that take more than a guest ----------------------------------------------------------------------------


def _waste_polls(observer: Observer) -> None:
    """As with the parameters of newer kernels; and then, on the same guest, the VMM lowers its limit of polling."""
    spec = LabSpec(workload="uneven", period_us=1000, halt_poll_ns=3_000_000)
    with parameter("halt_poll_ns_shrink", "2"), _guests(observer, spec) as (guest,):
        observer.look(3)
        guest.vm.limit_halt_poll(0)
        observer.look(2)


def _clear_stats(observer: Observer) -> None:
    with _guests(observer, LabSpec(workload="idle")):
        observer.look(1)
        (file,) = Path("/sys/kernel/debug/kvm").glob(f"{os.getpid()}-*/halt_exits")
        file.write_text("0", encoding="ascii")
        observer.look(1)


def _split_pages(observer: Observer) -> None:
    observer.vms.append("split pages")
    with parameter("nx_huge_pages", "force"), _large_pages(observer.kvm):
        observer.look()


@contextlib.contextmanager
def parameter(name: str, value: str) -> Iterator[None]:
    """Another value for a parameter of this kernel's KVM."""
    parameter = Path("/sys/module/kvm/parameters") / name
    usual = parameter.read_text(encoding="ascii")
    parameter.write_text(value, encoding="ascii")
    try:
        yield
    finally:
        parameter.write_text(usual, encoding="ascii")


def _loop(instructions: bytes) -> bytes:
    """Code that executes the instructions 1,024 times between two halts; they must leave %esi alone."""
    size = len(instructions)
    return (
        b"\xbe\x00\x04\x00\x00"  # 1: mov $1024, %esi
        + instructions  # 2:
        + b"\x4e\x75" + bytes([256 - size - 3])  # dec %esi; jnz 2b
        + b"\xf4\xeb" + bytes([256 - size - 11])  # hlt; jmp 1b
    )  # fmt: skip


def _repeating(name: str, instructions: bytes) -> Trouble:
    """A VM of this name that executes the instructions over and over."""

    def look(observer: Observer) -> None:
        observer.vms.append(name)
        with observer.kvm.create_vm() as vm:
            memory = vm.set_memory(1 << 16)
            memory[CODE : CODE + 64] = _loop(instructions).ljust(64)
            with _halting(_flat_vcpu(vm)):
                observer.look()

    return look


def _nesting(name: str, nested: bytes, *, on_pause: bool = False, has_npt: bool = False) -> Trouble:
    """A VM of this name that is a hypervisor, and whose guest does something that comes back to it, over and over."""

    def look(observer: Observer) -> None:
        observer.vms.append(name)
        guest = Guest(observer.kvm, irqchip=False)
        with guest.vm:
            vcpu = guest.add_vcpu(0)
            nest(guest, _loop(VMRUN), nested, on_pause=on_pause, has_npt=has_npt)
            with _halting(vcpu):
                observer.look()

    return look


def _fetching(name: str, first: Callable[[mmap.mmap], None]) -> Trouble:
    """A VM of this name whose pages are fetched one by one, and what its VMM does before each."""

    def look(observer: Observer) -> None:
        observer.vms.append(name)
        with observer.kvm.create_vm() as vm:
            memory = vm.set_memory(_FETCHED_BYTES)
            memory[CODE : CODE + len(_READ_PAGES)] = _READ_PAGES
            vcpu = _flat_vcpu(vm)
            with FetchedPages(memory, _FETCHED_FROM, lambda: first(memory)), _halting(vcpu):
                observer.look()

    return look


def _be_slow(_memory: mmap.mmap) -> None:
    time.sleep(0.002)


def _discard(memory: mmap.mmap) -> None:
    """Take another page away, which the guest never touches: KVM drops what it looks up at that moment."""
    memory.madvise(mmap.MADV_DONTNEED, len(memory) - mmap.PAGESIZE, mmap.PAGESIZE)


_FETCHED_FROM, _FETCHED_BYTES = 1 << 20, 128 << 20
_READ_PAGES = (
    b"\xbb" + _FETCHED_FROM.to_bytes(4, "little")  # mov $_FETCHED_FROM, %ebx
    + b"\xbe\x10\x00\x00\x00"  # 1: mov $16, %esi
    + b"\x8b\x03"  # 2: mov (%ebx), %eax
    + b"\x81\xc3\x00\x10\x00\x00"  # add $4096, %ebx
    + b"\x4e\x75\xf5"  # dec %esi; jnz 2b
    + b"\xf4\xeb\xed"  # hlt; jmp 1b
)  # fmt: skip


def _fail_entry(observer: Observer) -> None:
    observer.vms.append("invalid")
    guest = Guest(observer.kvm, irqchip=False)
    with guest.vm:
        vcpu = guest.add_vcpu(0)
        make_invalid(vcpu)
        observer.look(1)
        assert vcpu.run() == abi.KVM_EXIT_FAIL_ENTRY
        observer.look(1)


def _notify(observer: Observer) -> None:
    """A VM that notifies a device of its VMM 1,024 times by MMIO, as drivers of virtio do, then writes to a port."""
    observer.vms.append("notified")
    with observer.kvm.create_vm() as vm, _event_on_writes(vm):
        memory = vm.set_memory(1 << 16)
        memory[CODE : CODE + len(_NOTIFICATIONS)] = _NOTIFICATIONS
        with _running(_flat_vcpu(vm), abi.KVM_EXIT_IO):
            observer.look()


@contextlib.contextmanager
def _event_on_writes(vm: LabVm) -> Iterator[None]:
    """KVM handles writes of 4 bytes to NOTIFIED by itself, by counting on an eventfd."""
    event = os.eventfd(0)
    try:
        ioctl(vm.fd, _KVM_IOEVENTFD, _IoEvent(address=_NOTIFIED, length=4, fd=event))
        yield
    finally:
        os.close(event)


class _IoEvent(ctypes.Structure):
    _fields_ = (
        ("datamatch", ctypes.c_uint64),
        ("address", ctypes.c_uint64),
        ("length", ctypes.c_uint32),
        ("fd", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("pad", ctypes.c_uint8 * 36),
    )


_KVM_IOEVENTFD = 0x4040_AE79
_NOTIFIED = 0xD000_0000
_NOTIFICATIONS = (
    b"\xbe\x00\x04\x00\x00"  # 1: mov $1024, %esi
    + b"\xa3" + _NOTIFIED.to_bytes(4, "little")  # mov %eax, _NOTIFIED
    + b"\x4e\x75\xf8"  # dec %esi; jnz 2b
    + b"\xe6\x11\xeb\xef"  # out %al, $0x11; jmp 1b
)  # fmt: skip


def _write_xapic(observer: Observer) -> None:
    """A VM that writes to its xAPIC's task priority 1,024 times, then to a port, again and again; its PIT reinjects."""
    observer.vms.append("xapic")
    with observer.kvm.create_vm() as vm:
        memory = vm.set_memory(1 << 16)
        memory[CODE : CODE + len(_XAPIC_WRITES)] = _XAPIC_WRITES
        vm.create_irqchip()
        vm.create_pit()
        vcpu = _flat_vcpu(vm)
        vcpu.make_runnable()
        with _running(vcpu, abi.KVM_EXIT_IO):
            observer.look()


_XAPIC_WRITES = (
    b"\xbe\x00\x04\x00\x00"  # 1: mov $1024, %esi
    b"\xa3\x80\x00\xe0\xfe"  # 2: mov %eax, 0xfee00080
    b"\x4e\x75\xf8"  # dec %esi; jnz 2b
    b"\xe6\x11\xeb\xef"  # out %al, $0x11; jmp 1b
)


@contextlib.contextmanager
def _large_pages(kvm: Kvm) -> Iterator[None]:
    """A VM that executes something in each of its large pages, and then halts again and again."""
    with kvm.create_vm() as vm:
        memory = _large_memory(vm)
        with _halting(_flat_vcpu(vm)):
            yield
    del memory  # the guest's until here


def _flat_vcpu(vm: LabVm) -> Vcpu:
    vcpu = vm.create_vcpu(0)
    vcpu.set_cpuid(vm.kvm.supported_cpuid())
    set_flat_mode(vcpu)
    vcpu.set_regs(Regs(rip=CODE, rflags=2, rsp=0x7000))
    return vcpu


def _halting(vcpu: Vcpu) -> contextlib.AbstractContextManager[None]:
    """Runs what lies at CODE, which halts now and then."""
    return _running(vcpu, abi.KVM_EXIT_HLT)


@contextlib.contextmanager
def _running(vcpu: Vcpu, comes_back: int) -> Iterator[None]:
    """Runs a guest that comes back now and then with this reason."""
    stopping = threading.Event()

    def run() -> None:
        while not stopping.is_set():
            assert vcpu.run() == comes_back

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def _large_memory(vm: LabVm) -> mmap.mmap:
    memory = mmap.mmap(-1, (_LARGE_PAGES + 2) * _LARGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    start = -address % _LARGE
    size = (_LARGE_PAGES + 1) * _LARGE
    ioctl(vm.fd, KVM_SET_USER_MEMORY_REGION, MemoryRegion(memory_size=size, userspace_addr=address + start))
    for page in range(1, _LARGE_PAGES + 1):
        memory[start + page * _LARGE] = 0xC3  # ret
    code = (
        b"\xbb" + _LARGE.to_bytes(4, "little")  # mov $_LARGE, %ebx
        + b"\xff\xd3"  # 1: call *%ebx
        + b"\x81\xc3" + _LARGE.to_bytes(4, "little")  # add $_LARGE, %ebx
        + b"\x81\xfb" + size.to_bytes(4, "little")  # cmp $size, %ebx
        + b"\x72\xf0"  # jb 1b
        + b"\xf4\xeb\xfd"  # 2: hlt; jmp 2b
    )  # fmt: skip
    memory[start + 0x1000 : start + 0x1000 + len(code)] = code
    return memory


# -- all of them -----------------------------------------------------------------------------------------------------

_READ_HIDDEN = b"\xa1" + HIDDEN_PAGE.to_bytes(4, "little")  # mov HIDDEN_PAGE, %eax
_BESIDE = LabSpec(workload="halt")

WITHOUT_AVIC: Mapping[str, Trouble] = {
    "healthy": _on(LabSpec(workload="halt", period_us=4000), LabSpec(workload="idle", vcpus=2)),
    "wasted polls": _waste_polls,
    "polls without end": _on(LabSpec(workload="halt", period_us=1000, halt_poll_ns=5_000_000), settle_s=0.2),
    "port I/O": _on(LabSpec(workload="pio")),
    "MMIO": _on(LabSpec(workload="mmio")),
    "notifications": _notify,
    "windows": _on(LabSpec(workload="ipi")),
    "yields": _on(LabSpec(workload="yield")),
    "undecodable": _on(LabSpec(workload="undecodable")),
    "nested": _nesting("nested", VMMCALL),
    "nested faults": _nesting("faulting", _READ_HIDDEN, has_npt=True),
    "discarded pages": _fetching("discarded", _discard),
    "watched": _on(LabSpec(workload="dirty")),
    "watched beside another": _on(LabSpec(workload="dirty"), _BESIDE),
    "spinning beside another": _on(LabSpec(workload="spin"), _BESIDE),
    "small pages": _on(LabSpec(workload="spread"), settle_s=5.5),
    "split pages": _split_pages,
    "xAPIC": _write_xapic,
    "cleared": _clear_stats,
    "port I/O by reason": _counting("exits", _on(LabSpec(workload="pio"))),
    "CPUID": _counting("exits", _repeating("cpuid", b"\x31\xc0\x0f\xa2")),  # xor %eax, %eax; cpuid
    "WBINVD": _counting("exits", _repeating("wbinvd", b"\x0f\x09")),
    "CR4": _counting("exits", _repeating("cr4", b"\x0f\x20\xe0")),  # mov %cr4, %eax
    "nested PAUSE": _counting("exits", _nesting("pausing", b"\xf3\x90", on_pause=True)),
    "slow pages": _counting("exits", _fetching("slow", _be_slow)),
    "undecodable by reason": _counting("userspace", _on(LabSpec(workload="undecodable"))),
    "invalid state": _counting("userspace", _fail_entry),
}

WITH_AVIC: Mapping[str, Trouble] = {
    "reinjecting PIT": _on(LabSpec(workload="pit", period_us=2000, pit=GuestPit.REINJECT)),
    "interrupts of the PIC": _on(LabSpec(workload="pit", period_us=800, pit=GuestPit.DISCARD)),
    "xAPIC while inhibited": _write_xapic,
    "idle": _on(LabSpec(workload="idle", vcpus=2)),
}

if __name__ == "__main__":
    main()
