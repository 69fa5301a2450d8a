"""The workloads of the lab's guests, and their effect on the statistics.

Each workload does one thing a known number of times, so a stat which counts that thing must increase by that number.
If it may change by another number, the bound and its reason are given; docs/reference/lab.md prints this table, and the
live tests check every guest against it. Nothing here makes a VM. Source: arch/x86/kvm of Linux 6.1-6.18; kvm_pvm as
measured, since no released kernel has its source.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType

from ..errors import UsageError
from ..linux.cpu import read_cpu
from ..linux.facts import KernelModule
from ..linux.files import PROC, SYS
from ..linux.kvm import read_running_kvm

GUESTS = Path(__file__).parent / "guests"


class GuestIrqchip(Enum):
    """The interrupt controllers that the kernel emulates: none, local APICs, or also PIC and IOAPIC."""

    NONE = "none"
    SPLIT = "split"
    FULL = "full"


class GuestPit(Enum):
    """Whether the kernel emulates the PIT, and whether it reinjects ticks that the guest missed."""

    OFF = "off"
    REINJECT = "reinject"
    DISCARD = "discard"


class Partner(Enum):
    """An action of the VMM for the guest: at the guest's request, or "unasked" without one."""

    NONE = "none"
    FRESH_MEMORY = "fresh memory"
    PIC_LINE = "pic line"
    IOAPIC_LINE = "ioapic line"
    MESSAGE = "message"
    MESSAGES_UNASKED = "messages unasked"
    TICKS = "ticks"
    DIRTY_LOG = "dirty log"
    DIRTY_RING = "dirty ring"
    DIRTY_LOG_UNASKED = "dirty log unasked"
    DROPS_UNASKED = "drops unasked"
    SIGNALS_UNASKED = "signals unasked"
    GOING_ON = "going on"


class Argument(Enum):
    """A value that the guest gets in a register."""

    ZERO = "0"
    ONE = "1"
    UNBACKED_ADDRESS = "unbacked address"
    FRESH_ADDRESS = "fresh address"
    FRESH_PAGES = "fresh pages"
    FEW_PAGES = "a few of them"
    MANY_PAGES = "fresh pages, 256 MiB of them"
    SHARED_FRESH_ADDRESS = "fresh address that two vCPUs share"
    PARTNER_MAILBOX = "mailbox of the other of two vCPUs"
    TABLE_ENTRY = "entry of its page tables"
    MAPPED_ADDRESS = "address that the entry maps"
    PERIOD_NS = "period"
    FIVE_PERIODS_NS = "five periods"


class Engine(Enum):
    """The engine that runs a guest's instructions, as far as it determines which stats change."""

    HARDWARE = "hardware without APICv"
    HARDWARE_APICV = "hardware with APICv"
    FORCED_AVIC = "hardware with AVIC forced"
    PVM = "kvm_pvm"


HARDWARE = frozenset({Engine.HARDWARE, Engine.HARDWARE_APICV, Engine.FORCED_AVIC})
_PVM = frozenset({Engine.PVM})
SOFTWARE_INJECTION = frozenset({Engine.HARDWARE, Engine.PVM})
EVERYWHERE = frozenset(Engine)
_COLLECTIVE = {EVERYWHERE: "all", HARDWARE: "hardware", SOFTWARE_INJECTION: "hardware without APICv, kvm_pvm"}


@dataclass(frozen=True, slots=True)
class Bound:
    """``per`` times the count, plus ``plus``."""

    per: float
    plus: float = 0

    def at(self, count: int) -> float:
        return self.per * count + self.plus

    def __str__(self) -> str:
        if not self.per:
            return f"{self.plus:g}"
        factor = "N" if self.per == 1 else f"{self.per:g} N"
        return f"{factor} + {self.plus:g}" if self.plus else factor


@dataclass(frozen=True, slots=True)
class StatBounds:
    """The change of one vCPU stat in a run of N: within [low, high]; ``high`` is None if unbounded."""

    stat: str
    low: Bound
    high: Bound | None
    reason: str
    engines: frozenset[Engine] = EVERYWHERE

    def allows(self, moved: int, count: int) -> bool:
        return self.low.at(count) <= moved and (self.high is None or moved <= self.high.at(count))

    @property
    def bound(self) -> str:
        """``= N + 1``, ``N … 1.1 N + 8`` or ``≥ N``."""
        if self.high is None:
            return f"≥ {self.low}"
        return f"= {self.low}" if self.low == self.high else f"{self.low} … {self.high}"


