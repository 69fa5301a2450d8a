"""Causes that are added to findings: the clocks that a guest is offered, and the costliest reasons of its exits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

from ..analysis.exit_reasons import costly_reasons
from ..analysis.findings import Finding
from ..analysis.window import Window
from ..catalog.findings import Addition
from ..host.config.clocks import ClockConfig, clocks_of
from ..sample import VmId
from ..scene import Scene


@dataclass(frozen=True, slots=True)
class FindingCause:
    """A cause of a finding: an inhibit reason, a clock that the guest is offered or not, a reason of exits."""

    name: Annotated[str, "Its name."]
    meaning: Annotated[str, "What it says."]
    cause: Annotated[str, "What sets it, of this VM as far as its configuration is known. Untrusted text."]


AddedCauses: TypeAlias = Mapping[tuple[Addition, VmId], tuple[FindingCause, ...]]
"""What is added to the findings of a VM by rules with this addition."""


def added_causes(scene: Scene, window: Window, findings: Sequence[Finding]) -> AddedCauses:
    """What rules with such an addition say of the VMs of these findings."""
    found: dict[tuple[Addition, VmId], tuple[FindingCause, ...]] = {}
    for finding in findings:
        adds = finding.rule.adds
        if adds is not None and adds in _ADDED and (adds, finding.vm) not in found:
            found[adds, finding.vm] = tuple(_ADDED[adds](scene, window, finding.vm_row))
    return found


def _clocks(scene: Scene, _window: Window, vm_row: int) -> Iterator[FindingCause]:
    identity = scene.identities[vm_row]
    return clock_causes(clocks_of(identity.process, identity.domain_xml))


def clock_causes(clocks: ClockConfig) -> Iterator[FindingCause]:
    """What of the clocks on offer makes a guest read one that the VMM emulates."""
    if clocks.hyperv_clock.value is False:
        if clocks.enlightened.value:
            meaning = "A Windows guest is offered no Hyper-V clock, so it reads the ACPI PM timer, the RTC or the HPET."
        else:
            meaning = (
                "If the guest is Windows: it is offered no Hyper-V clock, and reads the ACPI PM timer or the HPET."
            )
        yield FindingCause("hyperv-clock", meaning, clocks.hyperv_clock.evidence)
    elif clocks.hyperv_timers.value is False:
        meaning = "A Windows guest is offered Hyper-V's clock and not its timers (stimer), so it programs the RTC."
        yield FindingCause("hyperv-timers", meaning, clocks.hyperv_timers.evidence)
    if clocks.hpet.value:
        meaning = "The guest has an HPET: if it is its clock, each read is MMIO that the VMM handles."
        yield FindingCause("hpet", meaning, clocks.hpet.evidence)


def _exits(_scene: Scene, window: Window, vm_row: int) -> Iterator[FindingCause]:
    for reason in costly_reasons(window, vm_row):
        yield FindingCause(
            reason.name, f"Exits for {reason.name} take {reason.vcpus:.2f} vCPUs.", f"exit_{reason.name}"
        )


_ADDED: Final[Mapping[Addition, Callable[[Scene, Window, int], Iterator[FindingCause]]]] = {
    Addition.CLOCKS: _clocks,
    Addition.EXITS: _exits,
}
