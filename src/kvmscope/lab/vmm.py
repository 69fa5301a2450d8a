"""A small VMM: one VM, each vCPU in its own thread, running one workload.

It is not a process (``process``) and does not choose the workload (``spec``). A vCPU thread that is done, stopped or
failed stays parked outside KVM_RUN until ``close``, so no statistic of the VM changes any more.
Rule: only a vCPU's own thread runs it; others end its run by ``immediate_exit`` and a signal, which together
leave no race.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import KvmscopeError, Unavailable
from ..linux import libc
from . import abi
from .abi import ChipState, Regs, Segment, Sregs
from .kvm import MEMORY_LIMIT, PAGE, Kvm, LabVm, Vcpu
from .spec import LabSpec, VcpuReport, VcpuState, VmReport
from .workloads import Argument, GuestIrqchip, GuestPit, Partner, Workload, find_workload

if TYPE_CHECKING:
    from .. import publish
    from .own_stats import RunStats

KICK = signal.SIGRTMIN + 1
"""The signal that ends a KVM_RUN; it needs a handler, since its default action ends the process."""

_PORT_DONE = 0x11
_PORT_REQUEST = 0x12
_VECTOR_TIMER = 0x40
_VECTOR_LINE = 0x41
_PIC_INPUT = 1
_FIRST_IOAPIC_PIN = 16  # the lower pins are also wired to the PIC

# The guest's memory: page tables, its image, a page for each vCPU (mailbox below, stack above), fresh memory.
_PML4, _PDPT, _DIRECTORIES = 0x1000, 0x2000, 0x3000
_IMAGE = 0x8000
_MAILBOXES = 0x10_0000
_FRESH = 0x80_0000
_FRESH_PAGES = 1024
_FEW_PAGES = 16
_MANY_PAGES = 65_536
_UNBACKED = 0xD000_0000
_MAILBOX = struct.Struct("<QQQ")

_RING_ENTRIES = 4096
_LOGGING = frozenset({Partner.DIRTY_LOG, Partner.DIRTY_RING})
_PIT_HZ = 1_193_182
_SPLIT_ROUTES = 24
_POLL_S = 50e-6
_BEFORE_VCPUS = -10  # nice value of a thread


def install_kick_handler() -> None:
    """Make KICK only interrupt system calls. Call it once per process, from its main thread."""
    signal.signal(KICK, lambda _number, _frame: None)


def create_vm(api: Kvm, spec: LabSpec) -> LabVm:
    """A VM with irqchip, PIT, halt polling limit and vCPUs of a checked spec, without memory or guest."""
    vm = api.create_vm()
    try:
        _set_up(vm, spec)
    except BaseException:
        vm.close()
        raise
    return vm


class RunningGuest:
    """One running VM. Must be closed; ``install_kick_handler`` must have been called before."""

    def __init__(self, api: Kvm, spec: LabSpec, index: int) -> None:
        self.spec = spec
        self.index = index
        self.workload = find_workload(spec.workload)
        self.vm = create_vm(api, spec)
        try:
            self.memory = self.vm.set_memory(
                _memory_size(self.workload, spec.vcpus), log_dirty=self.workload.partner in _LOGGING
            )
            _fill_memory(self.memory, self.workload.image)
            if self.workload.partner is Partner.DIRTY_LOG_UNASKED:
                self.vm.add_untouched_memory()
            _wire(self.vm, self.workload, spec)
            self.runners = [_Runner(self, vcpu, place) for place, vcpu in enumerate(self.vm.vcpus)]
            self._published = self._publish() if spec.publishes else None
        except BaseException:
            self.vm.close()
            raise
        self._going = threading.Event()
        self._closing = threading.Event()
        self._helpers: list[threading.Thread] = []
        self._log_lock = threading.Lock()
        self._dirty_pages = 0

    def start(self) -> None:
        """Start the threads; they wait for ``go``."""
        for runner in self.runners:
            runner.start(self._going, self._closing)

    def go(self, *, when_still: Callable[[], None]) -> None:
        """Let the guests run; a thread calls ``when_still`` whenever a vCPU ends."""
        for runner in self.runners:
            runner.state = VcpuState.RUNNING
            runner.when_still = when_still
        if self.workload.partner is Partner.TICKS:
            self.vm.start_pit(max(1, min(0xFFFF, self.spec.period_us * _PIT_HZ // 1_000_000)))
        self._going.set()
        work = {
            Partner.MESSAGES_UNASKED: self._send_messages,
            Partner.DROPS_UNASKED: self._drop_memory,
            Partner.SIGNALS_UNASKED: self._send_signals,
            Partner.DIRTY_LOG_UNASKED: self._restart_dirty_log,
        }.get(self.workload.partner)
        if work is not None:
            self._helpers = [threading.Thread(target=work, daemon=True)]
            self._helpers[0].start()

    def stop(self) -> None:
        """End every run. It returns at once; ``is_still`` is true when all runs have ended."""
        for runner in self.runners:
            runner.request_stop()

    @property
    def is_still(self) -> bool:
        return all(runner.state.is_still for runner in self.runners)

    @property
    def has_ended(self) -> bool:
        return self.is_still

    def report(self) -> VmReport:
        vcpus = tuple(runner.report() for runner in self.runners)
        return VmReport(
            index=self.index,
            name=self.spec.vm_name(self.index),
            pid=os.getpid(),
            vcpus=vcpus,
            dirty_pages=self._dirty_pages if self.workload.partner in _LOGGING else None,
        )

    def fetch_dirty_pages(self, vcpu: Vcpu) -> None:
        """Fetch and count the pages that were written to: all in the bitmap, or those in the vCPU's ring."""
        with self._log_lock:
            if self.workload.partner is Partner.DIRTY_LOG:
                self._dirty_pages += int.from_bytes(self.vm.fetch_dirty_log(), "little").bit_count()
                return
            self._dirty_pages += len(vcpu.take_dirty_ring())
            self.vm.reset_dirty_rings()

    def close(self) -> None:
        self.stop()
        self._going.set()
        self._closing.set()
        for thread in (*self._helpers, *(runner.thread for runner in self.runners if runner.thread.ident)):
            thread.join()
        if self._published is not None:
            self._published.close()
        self.vm.close()

    def _publish(self) -> publish.Vm:
        from ..publish import Vm as PublishedVm
        from .own_stats import RunStats

        published = PublishedVm(self.spec.vm_name(self.index))
        try:
            for runner in self.runners:
                runner.own = RunStats(published, vcpu=runner.vcpu.id)
        except OSError as error:
            published.close()
            raise Unavailable(f"cannot publish: {error.strerror}", errno=error.errno) from error
        return published

    def _send_messages(self) -> None:
        # Each interrupt waits until the guest has taken the previous one, so that no two merge.
        while self._is_running:
            sent = False
            for runner in self.runners:
                sent |= runner.send_message_if_taken()
            if not sent:
                time.sleep(_POLL_S)

    def _drop_memory(self) -> None:
        while self._is_running:
            for place in range(len(self.runners)):
                for page in range(_FEW_PAGES):  # one by one, since each call makes the vCPUs flush once
                    self.memory.madvise(mmap.MADV_DONTNEED, _fresh_address(place) + page * PAGE, PAGE)
            time.sleep(self.spec.period_us / 1e6)

    def _restart_dirty_log(self) -> None:
        # Without pause, to hold the lock for much of the time, and at higher priority than vCPUs, which use every CPU.
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _BEFORE_VCPUS)
        while self._is_running:
            self.vm.restart_dirty_log()

    def _send_signals(self) -> None:
        while self._is_running:
            for runner in self.runners:
                if not runner.has_counted:
                    runner.kick()
            time.sleep(self.spec.period_us / 1e6)

    @property
    def _is_running(self) -> bool:
        return any(runner.state is VcpuState.RUNNING for runner in self.runners)