@dataclass(frozen=True, slots=True)
class Workload:
    """One thing that a guest does. ``irqchips``: the interrupt controllers that it works with, the default first.

    ``by_apic``: its interrupts come through the local APIC, which APICv accelerates. ``engines``: the engines on which
    it ends.
    """

    name: str
    does: str
    guest: str
    expectations: tuple[StatBounds, ...]
    level: int = 0
    arguments: tuple[Argument, Argument] = (Argument.ZERO, Argument.ZERO)
    partner: Partner = Partner.NONE
    irqchips: tuple[GuestIrqchip, ...] = (GuestIrqchip.FULL, GuestIrqchip.SPLIT, GuestIrqchip.NONE)
    pits: tuple[GuestPit, ...] = (GuestPit.OFF, GuestPit.REINJECT, GuestPit.DISCARD)
    max_vcpus: int | None = None
    by_apic: bool = False
    ends: bool = True
    engines: frozenset[Engine] = EVERYWHERE

    def ends_on(self, engine: Engine | None) -> bool:
        """Whether it ends on an engine: with AVIC forced on, interrupts through the APIC are not delivered."""
        if engine is not None and engine not in self.engines:
            return False
        return self.ends and not (self.by_apic and engine is Engine.FORCED_AVIC)

    @property
    def image(self) -> bytes:
        """The guest's built code, to be placed at 0x8000."""
        return (GUESTS / f"{self.guest}.bin").read_bytes()


def _exactly(stat: str, per: float, plus: float, reason: str, engines: frozenset[Engine] = EVERYWHERE) -> StatBounds:
    return StatBounds(stat, Bound(per, plus), Bound(per, plus), reason, engines)


def _once_a_page(stat: str, reason: str) -> tuple[StatBounds, StatBounds]:
    """Bounds for pages tracked for writes: once per page; if the processor keeps the log (PML), only the first time."""
    most = Bound(1.05, 32)
    return (
        StatBounds(stat, Bound(1), most, reason, _PVM),
        StatBounds(stat, Bound(0), most, f"{reason}; with Intel's PML only the first time", HARDWARE),
    )


def _returns(plus: int) -> StatBounds:
    return _exactly("fpu_reload", 1, plus, "KVM_RUN returns once for each, and once for the guest's final report")


_PORT_HARDWARE = _exactly(
    "io_exits", 1, 1, "one exit for each port write, and one for the guest's final report", HARDWARE
)
_PORT_PVM = _exactly(
    "io_exits",
    0,
    0,
    "kvm_pvm decodes port writes in KVM's instruction emulator, which goes past the handler that counts",
    _PVM,
)
_PORTS = (_PORT_HARDWARE, _PORT_PVM)
_LAST_WORD = (
    _exactly("io_exits", 0, 1, "the guest's final report", HARDWARE),
    _PORT_PVM,
    _exactly("fpu_reload", 0, 1, "KVM_RUN returns only for the guest's final report"),
)
_NATIVE = _exactly(
    "insn_emulation",
    1,
    1,
    "kvm_pvm runs level 3 natively and emulates what exits: each of these, and the guest's final report",
    _PVM,
)
_EXITS = StatBounds("exits", Bound(1), None, "one for each; the host's own interrupts add some")


def _injected(most: Bound, reason: str) -> tuple[StatBounds, StatBounds]:
    """Bounds for interrupts through the local APIC: injected by software, and the rest of that with APICv."""
    return (
        StatBounds("irq_injections", Bound(1), most, reason, SOFTWARE_INJECTION),
        StatBounds(
            "irq_injections",
            Bound(0),
            most,
            "the hardware delivers while APICv is active, and only what it does not is counted",
            frozenset({Engine.HARDWARE_APICV}),
        ),
    )


_INJECTED = _injected(
    Bound(1.1, 16), "one for each; an injection that a host interrupt cancels is made, and counted, again"
)
_INJECTED_UNASKED = _injected(
    Bound(2, 16),
    "one for each; guest and sender compete for CPUs, and an injection that is cancelled for that is counted again",
)
_EXTINT_INJECTED = StatBounds(
    "irq_injections",
    Bound(1),
    Bound(2.1, 16),
    "one for each, as no hardware delivers the PIC's; kvm_amd of 6.1 and 6.12 cancels and repeats every such injection "
    "before entry, and counts both (req_event moves along, exits do not); 7.3 and kvm_pvm do not",
)
_HALTS = _exactly("halt_exits", 1, 0, "one for each HLT")
_SLEPT = StatBounds(
    "halt_wakeup",
    Bound(0),
    Bound(1.1, 16),
    "one for each halt that slept; a poll that succeeds or a timer that is early saves the sleep, and a wakeup "
    "for another reason counts too",
)
_NO_MMIO = _exactly("mmio_exits", 0, 0, "memory backs every address that it touches")
_NO_INTERRUPT = _exactly("irq_injections", 0, 0, "nothing interrupts this guest")

