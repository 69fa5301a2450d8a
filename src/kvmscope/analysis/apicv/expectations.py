"""The reasons to expect from a VM's configuration, without KVM's state or in addition to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...catalog.inhibits import Inhibit, Vendor, load_inhibits, unlisted
from ...catalog.settings import parties_of
from ...host.apicv import Hardware, HostApicv
from ...host.config import Confidential, InterruptConfig, Irqchip, Pit, Setting
from .conditions import AVIC_MOST, X2AVIC_EXTENDED_MOST, id_limit
from .values import Certainty


@dataclass(frozen=True, slots=True)
class Expectation:
    """A reason that a configuration causes. ``cause``: the option or default; untrusted text."""

    reason: str
    certainty: Certainty
    cause: str
    remedy: str


def expect(config: InterruptConfig, host: HostApicv) -> tuple[Expectation, ...]:
    """The reasons, other than the host's own, that the configuration causes on this host's kind of hardware."""
    return tuple(expectation for expectation in _all(config, host) if counts(expectation.reason, host))


def inhibit(name: str) -> Inhibit:
    """The catalogue's entry of a reason."""
    return load_inhibits().get(name) or unlisted(name)


def counts(name: str, host: HostApicv) -> bool:
    """Whether KVM honours a reason on this hardware; true if that is not known."""
    vendors = {Hardware.INTEL: Vendor.INTEL, Hardware.AMD: Vendor.AMD}
    if host.hardware is None:
        return True
    return host.hardware in vendors and vendors[host.hardware] in inhibit(name).vendors


def remedy(name: str, config: InterruptConfig) -> str:
    """The change that removes a reason, in the terms of the VM's manager (such as libvirt) and of its VMM."""
    return inhibit(name).remedy(parties_of(config.vmm, config.managed_by))


def _all(config: InterruptConfig, host: HostApicv) -> Iterator[Expectation]:
    def found(name: str, setting: Setting[object], certainty: Certainty = Certainty.CERTAIN) -> Expectation:
        sure = certainty
        if certainty is Certainty.CERTAIN and not setting.is_sure:
            sure = Certainty.LIKELY
        if host.hardware is None and inhibit(name).vendors != frozenset(Vendor):
            sure = Certainty.POSSIBLE
        return Expectation(name, sure, setting.evidence, remedy(name, config))

    if config.irqchip.value is Irqchip.OFF:
        yield found("absent", config.irqchip)
    if config.pit.value is Pit.REINJECT:
        yield found("pit_reinj", config.pit)
    if config.confidential.value in (Confidential.SEV, Confidential.SEV_SNP):
        yield found("sev", config.confidential)
    highest = config.highest_apic_id.value
    if highest is not None and highest > (id_limit(host) or AVIC_MOST):
        is_sure = highest > X2AVIC_EXTENDED_MOST or host.x2avic.value is False
        yield found("physical_id_too_big", config.highest_apic_id, Certainty.CERTAIN if is_sure else Certainty.LIKELY)
    if config.synic.value and config.avic_hint.value is not True:
        yield found("hyperv", _synic(config), Certainty.POSSIBLE)
    if config.nested.value:
        yield found("nested", config.nested, Certainty.POSSIBLE)


def _synic(config: InterruptConfig) -> Setting[bool]:
    """The guest decides; without the advice against it, Windows uses AutoEOI."""
    hint = config.avic_hint
    missing = hint.evidence if hint.value is False else f"whether it is advised against AutoEOI: {hint.evidence}"
    return Setting(config.synic.value, f"{config.synic.evidence}; {missing}")