class _Runner:
    """One vCPU, its thread and its work."""

    def __init__(self, machine: RunningGuest, vcpu: Vcpu, place: int) -> None:
        self.machine = machine
        self.vcpu = vcpu
        self.place = place
        self.thread = threading.Thread(target=self._main, daemon=True)
        self.state = VcpuState.WAITING
        self.when_still: Callable[[], None] = lambda: None
        self.own: RunStats | None = None
        self._exits: Counter[int] = Counter()
        self._error: str | None = None
        self._stopping = threading.Event()
        self._started_s: float | None = None
        self._ended_s: float | None = None
        self._sent = 0
        _prepare_vcpu(vcpu, machine.workload, machine.spec, place)

    def start(self, going: threading.Event, closing: threading.Event) -> None:
        self._going, self._closing = going, closing
        self.thread.start()

    def request_stop(self) -> None:
        self._stopping.set()
        self.vcpu.request_exit()
        self.kick()

    def kick(self) -> None:
        """Send a signal that ends the run, if the vCPU is in KVM_RUN."""
        # The thread lives until close, so no other thread can have its id.
        if self.state is VcpuState.RUNNING and self.thread.ident is not None:
            signal.pthread_kill(self.thread.ident, KICK)

    def report(self) -> VcpuReport:
        did, interrupts, _ = self._mailbox()
        end_s = time.monotonic() if self._ended_s is None else self._ended_s
        return VcpuReport(
            id=self.vcpu.id,
            tid=self.thread.native_id or 0,
            state=self.state,
            did=did,
            interrupts=interrupts,
            exits={abi.EXIT_NAMES.get(reason, str(reason)): n for reason, n in sorted(self._exits.items())},
            elapsed_s=None if self._started_s is None else end_s - self._started_s,
            error=self._error,
        )

    @property
    def has_counted(self) -> bool:
        """Whether its guest's count has reached the target."""
        return self._mailbox()[0] >= self.machine.spec.target

    def send_message_if_taken(self) -> bool:
        """Send one interrupt if the guest has taken all earlier ones and the count is not reached."""
        did, _, listening = self._mailbox()
        if not listening or did != self._sent or self._sent >= self.machine.spec.target or not self._is_running:
            return False
        self._sent += 1
        self.machine.vm.signal_msi(apic_id=self.vcpu.id, vector=_VECTOR_LINE)
        return True

    @property
    def _is_running(self) -> bool:
        return self.state is VcpuState.RUNNING

    def _mailbox(self) -> tuple[int, int, int]:
        did, interrupts, listening = _MAILBOX.unpack_from(self.machine.memory, _mailbox_address(self.place))
        return did, interrupts, listening

    def _main(self) -> None:
        libc.set_thread_name(f"vcpu-{self.vcpu.id}")
        self._going.wait()
        self._started_s = time.monotonic()
        state = VcpuState.FAILED
        try:
            state = self._run()
            if self.machine.workload.partner in _LOGGING:
                self.machine.fetch_dirty_pages(self.vcpu)
        except (KvmscopeError, OSError) as error:
            self._error = str(error)
        finally:
            self._ended_s = time.monotonic()
            if self.own is not None:
                self.own.is_still.set(True)
            self.state = state
            if state is VcpuState.FAILED:
                self.machine.stop()
            self.when_still()
        self._closing.wait()

    def _run(self) -> VcpuState:
        run, exits, shared, stopping = self.vcpu.run, self._exits, self.vcpu.state, self._stopping
        own = self.own
        partner = self.machine.workload.partner
        while not stopping.is_set():
            reason = run()
            exits[reason] += 1
            if own is not None:
                own.userspace_exits.add()
            if reason == abi.KVM_EXIT_IO:
                port = shared.exit.io.port
                if own is not None:
                    own.io_exits.add()
                if port == _PORT_DONE:
                    return VcpuState.DONE
                if port == _PORT_REQUEST:
                    self._serve()
            elif reason == abi.KVM_EXIT_HLT:
                if not self.machine.workload.ends:
                    stopping.wait()
            elif reason == abi.KVM_EXIT_INTR:
                if partner is Partner.SIGNALS_UNASKED:
                    self._write_count(exits[reason])
            elif reason != abi.KVM_EXIT_MMIO and not self._handles(reason):
                raise Unavailable(self._describe(reason))
        return VcpuState.STOPPED

    def _handles(self, reason: int) -> bool:
        """Handle a rare exit reason; False if the guest cannot continue."""
        if reason == abi.KVM_EXIT_DIRTY_RING_FULL:
            self.machine.fetch_dirty_pages(self.vcpu)
        elif reason == abi.KVM_EXIT_INTERNAL_ERROR and self.machine.workload.partner is Partner.GOING_ON:
            self._go_on()
        else:
            return False
        return True

    def _go_on(self) -> None:
        regs = self.vcpu.regs()
        regs.rip = regs.rbx
        self.vcpu.set_regs(regs)  # also drops the exception that KVM had queued for the guest

    def _write_count(self, count: int) -> None:
        struct.pack_into("<Q", self.machine.memory, _mailbox_address(self.place), min(count, self.machine.spec.target))

    def _serve(self) -> None:
        vm = self.machine.vm
        if self.own is not None:
            self.own.requests_served.add()
        match self.machine.workload.partner:
            case Partner.FRESH_MEMORY:
                shares = Argument.SHARED_FRESH_ADDRESS in self.machine.workload.arguments
                start = _fresh_address(self.place & ~1 if shares else self.place)
                self.machine.memory.madvise(mmap.MADV_DONTNEED, start, _FRESH_PAGES * PAGE)
            case Partner.DIRTY_LOG | Partner.DIRTY_RING:
                self.machine.fetch_dirty_pages(self.vcpu)
            case Partner.PIC_LINE:
                vm.pulse_line(_PIC_INPUT)
            case Partner.IOAPIC_LINE:
                vm.pulse_line(_FIRST_IOAPIC_PIN + self.place)
            case Partner.MESSAGE:
                vm.signal_msi(apic_id=self.vcpu.id, vector=_VECTOR_LINE)

    def _describe(self, reason: int) -> str:
        detail = ""
        if reason == abi.KVM_EXIT_INTERNAL_ERROR:
            detail = f" (suberror {self.vcpu.state.exit.internal.suberror})"
        elif reason == abi.KVM_EXIT_FAIL_ENTRY:
            detail = f" (hardware reason {self.vcpu.state.exit.hardware_entry_failure_reason:#x})"
        name = abi.EXIT_NAMES.get(reason, str(reason))
        return f"the guest ended with {name}{detail} at {self.vcpu.regs().rip:#x}"