_WITH_APIC = (GuestIrqchip.FULL, GuestIrqchip.SPLIT)
_WITH_PIC = (GuestIrqchip.FULL,)

_ALL = (
    Workload(
        "pio",
        "writes to a port; each write goes to the VMM",
        "pio",
        (*_PORTS, _returns(1), _EXITS, _NATIVE, _NO_INTERRUPT),
        level=3,
    ),
    Workload(
        "mmio",
        "writes to an address without memory; each write goes to the VMM",
        "mmio",
        (_exactly("mmio_exits", 1, 0, "one for each write"), _returns(1), _EXITS, _NATIVE, _NO_INTERRUPT),
        level=3,
        arguments=(Argument.UNBACKED_ADDRESS, Argument.ZERO),
    ),
    Workload(
        "fault",
        "writes to a page that nobody has touched",
        "fault",
        (
            StatBounds("pf_taken", Bound(1), Bound(1.05, 32), "one a page; the guest's own code and tables fault too"),
            StatBounds("pf_fixed", Bound(1), Bound(1.05, 32), "each of those faults is fixed by mapping a page"),
            _NO_MMIO,
        ),
        level=3,
        arguments=(Argument.FRESH_ADDRESS, Argument.FRESH_PAGES),
        partner=Partner.FRESH_MEMORY,
    ),
    Workload(
        "halt",
        "halts until its own local APIC timer wakes it",
        "halt",
        (
            _HALTS,
            _SLEPT,
            *_INJECTED,
            *_LAST_WORD,
        ),
        arguments=(Argument.PERIOD_NS, Argument.ZERO),
        irqchips=_WITH_APIC,
        by_apic=True,
    ),
    Workload(
        "hlt",
        "halts with no APIC in the kernel; each halt goes to the VMM",
        "hlt",
        (_HALTS, _returns(1), _exactly("halt_wakeup", 0, 0, "no halt sleeps in the kernel"), _NO_INTERRUPT),
        irqchips=(GuestIrqchip.NONE,),
        pits=(GuestPit.OFF,),
    ),
    Workload(
        "pic",
        "asks for an interrupt and gets it through the PIC",
        "interrupt",
        (*_PORTS, _returns(1), _EXTINT_INJECTED),
        partner=Partner.PIC_LINE,
        irqchips=_WITH_PIC,
        pits=(GuestPit.OFF,),
        max_vcpus=1,
    ),
    Workload(
        "ioapic",
        "asks for an interrupt and gets it through the IOAPIC",
        "interrupt",
        (*_PORTS, _returns(1), *_INJECTED),
        arguments=(Argument.ONE, Argument.ZERO),
        partner=Partner.IOAPIC_LINE,
        irqchips=_WITH_PIC,
        max_vcpus=8,
        by_apic=True,
    ),
    Workload(
        "msi",
        "asks for an interrupt and gets it as a message",
        "interrupt",
        (*_PORTS, _returns(1), *_INJECTED),
        arguments=(Argument.ONE, Argument.ZERO),
        partner=Partner.MESSAGE,
        irqchips=_WITH_APIC,
        by_apic=True,
    ),
    Workload(
        "kick",
        "is interrupted by messages of another thread while it spins",
        "listen",
        (*_INJECTED_UNASKED, *_LAST_WORD),
        arguments=(Argument.ONE, Argument.ZERO),
        partner=Partner.MESSAGES_UNASKED,
        irqchips=_WITH_APIC,
        by_apic=True,
    ),
    Workload(
        "wake",
        "is woken by messages of another thread from its halts",
        "listen",
        (
            _HALTS,
            StatBounds(
                "halt_wakeup",
                Bound(0),
                Bound(1.1, 16),
                "one for each halt that slept; a poll that succeeds saves the sleep, and a wakeup for another "
                "reason counts too",
            ),
            *_INJECTED_UNASKED,
            *_LAST_WORD,
        ),
        arguments=(Argument.ONE, Argument.ONE),
        partner=Partner.MESSAGES_UNASKED,
        irqchips=_WITH_APIC,
        by_apic=True,
    ),
    Workload(
        "pit",
        "halts until the PIT's next tick comes through the PIC",
        "listen",
        (_EXTINT_INJECTED, *_LAST_WORD),
        arguments=(Argument.ZERO, Argument.ONE),
        partner=Partner.TICKS,
        irqchips=_WITH_PIC,
        pits=(GuestPit.REINJECT, GuestPit.DISCARD),
        max_vcpus=1,
    ),
    Workload(
        "ipi",
        "sends itself an interrupt through its local APIC",
        "ipi",
        (*_INJECTED, *_LAST_WORD),
        irqchips=_WITH_APIC,
        by_apic=True,
    ),
    Workload(
        "uneven",
        "halts until its own local APIC timer wakes it: twice after one period, then after five",
        "uneven",
        (
            _HALTS,
            _SLEPT,
            *_INJECTED,
            *_LAST_WORD,
        ),
        arguments=(Argument.PERIOD_NS, Argument.FIVE_PERIODS_NS),
        irqchips=_WITH_APIC,
        by_apic=True,
    ),
    Workload(
        "dirty",
        "writes to a page that its VMM has asked KVM to watch for writes",
        "fault",
        (
            *_once_a_page("pf_taken", "one a page; the guest's own code and tables fault too"),
            *_once_a_page("pf_fixed", "each of those faults is fixed by making the page writable"),
            StatBounds(
                "pf_fast",
                Bound(0),
                Bound(1.05, 32),
                "only a page that was mapped before, and only where no guest's page tables are shadowed, needs no lock",
                HARDWARE,
            ),
            _exactly("pf_fast", 0, 0, "where page tables are shadowed, no fault is fixed without the lock", _PVM),
            _NO_MMIO,
        ),
        level=3,
        arguments=(Argument.FRESH_ADDRESS, Argument.FRESH_PAGES),
        partner=Partner.DIRTY_LOG,
    ),
    Workload(
        "ring",
        "writes to a page that its VMM has asked KVM to note in a dirty ring",
        "fault",
        (
            *_once_a_page("pf_taken", "one a page; the guest's own code and tables fault too"),
            *_once_a_page("pf_fixed", "each of those faults is fixed by making the page writable"),
            _NO_MMIO,
        ),
        level=3,
        arguments=(Argument.FRESH_ADDRESS, Argument.FRESH_PAGES),
        partner=Partner.DIRTY_RING,
    ),
    Workload(
        "logged",
        "does what `retable` does, while its VMM keeps clearing the dirty log of much memory",
        "retable",
        (
            StatBounds("pf_emulate", Bound(0.95), None, "as with `retable`", _PVM),
            StatBounds("pf_taken", Bound(1.9), None, "as with `retable`", _PVM),
            _NO_MMIO,
        ),
        level=3,
        arguments=(Argument.TABLE_ENTRY, Argument.MAPPED_ADDRESS),
        partner=Partner.DIRTY_LOG_UNASKED,
    ),
    Workload(
        "race",
        "writes to a page that nobody has touched, in the same moment as another vCPU",
        "race",
        (
            StatBounds("pf_taken", Bound(0), Bound(1.05, 32), "one a page, unless the other was first by far"),
            StatBounds("pf_spurious", Bound(0), Bound(1.05, 32), "those that the other vCPU has just fixed"),
            _NO_MMIO,
        ),
        level=3,
        arguments=(Argument.SHARED_FRESH_ADDRESS, Argument.PARTNER_MAILBOX),
        partner=Partner.FRESH_MEMORY,
    ),
    Workload(
        "drop",
        "writes to one of a few pages while its VMM unmaps and maps them",
        "touch",
        (
            StatBounds("pf_taken", Bound(0, 1), Bound(1.05, 32), "one for each time that a page was gone"),
            _NO_MMIO,
            _NO_INTERRUPT,
        ),
        level=3,
        arguments=(Argument.FRESH_ADDRESS, Argument.FEW_PAGES),
        partner=Partner.DROPS_UNASKED,
    ),
    Workload(
        "spread",
        "writes to one of 65,536 pages in turn",
        "touch",
        (
            StatBounds("pf_taken", Bound(0, 1), Bound(1.05, 32), "one for each page that is met for the first time"),
            _NO_MMIO,
            _NO_INTERRUPT,
        ),
        level=3,
        arguments=(Argument.FRESH_ADDRESS, Argument.MANY_PAGES),
        max_vcpus=4,
    ),
    Workload(
        "retable",
        "changes an entry of its own page tables and reads through it",
        "retable",
        (
            StatBounds(
                "pf_emulate",
                Bound(0.95),
                Bound(1.05, 32),
                "page tables that are shadowed may not be written; KVM writes in the guest's place, but for one write "
                "where the host has just dropped the shadow",
                _PVM,
            ),
            StatBounds("pf_taken", Bound(1.9), Bound(2.1, 64), "one for the write, one for what it unmapped", _PVM),
            StatBounds("pf_taken", Bound(0), Bound(0, 64), "the guest manages its own page tables", HARDWARE),
            _NO_MMIO,
        ),
        level=3,
        arguments=(Argument.TABLE_ENTRY, Argument.MAPPED_ADDRESS),
    ),
    Workload(
        "kicked",
        "spins while signals of its VMM end its runs",
        "await",
        (
            StatBounds(
                "signal_exits",
                Bound(1),
                Bound(1, 2),
                "one for each; another can come before the guest has seen the last",
            ),
            StatBounds(
                "fpu_reload", Bound(1, 1), Bound(1, 3), "KVM_RUN returns once for each, and for the final report"
            ),
            _NO_INTERRUPT,
        ),
        level=3,
        partner=Partner.SIGNALS_UNASKED,
    ),
    Workload(
        "yield",
        "asks KVM to run another vCPU in its place, which is itself",
        "yield",
        (
            _exactly("directed_yield_attempted", 1, 0, "one for each", HARDWARE),
            _exactly("directed_yield_successful", 0, 0, "a vCPU cannot give its time to itself", HARDWARE),
            _exactly("hypercalls", 1, 0, "one for each", HARDWARE),
            _exactly(
                "directed_yield_attempted",
                0,
                0,
                "kvm_pvm emulates the call as a change of the instruction, without end: the guest hangs there",
                _PVM,
            ),
        ),
        irqchips=_WITH_APIC,
        engines=HARDWARE,
    ),
    Workload(
        "undecodable",
        "reads from an address without memory by an instruction that KVM's emulator lacks",
        "undecodable",
        (
            _exactly("insn_emulation_fail", 1, 0, "one for each; only here and where kvm_pvm halts is it not 0"),
            _exactly("mmio_exits", 0, 0, "KVM gives up before it reads"),
            _returns(1),
            _NO_INTERRUPT,
        ),
        arguments=(Argument.UNBACKED_ADDRESS, Argument.ZERO),
        partner=Partner.GOING_ON,
    ),
    Workload(
        "spin",
        "counts, and causes no exit of its own",
        "spin",
        (_exactly("halt_exits", 0, 0, "it never halts"), _NO_INTERRUPT, *_LAST_WORD),
        level=3,
    ),
    Workload(
        "idle",
        "halts for good",
        "idle",
        (_exactly("halt_exits", 0, 1, "the one HLT that nothing ends"), _NO_INTERRUPT),
        ends=False,
    ),
)

