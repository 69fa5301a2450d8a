"""Builds the reasons of a verdict on a subject, with cause, remedy and evidence."""

from __future__ import annotations

from collections.abc import Iterator

from ...catalog.inhibits import InhibitClass
from ...host.apicv import Hardware, HostApicv
from ...host.config import Irqchip
from .conditions import Condition
from .expectations import counts, inhibit, remedy
from .facts import VcpuFacts
from .subject import Subject
from .values import Branch, Certainty, Evidence, From, Reason, Witness

APIC_DISABLED = "apic_disabled"
"""The guest disabled its local APIC by IA32_APIC_BASE: not an inhibit reason of KVM, but with the same effect."""

NO_CONDITION = Condition(None, "")


def disabled_branch(host: HostApicv) -> Branch:
    """Why KVM runs without APICv or AVIC on this host, if it does."""
    if host.supported.value is False:
        return Branch.NOT_SUPPORTED
    if host.supported.value and host.switched_on.value is False:
        return Branch.OFF_BY_PARAMETER
    return Branch.OFF


def host_evidence(host: HostApicv) -> tuple[Evidence, ...]:
    """The evidence on the host: hardware support and module parameter."""
    texts = dict.fromkeys((host.supported.evidence, host.switched_on.evidence))
    return tuple(Evidence(From.HOST, text) for text in texts)


def disabled_reason(subject: Subject) -> Reason:
    """The reason that KVM runs without APICv or AVIC on the whole host."""
    off = subject.host.switched_on.value is False
    is_set = (subject.vm.inhibits or {}).get("disabled", False)
    state = (Evidence(From.STATE, "apicv_inhibit_disabled is set"),) if is_set else ()
    return _make(
        subject,
        "disabled",
        cause=_host_cause(subject.host),
        remedy=_host_remedy(subject),
        witness=Witness.AGREES if off else Witness.CANNOT_TELL,
        evidence=(*state, *host_evidence(subject.host)),
    )


def set_reason(subject: Subject, name: str) -> Reason:
    """The reason of this name, which is set in KVM's state."""
    condition, told = subject.behind.get(name, NO_CONDITION), subject.told.get(name)
    evidence = [Evidence(From.STATE, f"apicv_inhibit_{name} is set")]
    if condition.text:
        evidence.append(Evidence(From.STATE, condition.text))
    if told:
        evidence.append(Evidence(From.CONFIGURATION, told.cause))
    return _make(
        subject,
        name,
        cause=_cause(subject, name),
        witness=witness(name, condition),
        evidence=tuple(evidence),
    )


def expected_reasons(subject: Subject) -> Iterator[Reason]:
    """The reasons to expect from the configuration."""
    for name, told in subject.told.items():
        evidence = (Evidence(From.CONFIGURATION, told.cause),)
        yield _make(subject, name, cause=told.cause, evidence=evidence, certainty=told.certainty)


def vcpu_reasons(subject: Subject, vcpu: VcpuFacts) -> Iterator[Reason]:
    """The reasons why a vCPU is not accelerated although nothing inhibits its VM."""
    if vcpu.guest_mode and counts("nested", subject.host):
        text, told = f"guest_mode of vCPU {vcpu.id} is set", subject.told.get("nested")
        evidence = (Evidence(From.STATE, text),)
        yield _make(subject, "nested", cause=told.cause if told else text, witness=Witness.AGREES, evidence=evidence)
    if vcpu.enabled is False:
        yield _apic_disabled(vcpu)


def no_apic(subject: Subject) -> Reason:
    """The reason for a vCPU without an in-kernel local APIC, if the VM has no such reason."""
    text, irqchip = "the vCPU has no local APIC in the kernel", subject.config.irqchip
    cause = irqchip.evidence if irqchip.value is Irqchip.OFF else text
    return _make(subject, "absent", cause=cause, witness=Witness.AGREES, evidence=(Evidence(From.STATE, text),))


_OUTLIVES_CONDITION = frozenset({"apic_base_modified", "apic_id_modified", "irqwin", "nested"})
"""Reasons that can outlive their condition: permanently, until the next recalculation, or briefly."""


def witness(name: str, condition: Condition) -> Witness:
    """Whether the condition confirms a reason that is set."""
    if condition.holds:
        return Witness.AGREES
    if condition.holds is None or name in _OUTLIVES_CONDITION or condition.certainty is not Certainty.CERTAIN:
        return Witness.CANNOT_TELL
    return Witness.CONTRADICTS


def _make(
    subject: Subject,
    name: str,
    *,
    cause: str,
    evidence: tuple[Evidence, ...],
    certainty: Certainty = Certainty.CERTAIN,
    witness: Witness = Witness.CANNOT_TELL,
    remedy: str | None = None,
) -> Reason:
    known = inhibit(name)
    return Reason(
        name=name,
        cls=known.cls,
        meaning=known.meaning,
        cause=cause,
        remedy=_remedy(name, subject.config) if remedy is None else remedy,
        cleared_by=known.cleared_by,
        certainty=certainty,
        witness=witness,
        evidence=evidence,
        history=_history(subject, name),
    )


_remedy = remedy


def _apic_disabled(vcpu: VcpuFacts) -> Reason:
    text = f"apic_enabled of vCPU {vcpu.id} is not set"
    return Reason(
        name=APIC_DISABLED,
        cls=InhibitClass.GUEST,
        meaning="The guest switched this vCPU's local APIC off.",
        cause=text,
        remedy="Have the guest leave its local APIC on; firmware and some kernels switch it off only for a moment.",
        cleared_by="the guest setting IA32_APIC_BASE.EN again",
        certainty=Certainty.CERTAIN,
        witness=Witness.AGREES,
        evidence=(Evidence(From.STATE, text),),
    )


def _cause(subject: Subject, name: str) -> str:
    """The cause of a reason: the configuration's option if there is one, otherwise the state seen in the VM."""
    condition, told = subject.behind.get(name, NO_CONDITION), subject.told.get(name)
    if told and condition.holds is not False:
        return told.cause
    if condition.holds and condition.text:
        return condition.text
    return inhibit(name).set_by


def _history(subject: Subject, name: str) -> str:
    """The change of a reason over the window; "" without a window."""
    before = subject.vm.before
    if before is None or name not in before:
        return ""
    return "set at both ends of the window" if before[name] else "set since the window began"


def _host_cause(host: HostApicv) -> str:
    branch = disabled_branch(host)
    if branch is Branch.NOT_SUPPORTED:
        return host.supported.evidence
    if branch is Branch.OFF_BY_PARAMETER:
        return host.switched_on.evidence
    return f"whether by parameter or because of missing hardware is not known: {host.supported.evidence}"


def _host_remedy(subject: Subject) -> str:
    host = subject.host
    branch = disabled_branch(host)
    if branch is Branch.NOT_SUPPORTED:
        return "None on this host: it takes a CPU with APICv or AVIC, and KVM on it."
    if branch is Branch.OFF_BY_PARAMETER and host.module:
        parameter = "avic=1" if host.hardware is Hardware.AMD else "enable_apicv=1"
        return f"Stop all VMs and load {host.module} with {parameter} (an options line in /etc/modprobe.d)."
    return remedy("disabled", subject.config)