def _set_up(vm: LabVm, spec: LabSpec) -> None:
    vm.set_intel_pages()
    if spec.irqchip is GuestIrqchip.FULL:
        vm.create_irqchip()
    elif spec.irqchip is GuestIrqchip.SPLIT:
        vm.enable(abi.KVM_CAP_SPLIT_IRQCHIP, _SPLIT_ROUTES)
    if spec.pit is not GuestPit.OFF:
        vm.create_pit()
        vm.set_pit_reinjection(spec.pit is GuestPit.REINJECT)
    if spec.halt_poll_ns is not None:
        vm.limit_halt_poll(spec.halt_poll_ns)
    if spec.logs_in_rings:
        vm.enable_dirty_rings(_RING_ENTRIES)
    for vcpu_id in spec.vcpu_ids:
        vm.create_vcpu(vcpu_id)


def _wire(vm: LabVm, workload: Workload, spec: LabSpec) -> None:
    if workload.partner in (Partner.PIC_LINE, Partner.TICKS):
        vm.change_chip(abi.KVM_IRQCHIP_PIC_MASTER, _open_pic)
    elif workload.partner is Partner.IOAPIC_LINE:
        vm.change_chip(abi.KVM_IRQCHIP_IOAPIC, lambda chip: _route_pins(chip, spec.vcpu_ids))