WORKLOADS: Mapping[str, Workload] = MappingProxyType({workload.name: workload for workload in _ALL})


def find_engine(*, proc_root: str = PROC, sys_root: str = SYS) -> Engine | None:
    """The engine that runs guests here; None if unknown."""
    kvm = read_running_kvm(proc_root=proc_root, sys_root=sys_root).value
    if kvm is None:
        return None
    if kvm.name == "kvm_pvm":
        return Engine.PVM
    if kvm.name == "kvm_intel":
        return Engine.HARDWARE_APICV if _is_on(kvm, "enable_apicv") else Engine.HARDWARE
    if kvm.name != "kvm_amd":
        return None
    if not _is_on(kvm, "avic"):
        return Engine.HARDWARE
    cpu = read_cpu(proc_root=proc_root).value
    return Engine.HARDWARE_APICV if cpu is not None and "avic" in cpu.flags else Engine.FORCED_AVIC


def _is_on(module: KernelModule, parameter: str) -> bool:
    fact = module.parameters.get(parameter)
    return fact is not None and fact.value in ("Y", "1")


def find_workload(name: str) -> Workload:
    """The workload called ``name``. Raises UsageError with the nearest names if there is none."""
    if name not in WORKLOADS:
        nearest = tuple(difflib.get_close_matches(name, WORKLOADS))
        raise UsageError(f"no workload is called {name!r}", nearest=nearest or tuple(WORKLOADS))
    return WORKLOADS[name]


def as_markdown() -> str:
    """The table of docs/reference/lab.md: every workload with the stats that it changes, by how much, and why."""
    lines = ["| workload | N times, it | vCPU stat | moves by | on | because |", "|---|---|---|---|---|---|"]
    for workload in WORKLOADS.values():
        for expectation in workload.expectations:
            engines = _COLLECTIVE.get(expectation.engines) or ", ".join(
                engine.value for engine in Engine if engine in expectation.engines
            )
            lines.append(
                f"| `{workload.name}` | {workload.does} | `{expectation.stat}` | {expectation.bound} | {engines} "
                f"| {expectation.reason} |"
            )
    return "\n".join(lines) + "\n"
