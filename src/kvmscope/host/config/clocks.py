"""The clocks and timers that a VM offers its guest, from the command line of QEMU or cloud-hypervisor, or from
libvirt's XML.

A guest without a clock that it can read without an exit reads one that the VMM emulates: the ACPI PM timer and the RTC
by ports, the HPET by MMIO. Not here: kvmclock and the TSC, which KVM always offers and Linux guests use.
Rule: as for ``InterruptConfig``: each setting has its evidence, and one that may be set elsewhere is unknown.
Source: QEMU 7.2 to 10 docs/system/i386/hyperv.rst (hv-time needs no other, hv-stimer needs hv-synic and hv-time),
hw/i386/pc.c (hpet is on by default, off on microvm), hw/acpi/core.c (acpi_pm_tmr_init), hw/rtc/mc146818rtc.c
(lost_tick_policy; -rtc driftfix); libvirt src/qemu/qemu_command.c (timers of <clock>); cloud-hypervisor
arch/src/x86_64/mod.rs (kvm_hyperv), vmm/src/device_manager.rs (AcpiPmTimerDevice), as of August 2026.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ...errors import FormatError
from .. import libvirt_xml
from ..libvirt_xml import LibvirtDomain
from ..process import PROCESSES_KEPT, VmmProcess
from ..qemu_args import Cpu, as_flag, parse
from .others import cloud_hypervisor_cpus
from .qemu import enlightenment, is_x86
from .settings import Setting, SettingGroup

_FOR_TIMERS = ("hv-time", "hv-synic", "hv-stimer")


@dataclass(frozen=True, slots=True)
class ClockConfig(SettingGroup):
    """``enlightened``: whether the guest has any of Hyper-V's interfaces, so it is most likely Windows.

    ``hyperv_clock``: the reference TSC page, a clock that is read without an exit. ``hyperv_timers``: synthetic timers,
    which need SynIC. ``hpet``, ``pm_timer``: clocks that the VMM emulates. ``rtc_catchup``: whether the VMM reinjects
    RTC ticks that the guest missed.
    """

    enlightened: Setting[bool]
    hyperv_clock: Setting[bool]
    hyperv_timers: Setting[bool]
    hpet: Setting[bool]
    pm_timer: Setting[bool]
    rtc_catchup: Setting[bool]


@lru_cache(maxsize=PROCESSES_KEPT)
def clocks_of(process: VmmProcess | None, xml: bytes | None = None) -> ClockConfig:
    """The settings in the command line; if it refers to a file for more, also libvirt's XML of the VM, if any."""
    if process is not None and process.vmm == "cloud-hypervisor":
        return _of_cloud_hypervisor(process.argv)
    if process is None or process.vmm != "qemu" or not process.argv:
        return ClockConfig.unknown("the command line of a QEMU is not known")
    if not is_x86(process.argv):
        return ClockConfig.unknown("not an x86 guest")
    told = _of_qemu(process.argv)
    if xml is None or not parse(process.argv).config_files:
        return told
    try:
        return told.filled_from(_of_domain(libvirt_xml.parse_domain(xml)))
    except FormatError:
        return told


def _of_qemu(argv: tuple[str, ...]) -> ClockConfig:
    config = parse(argv)
    if config.cpu is None and config.config_files:
        return ClockConfig.unknown("-readconfig may say it, and is not read")
    cpu = config.cpu or Cpu("")
    machine = config.machine
    given = [name for name, value in cpu.features if name.startswith("hv-") and value not in (False, "off")]
    missing = [name for name in _FOR_TIMERS if not _said_of(cpu, name).value]
    elsewhere = Setting[bool].unknown("-readconfig may say it, and is not read") if config.config_files else None
    return ClockConfig(
        enlightened=Setting(bool(given), f"-cpu …,{given[0]}" if given else "no hv-* in -cpu"),
        hyperv_clock=_said_of(cpu, "hv-time"),
        hyperv_timers=Setting(False, f"-cpu without {', '.join(missing)}") if missing else _said_of(cpu, "hv-stimer"),
        hpet=elsewhere or _hpet(machine.head if machine else None, machine.flag("hpet") if machine else None),
        pm_timer=elsewhere or _pm_timer(machine.head if machine else None, machine.flag("acpi") if machine else None),
        rtc_catchup=elsewhere or _rtc_catchup(config.rtc.text("driftfix") if config.rtc else None),
    )


