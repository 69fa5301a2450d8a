"""The facts of a host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

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