def _open_pic(chip: ChipState) -> None:
    # The state after its four initialization words: nothing masked, automatic EOI.
    chip.pic.irq_base = _VECTOR_TIMER
    chip.pic.imr = 0
    chip.pic.auto_eoi = 1


def _route_pins(chip: ChipState, vcpu_ids: tuple[int, ...]) -> None:
    for place, vcpu_id in enumerate(vcpu_ids):
        chip.ioapic.redirtbl[_FIRST_IOAPIC_PIN + place] = vcpu_id << 56 | _VECTOR_LINE


def _mailbox_address(place: int) -> int:
    return _MAILBOXES + place * PAGE


def _fresh_address(place: int, pages: int = _FRESH_PAGES) -> int:
    return _FRESH + place * pages * PAGE


def _partner_of(place: int, vcpus: int) -> int:
    """The other vCPU of a pair; itself for the last of an odd number."""
    return place ^ 1 if place ^ 1 < vcpus else place


def _memory_size(workload: Workload, vcpus: int) -> int:
    if not {Argument.FRESH_ADDRESS, Argument.SHARED_FRESH_ADDRESS} & set(workload.arguments):
        return _FRESH
    size = _fresh_address(vcpus, _pages_of(workload))
    if size > MEMORY_LIMIT:
        raise Unavailable(f"{vcpus} vCPUs need more memory for {workload.name} than the lab's guests can have")
    return size