def _of_cloud_hypervisor(argv: tuple[str, ...]) -> ClockConfig:
    cpus = cloud_hypervisor_cpus(argv)
    if cpus is None:
        return ClockConfig.unknown("configured over its API or restored, not by its command line")
    given = as_flag(cpus.get("kvm_hyperv", "off"))
    said = "--cpus …,kvm_hyperv=" + cpus["kvm_hyperv"] if "kvm_hyperv" in cpus else "--cpus without kvm_hyperv"
    return ClockConfig(
        enlightened=Setting(given, said),
        hyperv_clock=Setting(given, said),
        hyperv_timers=Setting(given, said),
        hpet=Setting(False, "cloud-hypervisor has no HPET"),
        pm_timer=Setting(True, "cloud-hypervisor always has an ACPI PM timer"),
        rtc_catchup=Setting(False, "cloud-hypervisor's RTC has no ticks"),
    )


def _said_of(cpu: Cpu, name: str) -> Setting[bool]:
    return enlightenment(cpu, name) or Setting(False, f"-cpu without {name}")


def _hpet(machine: str | None, given: bool | None) -> Setting[bool]:
    if given is not None:
        return Setting(given, f"-machine hpet={'on' if given else 'off'}")
    if machine == "microvm":
        return Setting(False, "machine type microvm has none")
    return Setting(True, f"machine type {machine or 'by default'}: hpet=on by default")


def _pm_timer(machine: str | None, acpi: bool | None) -> Setting[bool]:
    if machine == "microvm":
        return Setting(False, "machine type microvm has none")
    if acpi is not None:
        return Setting(acpi, f"-machine acpi={'on' if acpi else 'off'}")
    return Setting(True, f"machine type {machine or 'by default'}: acpi=on by default")


def _rtc_catchup(driftfix: str | None) -> Setting[bool]:
    if driftfix is None:
        return Setting(False, "no driftfix in -rtc, so QEMU's default (none)")
    return Setting(driftfix == "slew", f"-rtc driftfix={driftfix}")


def _of_domain(domain: LibvirtDomain) -> ClockConfig:
    clock = domain.timer("hypervclock")
    hpet = domain.timer("hpet")
    rtc = domain.timer("rtc")
    is_all = domain.hyperv_mode == "passthrough"
    has_clock = is_all or (clock is not None and clock.present is not False)
    has_timers = is_all or (all(domain.hyperv_flag(name) for name in ("synic", "stimer")) and has_clock)
    has_any = is_all or has_clock or any(on for _, on in domain.hyperv)
    everything = "<hyperv mode='passthrough'>"
    return ClockConfig(
        enlightened=Setting(has_any, everything if is_all else "<hyperv>" if has_any else "no <hyperv>"),
        hyperv_clock=Setting(has_clock, _said(is_all, has_clock, "<timer name='hypervclock' present='yes'/>")),
        hyperv_timers=Setting(has_timers, _said(is_all, has_timers, "<synic state='on'/> and <stimer state='on'/>")),
        hpet=Setting(hpet is None or hpet.present is not False, _said_of_hpet(hpet)),
        pm_timer=Setting(domain.acpi, "<acpi/>" if domain.acpi else "no <acpi/> in <features>"),
        rtc_catchup=Setting(rtc is not None and rtc.tick_policy == "catchup", _said_of_rtc(rtc)),
    )


def _said(is_all: bool, is_on: bool, element: str) -> str:
    return "<hyperv mode='passthrough'>" if is_all else element if is_on else f"no {element}"


def _said_of_hpet(timer: libvirt_xml.Timer | None) -> str:
    if timer is None:
        return "no <timer name='hpet'>, so QEMU's default (on)"
    return f"<timer name='hpet' present='{'no' if timer.present is False else 'yes'}'/>"


def _said_of_rtc(timer: libvirt_xml.Timer | None) -> str:
    if timer is None or timer.tick_policy is None:
        return "no tickpolicy of <timer name='rtc'>, so QEMU's default (none)"
    return f"<timer name='rtc' tickpolicy='{timer.tick_policy}'/>"
