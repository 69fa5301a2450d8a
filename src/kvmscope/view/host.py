"""The facts of a host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from ..host.facts import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """The host and its KVM."""

    name: Annotated[str | None, "Its host name."]
    kernel: Annotated[str | None, "Release of its kernel."]
    architecture: Annotated[str | None, "Of its CPU, as the kernel spells it."]
    kvm_module: Annotated[str | None, "The module that runs VMs: kvm_intel, kvm_amd, …"]
    cpu: Annotated[str | None, "Model of its CPU."]
    lockdown: Annotated[str | None, "Mode of the kernel's lockdown."]


def host_facts(machine: Machine) -> HostFacts:
    vendor, cpu = machine.kvm_vendor.value, machine.cpu.value
    return HostFacts(
        name=machine.hostname.value,
        kernel=machine.kernel_release.value,
        architecture=machine.architecture.value,
        kvm_module=vendor.name if vendor else None,
        cpu=cpu.model if cpu else None,
        lockdown=machine.lockdown.value,
    )


_PARAMETERS: Final = ("enable_apicv", "enable_ipiv", "avic", "halt_poll_ns", "ept", "npt", "tdp_mmu", "nx_huge_pages")


def kvm_parameters(machine: Machine) -> Mapping[str, str]:
    """The known parameters of KVM's modules that decide about interrupts, polling and paging, named as
    ``kvm_amd.avic``."""
    modules = (fact.value for fact in (machine.kvm, machine.kvm_vendor) if fact.value is not None)
    return {
        f"{module.name}.{name}": value
        for module in modules
        for name in _PARAMETERS
        if name in module.parameters and (value := module.parameters[name].value) is not None
    }
