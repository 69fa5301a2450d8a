"""Whether a guest is Windows, and the enlightenments offered to its Hyper-V for the VMs that it runs.

Windows runs on Hyper-V itself with VBS (memory integrity, Credential Guard), WSL2 and Docker Desktop. Not here: whether
a guest is shown VMX or SVM at all (``InterruptConfig.nested``), and what it does with them.

Rule: as for ``InterruptConfig``: each setting has its evidence, and one that may be set elsewhere is unknown. Managers
give Windows guests individual hv-* options; hv-passthrough is not evidence, since Incus gives it to every guest.
Source: QEMU 7.2 to 10 docs/system/i386/hyperv.rst (hv-evmcs is for Intel; hv-emsr-bitmap and hv-tlbflush-direct need
it there, and work alone on AMD); libvirt docs/formatdomain.rst, libosinfo's ids in <metadata>; cloud-hypervisor
arch/src/x86_64/mod.rs (kvm_hyperv has none of the three).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from ...errors import FormatError
from .. import libvirt_xml
from ..apicv import Hardware
from ..libvirt_xml import LibvirtDomain
from ..process import PROCESSES_KEPT, VmmProcess
from ..qemu_args import Cpu, as_flag, parse
from .others import cloud_hypervisor_cpus
from .qemu import HV_PASSTHROUGH, enlightenment, is_x86
from .settings import Setting, SettingGroup

_WINDOWS: Final = "http://microsoft.com/win"
_OPTIONS: Final = {"evmcs": "hv-evmcs", "msr_bitmap": "hv-emsr-bitmap", "direct_flush": "hv-tlbflush-direct"}
_ELEMENTS: Final = {"evmcs": "evmcs", "msr_bitmap": "emsr_bitmap", "direct_flush": "tlbflush.direct"}


@dataclass(frozen=True, slots=True)
class HypervNesting(SettingGroup):
    """``windows``: whether the guest is Windows, as far as its configuration shows.

    ``evmcs``: the enlightened VMCS (Intel). ``msr_bitmap``: its hypervisor reports changes of MSR bitmaps to KVM.
    ``direct_flush``: KVM handles TLB flushes that the nested guest requests from that hypervisor.
    """

    windows: Setting[bool]
    evmcs: Setting[bool]
    msr_bitmap: Setting[bool]
    direct_flush: Setting[bool]

    def missing(self, hardware: Hardware | None) -> tuple[str, ...]:
        """The evidence for each enlightenment that is not offered though a host of this vendor could offer it."""
        of_amd = (self.msr_bitmap, self.direct_flush)
        offers = {Hardware.INTEL: (self.evmcs, *of_amd), Hardware.AMD: of_amd}.get(hardware or Hardware.OTHER, ())
        return tuple(offer.evidence for offer in offers if offer.value is False)


@lru_cache(maxsize=PROCESSES_KEPT)
def hyperv_nesting_of(process: VmmProcess | None, xml: bytes | None = None) -> HypervNesting:
    """The settings in the command line; the guest's system from libvirt's XML, if that names it."""
    told = _of_process(process)
    if xml is None:
        return told
    try:
        domain = libvirt_xml.parse_domain(xml)
    except FormatError:
        return told
    if domain.os_id is not None:
        told = replace(told, windows=Setting(domain.os_id.startswith(_WINDOWS), f"libosinfo id {domain.os_id}"))
    is_hidden = process is not None and process.vmm == "qemu" and bool(parse(process.argv).config_files)
    return told.filled_from(_of_domain(domain)) if is_hidden else told


def _of_process(process: VmmProcess | None) -> HypervNesting:
    if process is not None and process.vmm == "cloud-hypervisor":
        return _of_cloud_hypervisor(process.argv)
    if process is None or process.vmm != "qemu" or not process.argv:
        return HypervNesting.unknown("the command line of a QEMU is not known")
    if not is_x86(process.argv):
        return HypervNesting.unknown("not an x86 guest")
    config = parse(process.argv)
    if config.cpu is None and config.config_files:
        return HypervNesting.unknown("-readconfig may say it, and is not read")
    cpu = config.cpu or Cpu("")
    offers = {name: enlightenment(cpu, option) or Setting(False, f"no {option}") for name, option in _OPTIONS.items()}
    return HypervNesting(windows=_windows(cpu), **offers)


def _windows(cpu: Cpu) -> Setting[bool]:
    if cpu.flag(HV_PASSTHROUGH):
        return Setting.unknown(f"-cpu …,{HV_PASSTHROUGH}=on may be given to any guest")
    given = [name for name, value in cpu.features if name.startswith("hv-") and value not in (False, "off")]
    if given:
        return Setting(
            True, f"-cpu …,{given[0]}{f' and {len(given) - 1} more hv-*' if given[1:] else ''}", is_sure=False
        )
    return Setting(False, "no hv-* in -cpu", is_sure=False)


def _of_cloud_hypervisor(argv: tuple[str, ...]) -> HypervNesting:
    cpus = cloud_hypervisor_cpus(argv)
    if cpus is None:
        return HypervNesting.unknown("configured over its API or restored, not by its command line")
    given = as_flag(cpus.get("kvm_hyperv", "off"))
    said = f"--cpus …,kvm_hyperv={cpus['kvm_hyperv']}" if "kvm_hyperv" in cpus else "--cpus without kvm_hyperv"
    none: Setting[bool] = Setting.unknown("cloud-hypervisor has no setting for it")
    return HypervNesting(Setting(given, said, is_sure=False), none, none, none)


def _of_domain(domain: LibvirtDomain) -> HypervNesting:
    if domain.hyperv_mode == "passthrough":
        every = Setting(True, "<hyperv mode='passthrough'>")
        return HypervNesting(
            Setting.unknown("<hyperv mode='passthrough'> may be given to any guest"), every, every, every
        )
    given = [name for name, is_on in domain.hyperv if is_on]
    offers = {
        name: Setting(bool(domain.hyperv_flag(element)), f"no <{element.rpartition('.')[2]} state='on'/>")
        for name, element in _ELEMENTS.items()
    }
    return HypervNesting(
        windows=Setting(
            bool(given), f"<{given[0]} state='on'/> in <hyperv>" if given else "no <hyperv>", is_sure=False
        ),
        **offers,
    )
