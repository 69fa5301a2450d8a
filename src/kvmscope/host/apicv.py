"""APICv or AVIC on this host: the CPU's feature, the module's parameters, and related features.

Pure: derived from a ``Machine``. Not here: the state of any VM.

Rule: each fact has its evidence, the parameter or flag as the kernel shows it; an unknown fact has the reason.
Source: arch/x86/kvm/vmx/vmx.c and capabilities.h (enable_apicv), svm/{svm,avic}.c (avic, force_avic, enable_ipiv),
kvm/x86.c (enable_device_posted_irqs), arch/x86/include/asm/vmxfeatures.h and arch/x86/kernel/cpu/feat_ctl.c (the
``vmx flags`` of /proc/cpuinfo); Linux 6.1 to 7.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from ..linux.facts import X86, CpuInfo, Fact, KernelModule
from .facts import Machine


class Hardware(Enum):
    """The hardware below KVM. OTHER has no interrupt acceleration that KVM supports (kvm_pvm, other architectures)."""

    INTEL = "intel"
    AMD = "amd"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class HostFlag:
    """A boolean with its evidence; ``value`` None: unknown, and the evidence is the reason."""

    value: bool | None
    evidence: str


@dataclass(frozen=True, slots=True)
class HostApicv:
    """One host. ``is_x86``: None if the architecture is not known.

    ``supported``: the CPU has it and KVM can use it. ``switched_on``: the module's parameter, as the module set it when
    it was loaded. ``x2avic``: AMD only; whether AVIC supports guests in x2APIC mode. ``ipi``, ``device_posting``:
    whether IPIs, and interrupts of assigned devices, reach a guest without KVM. ``nested``: whether guests may run
    nested guests. ``cpu_ipi``: whether the CPU supports IPI virtualization, without an erratum for which KVM disables
    it; if it does not, ``ipi`` is false as well.
    """

    is_x86: bool | None
    hardware: Hardware | None
    module: str | None
    supported: HostFlag
    switched_on: HostFlag
    x2avic: HostFlag
    ipi: HostFlag
    device_posting: HostFlag
    nested: HostFlag
    cpu_ipi: HostFlag = HostFlag(None, "whether the CPU has IPI virtualization is not known")
    _hash: int | None = field(default=None, init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        """Computed once: hosts are part of the cache key of every VM in every window."""
        if self._hash is None:
            object.__setattr__(
                self, "_hash", hash((self.is_x86, self.hardware, self.module, *_host_flags(self), self.cpu_ipi))
            )
        return self._hash or 0

    @classmethod
    def unknown(cls, why: str) -> HostApicv:
        """A host of which nothing is known, for one reason."""
        flag = HostFlag(None, why)
        return cls(None, None, None, flag, flag, flag, flag, flag, flag)


def host_apicv(machine: Machine) -> HostApicv:
    """The facts about APICv or AVIC in ``machine``."""
    architecture = machine.architecture.value
    is_x86 = None if architecture is None else architecture in X86
    if is_x86 is False:
        no = HostFlag(False, f"KVM for {architecture} has no APICv")
        return HostApicv(False, Hardware.OTHER, _name(machine), no, no, no, no, no, no)
    module = machine.kvm_vendor.value
    if module is None:
        found = HostApicv.unknown(machine.kvm_vendor.reason or "which KVM module is in use is not known")
        return HostApicv(is_x86, None, None, *_host_flags(found))
    cpu = machine.cpu.value
    flags = cpu.flags if cpu else None
    if module.name == "kvm_intel":
        return _intel(is_x86, module, machine.kvm.value, flags)
    if module.name == "kvm_amd":
        return replace(_amd(is_x86, module, machine.kvm.value, flags), cpu_ipi=_amd_cpu_ipi(cpu))
    no = HostFlag(False, f"not supported: this host uses {module.name}, which has no APICv or AVIC")
    return HostApicv(is_x86, Hardware.OTHER, module.name, no, no, no, no, no, no)


_VMX_LINE = frozenset({"vtpr", "mtf", "tsc_offset", "preemption_timer"})  # in no other line of /proc/cpuinfo
_ERRATUM_1235 = frozenset({0x17, 0x18})
"""Families of AMD (Zen 1 and Zen 2) and Hygon."""
_OF_SNP = (
    "AVIC then takes a CPU with HvInUseWrAllowed, which /proc/cpuinfo does not show; "
    "the kernel's log says if that is missing"
)
"""avic_hardware_setup() of Linux 6.12.117 and later: without it KVM may not write to pages that hardware has in use."""
_APICV_PARTS = frozenset({"vapic_reg", "vid", "posted_intr"})


def _intel(
    is_x86: bool | None, module: KernelModule, kvm: KernelModule | None, flags: frozenset[str] | None
) -> HostApicv:
    on = _parameter(module, "enable_apicv")
    ipi = _parameter(module, "enable_ipiv")
    if ipi is None:
        ipi = HostFlag(False, "kvm_intel has no parameter enable_ipiv, which is there from Linux 5.19 on")
    return HostApicv(
        is_x86=is_x86,
        hardware=Hardware.INTEL,
        module=module.name,
        supported=_known_if_on(on, _intel_cpu(flags)),
        switched_on=on or HostFlag(None, "kvm_intel has no parameter enable_apicv"),
        x2avic=HostFlag(True, "APICv serves x2APIC mode as well"),
        ipi=ipi,
        device_posting=_device_posting(module, kvm),
        nested=_parameter(module, "nested") or HostFlag(None, "kvm_intel has no parameter nested"),
        cpu_ipi=_intel_cpu_ipi(flags, ipi),
    )


def _intel_cpu_ipi(flags: frozenset[str] | None, ipi: HostFlag) -> HostFlag:
    """From the vmx flag for VMX_FEATURE_IPI_VIRT, which Linux shows since 5.19."""
    if ipi.value:
        return HostFlag(True, f"{ipi.evidence}, which the module clears where the CPU lacks it")
    if flags is None:
        return HostFlag(None, "/proc/cpuinfo cannot be read")
    if "ipi_virt" in flags:
        return HostFlag(True, "/proc/cpuinfo, vmx flags: ipi_virt")
    if flags & _VMX_LINE:
        return HostFlag(False, "/proc/cpuinfo, vmx flags: without ipi_virt")
    return HostFlag(None, "/proc/cpuinfo has no vmx flags")


def _intel_cpu(flags: frozenset[str] | None) -> HostFlag:
    if flags is None:
        return HostFlag(None, "/proc/cpuinfo cannot be read")
    if "apicv" in flags or flags >= _APICV_PARTS:
        return HostFlag(
            True, "/proc/cpuinfo, vmx flags: apicv" if "apicv" in flags else "/proc/cpuinfo, vmx flags: vid"
        )
    if flags & _VMX_LINE:
        return HostFlag(False, "/proc/cpuinfo, vmx flags: without apicv")
    return HostFlag(None, "/proc/cpuinfo has no vmx flags")


def _amd(
    is_x86: bool | None, module: KernelModule, kvm: KernelModule | None, flags: frozenset[str] | None
) -> HostApicv:
    on = _parameter(module, "avic")
    ipi = _parameter(module, "enable_ipiv") or HostFlag(True, "part of AVIC: kvm_amd has no parameter enable_ipiv")
    return HostApicv(
        is_x86=is_x86,
        hardware=Hardware.AMD,
        module=module.name,
        supported=_amd_cpu(module, flags, on),
        switched_on=on or HostFlag(None, "kvm_amd has no parameter avic"),
        x2avic=_flag(flags, "x2avic"),
        ipi=ipi,
        device_posting=_device_posting(module, kvm),
        nested=_parameter(module, "nested") or HostFlag(None, "kvm_amd has no parameter nested"),
    )


def _amd_cpu_ipi(cpu: CpuInfo | None) -> HostFlag:
    """AVIC has it on every CPU. Since Linux 6.17 KVM disables it for erratum 1235, whatever enable_ipiv says."""
    if cpu is None or cpu.family is None:
        return HostFlag(None, "the family of the CPU is not known")
    where = f"/proc/cpuinfo, cpu family: {cpu.family}"
    if cpu.family in _ERRATUM_1235:
        return HostFlag(False, f"{where}, which has erratum 1235")
    return HostFlag(True, f"{where}, which does not have erratum 1235")


def _amd_cpu(module: KernelModule, flags: frozenset[str] | None, on: HostFlag | None) -> HostFlag:
    forced = _parameter(module, "force_avic")
    cpu = _flag(flags, "avic")
    if cpu.value is not True and forced is not None and forced.value:
        return HostFlag(True, f"{forced.evidence}: KVM takes AVIC for granted")
    snp = _parameter(module, "sev_snp")
    if cpu.value and on is not None and on.value is False and snp is not None and snp.value:
        return HostFlag(None, f"{snp.evidence}: {_OF_SNP}")
    return _known_if_on(on, cpu)


def _known_if_on(on: HostFlag | None, cpu: HostFlag) -> HostFlag:
    """If a parameter is still on after the module was loaded, KVM found the CPU feature that it needs."""
    if on is not None and on.value and cpu.value is not True:
        return HostFlag(True, f"{on.evidence}, which the module clears where the CPU lacks it")
    return cpu


def _device_posting(module: KernelModule, kvm: KernelModule | None) -> HostFlag:
    name = "enable_device_posted_irqs"
    flag = _parameter(module, name) or (_parameter(kvm, name) if kvm is not None else None)
    if flag is None:
        return HostFlag(None, f"no parameter {name} (before Linux 6.17): it depends on the IOMMU")
    return flag if flag.value is False else HostFlag(flag.value, f"{flag.evidence}, if the IOMMU can")


def _flag(flags: frozenset[str] | None, name: str) -> HostFlag:
    if flags is None:
        return HostFlag(None, "/proc/cpuinfo cannot be read")
    return HostFlag(name in flags, f"/proc/cpuinfo, flags: {name if name in flags else f'without {name}'}")


_YES_NO: Mapping[str, bool] = {"Y": True, "1": True, "N": False, "0": False}


def _parameter(module: KernelModule, name: str) -> HostFlag | None:
    """A boolean parameter of a module; None if the module does not have it."""
    fact: Fact[str] | None = module.parameters.get(name)
    if fact is None:
        return None
    if fact.value is None:
        return HostFlag(None, fact.reason or f"{module.name}.{name} cannot be read")
    return HostFlag(_YES_NO.get(fact.value), f"{module.name}.{name}={fact.value}")


def _name(machine: Machine) -> str | None:
    return machine.kvm_vendor.value.name if machine.kvm_vendor.value else None


def _host_flags(host: HostApicv) -> tuple[HostFlag, HostFlag, HostFlag, HostFlag, HostFlag, HostFlag]:
    return host.supported, host.switched_on, host.x2avic, host.ipi, host.device_posting, host.nested
