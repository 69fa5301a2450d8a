"""The kinds of hosts in a simulated fleet: kernels, KVM modules with their parameters, CPUs, VMMs.

It has only values. The statistics of each kernel are those of ``catalog.kernels``; parameters and CPU flags have the
kernel's spelling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from ..host.apicv import host_apicv
from ..host.facts import Machine
from ..linux.facts import CpuInfo, Fact, KernelModule


class ApicvSupport(Enum):
    """The support of a host for APICv or AVIC."""

    ON = "on"
    OFF = "off"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class HostKind:
    """Hosts of one kind. ``kernel``: its name in ``catalog.kernels``. ``module``: the KVM module that runs guests.

    ``counts_groups``: whether opt-in groups count there and the scheduler's statistics are read.
    """

    name: str
    kernel: str
    release: str
    module: str
    parameters: Mapping[str, str]
    cpu: CpuInfo
    architecture: str = "x86_64"
    counts_groups: bool = False

    @property
    def is_amd(self) -> bool:
        return self.module == "kvm_amd"

    @property
    def is_x86(self) -> bool:
        return self.architecture == "x86_64"

    @property
    def acceleration(self) -> ApicvSupport:
        """The support of the host, determined from module and CPU as for real hosts."""
        found = host_apicv(self.machine("any"))
        if not found.supported.value:
            return ApicvSupport.UNSUPPORTED
        return ApicvSupport.ON if found.switched_on.value else ApicvSupport.OFF

    def machine(self, hostname: str) -> Machine:
        """The facts of one such host."""
        vendor = _module(self.module, self.parameters)
        kvm = _module("kvm", _KVM) if self.is_x86 else vendor
        return Machine(
            hostname=Fact(hostname),
            kernel_release=Fact(self.release),
            architecture=Fact(self.architecture),
            kvm=Fact(kvm),
            kvm_vendor=Fact(vendor),
            cpu=Fact(self.cpu),
            lockdown=Fact("none"),
        )


def _module(name: str, parameters: Mapping[str, str]) -> KernelModule:
    return KernelModule(name, is_built_in=False, parameters={key: Fact(text) for key, text in parameters.items()})


_KVM: Final = {"halt_poll_ns": "200000", "tdp_mmu": "Y"}


def _intel(apicv: str, ipiv: str | None = None) -> Mapping[str, str]:
    of_ipi = {} if ipiv is None else {"enable_ipiv": ipiv}
    return {"enable_apicv": apicv, "ept": "Y", "nested": "Y", "pml": "Y", **of_ipi}


def _amd(avic: str) -> Mapping[str, str]:
    return {"avic": avic, "npt": "Y", "nested": "1"}


_VMX: Final = frozenset({"vmx", "ept", "ept_ad", "vtpr", "mtf", "tsc_offset", "preemption_timer", "pml"})
_APICV: Final = _VMX | {"apicv", "vapic_reg", "vid", "posted_intr"}
_BROADWELL: Final = CpuInfo("GenuineIntel", "Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", _APICV)
_SAPPHIRE: Final = CpuInfo("GenuineIntel", "Intel(R) Xeon(R) Platinum 8480+", _APICV | {"ipi_virt"})
_CLIENT: Final = CpuInfo("GenuineIntel", "Intel(R) Core(TM) i7-4770 CPU @ 3.40GHz", _VMX)
_MILAN: Final = CpuInfo("AuthenticAMD", "AMD EPYC 7713 64-Core Processor", frozenset({"svm", "npt", "avic"}))
_GENOA: Final = CpuInfo("AuthenticAMD", "AMD EPYC 9654 96-Core Processor", frozenset({"svm", "npt", "avic", "x2avic"}))
_NEOVERSE: Final = CpuInfo(None, "Neoverse-N1", frozenset({"fp", "asimd", "atomics"}))

HOST_KINDS: Final = (
    HostKind("intel-6.8", "x86-6.8", "6.8.0-45-generic", "kvm_intel", _intel("Y", "Y"), _SAPPHIRE),
    HostKind("amd-6.1", "x86-6.1", "6.1.0-28-amd64", "kvm_amd", _amd("N"), _MILAN),
    HostKind("amd-6.18", "x86-6.18", "6.18.4", "kvm_amd", _amd("Y"), _GENOA, counts_groups=True),
    HostKind("intel-6.1", "x86-6.1", "6.1.0-28-amd64", "kvm_intel", _intel("Y", "N"), _BROADWELL),
    HostKind("intel-6.12-off", "x86-6.12", "6.12.9", "kvm_intel", _intel("N", "N"), _SAPPHIRE),
    HostKind("intel-6.12-client", "x86-6.12", "6.12.9", "kvm_intel", _intel("N", "N"), _CLIENT, counts_groups=True),
    HostKind("amd-6.12", "x86-6.12", "6.12.9", "kvm_amd", _amd("Y"), _MILAN),
    HostKind("arm64-6.12", "arm64-6.12", "6.12.9", "kvm", {"halt_poll_ns": "500000"}, _NEOVERSE, "aarch64"),
    HostKind("intel-7.2", "x86-7.2", "7.2.1", "kvm_intel", _intel("Y", "Y"), _SAPPHIRE, counts_groups=True),
    HostKind("amd-6.17", "x86-6.17", "6.17.8", "kvm_amd", _amd("N"), _GENOA),
    HostKind("intel-5.15", "x86-5.15", "5.15.16", "kvm_intel", _intel("Y"), _BROADWELL),
    HostKind("amd-7.2", "x86-7.2", "7.2.1", "kvm_amd", _amd("Y"), _GENOA),
)
"""Used in turn, so a fleet of at least this many hosts has every kind."""


@dataclass(frozen=True, slots=True)
class SimulatedVmm:
    """A VMM and the command line of its VMs; ``managed_by`` as in ``VmmProcess``."""

    name: str
    command: str
    managed_by: str | None = None


VMMS: Final = (
    SimulatedVmm("qemu", "qemu-system-x86_64", "libvirt"),
    SimulatedVmm("qemu", "qemu-system-x86_64"),
    SimulatedVmm("cloud-hypervisor", "cloud-hypervisor"),
    SimulatedVmm("firecracker", "firecracker"),
)
QEMU: Final = VMMS[1]
