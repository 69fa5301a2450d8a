"""The command lines of VMMs other than QEMU as an ``InterruptConfig``.

Source (August 2026): cloud-hypervisor hypervisor/src/kvm/mod.rs (always KVM_CAP_SPLIT_IRQCHIP, no PIT) and
vmm/src/config.rs; crosvm devices/src/irqchip/kvm/x86_64.rs and src/crosvm/cmdline.rs; Firecracker
src/vmm/src/arch/x86_64/vm.rs; libkrun src/devices/src/legacy/kvmioapic.rs; kvmtool x86/kvm.c; StratoVirt
hypervisor/src/kvm/{mod,x86_64/mod}.rs; Kata src/dragonball/src/vm/x86_64.rs; gVisor
pkg/sentry/platform/kvm/kvm_const.go (the ioctls that it uses); OpenVMM vmm_core/virt_kvm; Alioth
alioth/src/hv/kvm/vm; VirtualBox on KVM (Cyberus) src/VBox/VMM/VMMR3/NEMR3Native-linux.cpp. A VMM that makes a PIT in
the kernel and never calls KVM_REINJECT_CONTROL has reinjection on, which is the kernel's default.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from ..qemu_args import as_flag, as_number, split_pairs
from .settings import Confidential, InterruptConfig, Irqchip, Pit, Setting


def of_other(vmm: str, argv: Sequence[str], *, managed_by: str | None = None) -> InterruptConfig:
    """The settings of a VMM that is not QEMU."""
    if not argv:
        return InterruptConfig.unknown(vmm, "the process shows no command line", managed_by=managed_by)
    reader = _READERS.get(vmm)
    if reader is None:
        return InterruptConfig.unknown(vmm, f"how {vmm} sets up a VM is not known here", managed_by=managed_by)
    return replace(reader(argv), managed_by=managed_by)


def cloud_hypervisor_cpus(argv: Sequence[str]) -> Mapping[str, str] | None:
    """The values of cloud-hypervisor's ``--cpus``; None if the VM is not configured by this command line."""
    by_api = not any(_values(argv, option) for option in ("--kernel", "--firmware", "--disk", "--cpus", "--platform"))
    return None if by_api else _pairs(argv, "--cpus")


def _cloud_hypervisor(argv: Sequence[str]) -> InterruptConfig:
    given = cloud_hypervisor_cpus(argv)
    why = "configured over its API or restored, not by its command line"
    cpus, platform = given or {}, _pairs(argv, "--platform")
    synic = as_flag(cpus.get("kvm_hyperv", "off"))
    nested = as_flag(cpus.get("nested", "on"))
    most = as_number(cpus.get("max", cpus.get("boot", "1")))
    secret = next((c for key, c in _PLATFORM.items() if as_flag(platform.get(key))), Confidential.NONE)
    config = InterruptConfig.unknown("cloud-hypervisor", why)
    fixed = replace(
        config,
        irqchip=Setting(Irqchip.SPLIT, "cloud-hypervisor always splits the irqchip"),
        pit=Setting(Pit.ABSENT, "cloud-hypervisor makes no PIT"),
        avic_hint=Setting.unknown("depends on its version: 53.0 gives it with kvm_hyperv=on, 52.0 did not yet"),
    )
    if given is None:
        return fixed
    return replace(
        fixed,
        synic=Setting(synic, _said("--cpus", "kvm_hyperv", cpus, "off")),
        nested=Setting(nested, _said("--cpus", "nested", cpus, "on")),
        confidential=Setting(secret, "--platform sev_snp=on" if platform.get("sev_snp") else _platform_text(platform)),
        cpus=Setting(most, f"--cpus {','.join(_values(argv, '--cpus')) or 'by default'}"),
        highest_apic_id=_topology(cpus, most),
    )


_PLATFORM: Mapping[str, Confidential] = {"sev_snp": Confidential.SEV_SNP, "tdx": Confidential.TDX}


def _platform_text(platform: Mapping[str, str]) -> str:
    return "--platform tdx=on" if platform.get("tdx") else "no --platform sev_snp or tdx"


def _topology(cpus: Mapping[str, str], most: int | None) -> Setting[int]:
    if most is None:
        return Setting.unknown("the number of vCPUs is not known")
    if "topology" in cpus:
        return Setting.unknown(f"--cpus topology={cpus['topology']}: its APIC ids are not derived here")
    return Setting(most - 1, f"--cpus with {most} vCPU{'' if most == 1 else 's'} and no topology")


def _crosvm(argv: Sequence[str]) -> InterruptConfig:
    files = _values(argv, "--cfg")
    if files:
        return InterruptConfig.unknown("crosvm", f"--cfg {files[-1]} may say it, and is not read")
    return _plain("crosvm", _crosvm_irqchip(argv))


def _crosvm_irqchip(argv: Sequence[str]) -> Setting[Irqchip]:
    given = _values(argv, "--irqchip")
    if given:
        kind = re.split(r"[\[,]", given[-1])[0].removeprefix("kind=")
        chosen = {"kernel": Irqchip.KERNEL, "split": Irqchip.SPLIT, "userspace": Irqchip.OFF}.get(kind)
        evidence = f"--irqchip {given[-1]}"
        return Setting.unknown(f"{evidence} is not known here") if chosen is None else Setting(chosen, evidence)
    if any(word in ("--split-irqchip", "--split-irqchip=true") for word in argv):
        return Setting(Irqchip.SPLIT, "--split-irqchip")
    return Setting(Irqchip.KERNEL, "no --irqchip, so all in the kernel")


