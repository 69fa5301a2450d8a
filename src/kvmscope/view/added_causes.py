"""Causes that are added to findings: the clocks and the nested virtualization features offered to a guest, the ports
and MSRs that it accesses, exit reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Final, TypeAlias

from ..analysis.accesses import CountedError, FrequentAccess, counted_errors, frequent_accesses, has_frequent_mmio
from ..analysis.exit_reasons import costly_reasons
from ..analysis.findings import Finding
from ..analysis.rivals import rivals
from ..analysis.window import Window
from ..catalog.addresses import AddressSpace
from ..catalog.findings import Addition
from ..host.apicv import Hardware, HostApicv, HostFlag, host_apicv
from ..host.config import InterruptConfig, config_of
from ..host.config.clocks import ClockConfig, clocks_of
from ..host.config.hyperv_nesting import HypervNesting, hyperv_nesting_of
from ..host.config.nesting import FLAGS
from ..host.master_clock import has_master_clock
from ..host.text import printable
from ..sample import VmId
from ..scene import Scene
from .text import counted

_HPET: Final = "hpet"
_HOST_CLOCK: Final = "host-clock"


class SizeUnit(Enum):
    """The unit of a cause's size. Sizes of one cause can be added over findings."""

    VCPUS = "vcpus"
    ACCESSES_PER_S = "accesses_per_s"
    ERRORS = "errors"


@dataclass(frozen=True, slots=True)
class CauseSize:
    """How much of a cause there is in an interval."""

    value: Annotated[float, "The number."]
    unit: Annotated[SizeUnit, "Of what: vCPUs' wall time in vCPUs, accesses a second, or errors in the interval."]


@dataclass(frozen=True, slots=True)
class FindingCause:
    """A cause of a finding: an inhibit reason, a clock that is or is not offered to the guest, an exit reason."""

    name: Annotated[str, "Its name."]
    meaning: Annotated[str, "What it says."]
    cause: Annotated[str, "What sets it, of this VM as far as its configuration is known. Untrusted text."]
    size: Annotated[CauseSize | None, "How much of it there is; null where that has no number."] = None


AddedCauses: TypeAlias = Mapping[tuple[Addition, VmId], tuple[FindingCause, ...]]
"""The causes that rules with an addition add to the findings of a VM."""


def added_causes(scene: Scene, window: Window, findings: Sequence[Finding]) -> AddedCauses:
    """The causes that these findings' rules add for their VMs."""
    found: dict[tuple[Addition, VmId], tuple[FindingCause, ...]] = {}
    for finding in findings:
        adds = finding.rule.adds
        if adds is not None and adds in _ADDED and (adds, finding.vm) not in found:
            found[adds, finding.vm] = tuple(_ADDED[adds](scene, window, finding.vm_row))
    return found


def _clocks(scene: Scene, window: Window, vm_row: int) -> Iterator[FindingCause]:
    identity, accesses = scene.identities[vm_row], frequent_accesses(window, vm_row)
    borne_out = _borne_out(accesses, window, vm_row) if accesses else None
    causes = (
        *host_clock_causes(has_master_clock(scene.machine)),
        *clock_causes(clocks_of(identity.process, identity.domain_xml)),
    )
    for cause in causes:
        if borne_out is None or cause.name in borne_out:
            yield cause
    yield from map(access_cause, accesses)


def _borne_out(accesses: Sequence[FrequentAccess], window: Window, vm_row: int) -> Set[str]:
    """The clock causes that the vCPUs' accesses confirm. Access to a busy serial port, for one, confirms none."""
    found = {name for access in accesses if access.range for name in access.range.clocks}
    return found | ({_HPET, "hyperv-clock", _HOST_CLOCK} if has_frequent_mmio(window, vm_row) else set())


def access_cause(access: FrequentAccess) -> FindingCause:
    """What the ports or MSRs that vCPUs access often are for, and what to do about it."""
    word = "MSR" if access.space is AddressSpace.MSR else "port"
    if access.range is None:
        numbers = (
            "numbers without a name here" if access.number is None else f"{access.number:#x}, the last of its kind"
        )
        name, means = f"{word} other", f"{word}s that have no name here"
    else:
        name, numbers, means = f"{word} {access.range.name}", access.range.numbers, access.range.means
    meaning = f"{means[:1].upper()}{means[1:]}."
    return FindingCause(name, meaning, f"{word} {numbers}", CauseSize(access.per_s, SizeUnit.ACCESSES_PER_S))


def host_clock_causes(master_clock: HostFlag) -> Iterator[FindingCause]:
    """The cause that this host cannot offer guests a clock without exits, whatever their configuration."""
    if master_clock.value is False:
        meaning = (
            "The host's own clock is not the TSC, so KVM offers guests no clock that they read without help: Windows "
            "reads an MSR although it has hv-time, or another clock; in Linux each reading of kvm-clock is a system "
            "call. The host's kernel log says why it left the TSC."
        )
        yield FindingCause(_HOST_CLOCK, meaning, printable(master_clock.evidence))