def _pages_of(workload: Workload) -> int:
    """The number of pages of fresh memory reserved for each vCPU."""
    return _MANY_PAGES if Argument.MANY_PAGES in workload.arguments else _FRESH_PAGES


def _fill_memory(memory: mmap.mmap, image: bytes) -> None:
    memory[_IMAGE : _IMAGE + len(image)] = image
    # Four levels with 2 MiB pages. Accessed and dirty bits are set, so the processor never writes to a table.
    present, large = 0x27, 0xE7  # present, writable, for every level, accessed; dirty, large
    struct.pack_into("<Q", memory, _PML4, _PDPT | present)
    for gib in range(4):
        directory = _DIRECTORIES + gib * PAGE
        struct.pack_into("<Q", memory, _PDPT + 8 * gib, directory | present)
        struct.pack_into("<512Q", memory, directory, *((gib << 30 | n << 21) | large for n in range(512)))


def _prepare_vcpu(vcpu: Vcpu, workload: Workload, spec: LabSpec, place: int) -> None:
    vcpu.set_cpuid(vcpu.vm.kvm.supported_cpuid())
    has_apic = spec.irqchip is not GuestIrqchip.NONE
    if has_apic:
        vcpu.make_runnable()
    sregs = vcpu.sregs()
    _set_long_mode(sregs, workload.level)
    if has_apic:
        sregs.apic_base |= 0xC00  # enabled, x2APIC
    vcpu.set_sregs(sregs)
    mailbox = _mailbox_address(place)
    first, second = (_argument(argument, workload, spec, place) for argument in workload.arguments)
    flags = 0x2 | workload.level << 12  # IOPL allows this privilege level to use ports
    registers = {"rip": _IMAGE, "rflags": flags, "rsp": mailbox + PAGE, "rdi": mailbox, "rsi": spec.target}
    vcpu.set_regs(Regs(**registers, r8=first, r9=second))


def _argument(argument: Argument, workload: Workload, spec: LabSpec, place: int) -> int:
    return {
        Argument.ZERO: 0,
        Argument.ONE: 1,
        Argument.UNBACKED_ADDRESS: _UNBACKED + place * PAGE,
        Argument.FRESH_ADDRESS: _fresh_address(place, _pages_of(workload)),
        Argument.FRESH_PAGES: _FRESH_PAGES,
        Argument.FEW_PAGES: _FEW_PAGES,
        Argument.MANY_PAGES: _MANY_PAGES,
        Argument.SHARED_FRESH_ADDRESS: _fresh_address(place & ~1),
        Argument.PARTNER_MAILBOX: _mailbox_address(_partner_of(place, spec.vcpus)),
        Argument.TABLE_ENTRY: _DIRECTORIES + PAGE + 8 * place % PAGE,
        Argument.MAPPED_ADDRESS: (1 << 30) + (place << 21) % (1 << 30),
        Argument.PERIOD_NS: spec.period_us * 1000,  # KVM's local APIC timer counts nanoseconds
        Argument.FIVE_PERIODS_NS: 5 * spec.period_us * 1000,
    }[argument]


def _set_long_mode(sregs: Sregs, level: int) -> None:
    sregs.cs = _segment(0x08, level, kind=11, is_code=True)
    for name in ("ds", "es", "fs", "gs", "ss"):
        setattr(sregs, name, _segment(0x10, level, kind=3, is_code=False))
    sregs.tr = Segment(limit=0x67, type=11, present=1)
    sregs.cr3 = _PML4
    sregs.cr4 = 0x20  # PAE
    sregs.cr0 = 0x8001_0033  # PG, WP, NE, ET, MP, PE
    sregs.efer = 0x500  # LMA, LME


def _segment(selector: int, level: int, *, kind: int, is_code: bool) -> Segment:
    segment = Segment(limit=0xFFFF_FFFF, selector=selector | level, type=kind, present=1, dpl=level, s=1, g=1)
    segment.l, segment.db = is_code, not is_code
    return segment