def _firecracker(_: Sequence[str]) -> InterruptConfig:
    return _plain("firecracker", Setting(Irqchip.KERNEL, "Firecracker always has all in the kernel"))


def _kvmtool(_: Sequence[str]) -> InterruptConfig:
    return _plain("kvmtool", Setting(Irqchip.KERNEL, "kvmtool always has all in the kernel"))


def _libkrun(_: Sequence[str]) -> InterruptConfig:
    evidence = "libkrun has all in the kernel, unless its program calls krun_split_irqchip()"
    config = _plain("libkrun", Setting(Irqchip.KERNEL, evidence, is_sure=False))
    evidence = "libkrun leaves PIT reinjection on before its pull request 848 (September 2026)"
    return replace(
        config,
        pit=Setting(Pit.REINJECT, evidence, is_sure=False),
        confidential=Setting.unknown("there are builds of libkrun for SEV and TDX"),
    )


def _stratovirt(_: Sequence[str]) -> InterruptConfig:
    return _plain("stratovirt", Setting(Irqchip.KERNEL, "StratoVirt always has all in the kernel"))


def _dragonball(_: Sequence[str]) -> InterruptConfig:
    evidence = "Dragonball has all in the kernel, but for guests with TDX"
    return _controllers("dragonball", Setting(Irqchip.KERNEL, evidence, is_sure=False))


def _gvisor(_: Sequence[str]) -> InterruptConfig:
    return _plain("gvisor", Setting(Irqchip.OFF, "gVisor makes no interrupt controllers: its VM has no devices"))


def _openvmm(_: Sequence[str]) -> InterruptConfig:
    return _controllers("openvmm", Setting(Irqchip.SPLIT, "OpenVMM always splits the irqchip"))


def _alioth(_: Sequence[str]) -> InterruptConfig:
    return _controllers("alioth", Setting(Irqchip.SPLIT, "Alioth always splits the irqchip"))


def _virtualbox(_: Sequence[str]) -> InterruptConfig:
    evidence = "VirtualBox on KVM splits the irqchip, unless it was built with VBOX_WITH_KVM_IRQCHIP_FULL"
    return _controllers("virtualbox", Setting(Irqchip.SPLIT, evidence, is_sure=False))


def _controllers(vmm: str, irqchip: Setting[Irqchip]) -> InterruptConfig:
    """A VMM of which only the interrupt controllers are known."""
    config = InterruptConfig.unknown(vmm, f"not derived from the command line of {vmm}")
    return replace(config, irqchip=irqchip, pit=_pit_beside(irqchip))


def _plain(vmm: str, irqchip: Setting[Irqchip]) -> InterruptConfig:
    """A VMM without Hyper-V's controller and without SEV, whose other settings its command line does not show."""
    config = InterruptConfig.unknown(vmm, f"not derived from the command line of {vmm}")
    return replace(
        config,
        irqchip=irqchip,
        pit=_pit_beside(irqchip),
        synic=Setting(False, f"{vmm} enables no SynIC"),
        avic_hint=Setting(False, f"{vmm} enables no SynIC"),
        confidential=Setting(Confidential.NONE, f"{vmm} encrypts no memory"),
    )


def _pit_beside(irqchip: Setting[Irqchip]) -> Setting[Pit]:
    if irqchip.value is None:
        return Setting.unknown(irqchip.evidence)
    if irqchip.value is Irqchip.KERNEL:
        return Setting(Pit.REINJECT, "an in-kernel PIT, and reinjection is never switched off", is_sure=irqchip.is_sure)
    return Setting(Pit.ABSENT, f"{irqchip.evidence}, so no PIT in the kernel", is_sure=irqchip.is_sure)


_READERS: Mapping[str, Callable[[Sequence[str]], InterruptConfig]] = {
    "alioth": _alioth,
    "cloud-hypervisor": _cloud_hypervisor,
    "crosvm": _crosvm,
    "dragonball": _dragonball,
    "firecracker": _firecracker,
    "gvisor": _gvisor,
    "kvmtool": _kvmtool,
    "libkrun": _libkrun,
    "openvmm": _openvmm,
    "stratovirt": _stratovirt,
    "virtualbox": _virtualbox,
}
OTHER_VMMS: Final = frozenset(_READERS)
"""The VMMs whose configuration can be read here, by the values of ``VmmProcess.vmm``."""


def _values(argv: Sequence[str], option: str) -> list[str]:
    """Every value of ``--option VALUE`` or ``--option=VALUE``."""
    found = []
    for place, word in enumerate(argv):
        if word == option and place + 1 < len(argv):
            found.append(argv[place + 1])
        elif word.startswith(f"{option}="):
            found.append(word[len(option) + 1 :])
    return found


def _pairs(argv: Sequence[str], option: str) -> dict[str, str]:
    return {key: value for text in _values(argv, option) for key, value in split_pairs(text) if key is not None}


def _said(option: str, key: str, pairs: Mapping[str, str], default: str) -> str:
    return f"{option} …,{key}={pairs[key]}" if key in pairs else f"{key}={default} by default"