def clock_causes(clocks: ClockConfig) -> Iterator[FindingCause]:
    """The clock settings that make a guest read a clock that the VMM emulates."""
    if clocks.hyperv_clock.value is False:
        if clocks.enlightened.value:
            meaning = "The VM offers Windows no Hyper-V clock, so it reads the ACPI PM timer, the RTC or the HPET."
        else:
            meaning = (
                "If the guest is Windows: the VM offers it no Hyper-V clock, so it reads the ACPI PM timer or the HPET."
            )
        yield FindingCause("hyperv-clock", meaning, clocks.hyperv_clock.evidence)
        if clocks.pm_timer.value:
            meaning = "The guest has an ACPI PM timer: if it is its clock, each read is port I/O that the VMM handles."
            yield FindingCause("acpi-pm-timer", meaning, clocks.pm_timer.evidence)
    elif clocks.hyperv_timers.value is False:
        meaning = "A Windows guest is offered Hyper-V's clock and not its timers (stimer), so it programs the RTC."
        yield FindingCause("hyperv-timers", meaning, clocks.hyperv_timers.evidence)
    if clocks.hpet.value:
        meaning = "The guest has an HPET: if it is its clock, each read is MMIO that the VMM handles."
        yield FindingCause(_HPET, meaning, clocks.hpet.evidence)
    if clocks.rtc_catchup.value:
        meaning = (
            "Lost RTC ticks are reinjected: a guest that programs the RTC gets them in bursts, "
            "and acknowledges each by port I/O that the VMM handles."
        )
        yield FindingCause("rtc-catchup", meaning, clocks.rtc_catchup.evidence)


def _exits(_scene: Scene, window: Window, vm_row: int) -> Iterator[FindingCause]:
    for reason in costly_reasons(window, vm_row):
        size = CauseSize(reason.vcpus, SizeUnit.VCPUS)
        yield FindingCause(reason.name, f"Exits for {reason.name}.", f"exit_{reason.name}", size)


def _errors(_scene: Scene, window: Window, vm_row: int) -> Iterator[FindingCause]:
    yield from map(error_cause, counted_errors(window, vm_row))


def error_cause(error: CountedError) -> FindingCause:
    """The cause for an internal error of KVM or a failed entry."""
    meaning = _ERRORS.get(error.stat, "An error that kvmscope has no name for.")
    return FindingCause(error.stat, meaning, error.stat, CauseSize(error.count, SizeUnit.ERRORS))


_ERRORS: Final = {
    "internal_error_emulation": (
        "Suberror 1: KVM had to emulate an instruction that it does not know, or could not fetch it."
    ),
    "internal_error_simul_ex": "Suberror 2: exceptions while an exception was being delivered to a guest in real mode.",
    "internal_error_delivery_ev": (
        "Suberror 3: an exit while an event was being delivered to the guest: its descriptor or page tables, or its "
        "stack, lie in MMIO or outside its memory."
    ),
    "internal_error_unexpected_exit_reason": "Suberror 4: an exit that this KVM does not know.",
    "entry_failure_invalid_state": ("The CPU found the guest's state invalid (VMX 0x80000021, SVM VMEXIT_INVALID)."),
    "entry_failure_msr_load": "The CPU could not load an MSR of the guest (VMX 0x80000022).",
    "entry_failure_machine_check": "A machine check came during the entry (VMX 0x80000029): see the host's kernel log.",
    "entry_failure_instruction": "VMLAUNCH or VMRESUME itself failed (the number of a VMX instruction's error).",
}


def _rivals(scene: Scene, window: Window, vm_row: int) -> Iterator[FindingCause]:
    waited_for = list(rivals(window, vm_row))
    vms = {scene.pid(row): row for row in range(len(scene.sample.vms))} if waited_for else {}
    for rival in waited_for:
        task, row = printable(rival.name, max_length=15), vms.get(rival.pid)
        vm = None if row is None else "its own threads" if row == vm_row else f"VM {scene.title(row)}"
        ran = f"{rival.share * 100:.0f} % of the wait, in {counted(rival.count, 'run')}"
        yield FindingCause(
            vm or f"task {task}",
            "It ran while vCPUs waited for a CPU.",
            f"{ran}; process {rival.pid}, task {task}",
            CauseSize(rival.vcpus, SizeUnit.VCPUS),
        )


def _nesting(scene: Scene, _window: Window, vm_row: int) -> Iterator[FindingCause]:
    identity, host = scene.identities[vm_row], host_apicv(scene.machine)
    config = config_of(identity.process, identity.domain_xml, hardware=host.hardware)
    yield from nesting_causes(config, host, hyperv_nesting_of(identity.process, identity.domain_xml))


def nesting_causes(config: InterruptConfig, host: HostApicv, offer: HypervNesting) -> Iterator[FindingCause]:
    """For a guest that runs VMs: why it can, its most likely hypervisor, and the features not offered to it."""
    flag = FLAGS.get(host.hardware or Hardware.OTHER)
    shown = config.nested
    if flag is not None and (shown.value or (shown.value is None and config.vmm == "qemu")):
        because = shown.evidence if shown.value else f"{shown.evidence}; {host.nested.evidence}"
        yield FindingCause(flag, f"The guest is shown {flag.upper()}, so it can run VMs of its own.", because)
    windows = offer.windows
    if windows.value is None:
        return
    if windows.value:
        is_windows = "The guest is Windows" if windows.is_sure else "The guest is most likely Windows"
        yield FindingCause("windows-hypervisor", f"{is_windows}: its hypervisor is {_HYPERV}.", windows.evidence)
    else:
        isnt = "The guest is not Windows" if windows.is_sure else "The guest is most likely not Windows"
        yield FindingCause("guest-hypervisor", f"{isnt}: a hypervisor in it runs VMs on purpose.", windows.evidence)
    if windows.value and (missing := offer.missing(host.hardware)):
        meaning = "Hyper-V in the guest is not offered all that saves work between the two hypervisors."
        yield FindingCause("hyperv-nested", meaning, ", ".join(missing))


_HYPERV: Final = "Hyper-V, under VBS (memory integrity, Credential Guard), WSL2, Docker Desktop or VMs of its own"

_ADDED: Final[Mapping[Addition, Callable[[Scene, Window, int], Iterator[FindingCause]]]] = {
    Addition.CLOCKS: _clocks,
    Addition.EXITS: _exits,
    Addition.ERRORS: _errors,
    Addition.RIVALS: _rivals,
    Addition.NESTING: _nesting,
}
