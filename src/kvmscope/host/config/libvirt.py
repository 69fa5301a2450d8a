"""Libvirt's domain XML as an ``InterruptConfig``: for settings that the command line does not show.

Rule: a setting that the XML does not have (None in ``libvirt_xml``) is QEMU's default, as libvirt passes it on; if
libvirt takes it from elsewhere (the host's CPU), it is unknown.
Source: libvirt docs/formatdomain.rst and src/qemu/qemu_command.c, 9.0 to 11.
"""

from __future__ import annotations

import re

from ..apicv import Hardware
from ..libvirt_xml import LibvirtDomain
from .nesting import given_nesting
from .settings import Confidential, InterruptConfig, Irqchip, Pit, Setting

_LAUNCH = {"sev": Confidential.SEV, "sev-snp": Confidential.SEV_SNP, "tdx": Confidential.TDX}
_ON, _OFF = ("force", "require"), ("disable", "forbid")


def of_domain(domain: LibvirtDomain, *, hardware: Hardware | None = None) -> InterruptConfig:
    """The settings of a domain of libvirt's QEMU driver; all are unknown for other drivers.

    ``hardware``: below KVM, None if unknown.
    """
    if domain.type != "kvm":
        return InterruptConfig.unknown("other", f"<domain type='{domain.type}'>", managed_by=domain.manager)
    irqchip = _irqchip(domain)
    return InterruptConfig(
        vmm="qemu",
        managed_by=domain.manager,
        irqchip=irqchip,
        pit=_pit(domain, irqchip),
        synic=_hyperv(domain, "synic"),
        avic_hint=_hyperv(domain, "avic"),
        confidential=_confidential(domain),
        nested=_nested(domain, hardware),
        cpus=Setting.unknown("no <vcpu>") if domain.vcpus is None else Setting(domain.vcpus, f"<vcpu>{domain.vcpus}"),
        highest_apic_id=Setting.unknown("the XML's <topology> is not read; the command line has it"),
    )


def _irqchip(domain: LibvirtDomain) -> Setting[Irqchip]:
    driver = domain.ioapic_driver
    if driver == "qemu":
        return Setting(Irqchip.SPLIT, "<ioapic driver='qemu'/>")
    if driver == "kvm":
        return Setting(Irqchip.KERNEL, "<ioapic driver='kvm'/>")
    if domain.launch_security == "tdx":
        return Setting(Irqchip.SPLIT, "<launchSecurity type='tdx'>")
    machine = domain.machine or ""
    if machine == "microvm" or re.fullmatch(r"(pc-)?q35-4\.0", machine):
        return Setting(Irqchip.SPLIT, f"machine='{machine}' and no <ioapic>")
    return Setting(Irqchip.KERNEL, "no <ioapic>, so QEMU's default")


def _pit(domain: LibvirtDomain, irqchip: Setting[Irqchip]) -> Setting[Pit]:
    if irqchip.value is not Irqchip.KERNEL:
        return Setting(Pit.ABSENT, f"{irqchip.evidence}, so no PIT in the kernel")
    timer = domain.timer("pit")
    if timer is None:
        return Setting(Pit.REINJECT, "no <timer name='pit'>, so QEMU's default (delay)")
    if timer.present is False:
        return Setting.unknown("<timer name='pit' present='no'/>: what libvirt passes to QEMU depends on its version")
    evidence = f"<timer name='pit' tickpolicy='{timer.tick_policy or 'delay'}'/>"
    chosen = {None: Pit.REINJECT, "delay": Pit.REINJECT, "discard": Pit.DISCARD}.get(timer.tick_policy)
    return Setting.unknown(f"{evidence} is not a known policy") if chosen is None else Setting(chosen, evidence)


def _hyperv(domain: LibvirtDomain, name: str) -> Setting[bool]:
    if domain.hyperv_mode == "passthrough":
        return Setting(True, "<hyperv mode='passthrough'>", is_sure=name == "synic")
    given = domain.hyperv_flag(name)
    return (
        Setting(False, f"no <{name}>")
        if given is None
        else Setting(given, f"<{name} state='{'on' if given else 'off'}'/>")
    )


def _confidential(domain: LibvirtDomain) -> Setting[Confidential]:
    kind = domain.launch_security
    if kind is None:
        return Setting(Confidential.NONE, "no <launchSecurity>")
    evidence = f"<launchSecurity type='{kind}'>"
    found = _LAUNCH.get(kind)
    return Setting.unknown(f"{evidence} is not known here") if found is None else Setting(found, evidence)


def _nested(domain: LibvirtDomain, hardware: Hardware | None) -> Setting[bool]:
    def said(flag: str) -> Setting[bool] | None:
        for feature in domain.cpu_features:
            if feature.name == flag and feature.policy in (*_ON, *_OFF, None):
                evidence = f"<feature policy='{feature.policy or 'require'}' name='{flag}'/>"
                return Setting(feature.policy not in _OFF, evidence)
        return None

    given = given_nesting(hardware, said)
    if given is not None:
        return given
    if domain.cpu_mode in ("host-passthrough", "host-model", "maximum"):
        return Setting.unknown(f"<cpu mode='{domain.cpu_mode}'> passes on what the host allows")
    return Setting(False, f"<cpu> of model {domain.cpu_model or 'by default'} without svm or vmx")
