"""``judge``: from KVM's state to a verdict for each VM and vCPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from ...host.apicv import Hardware, HostApicv
from ...host.config import InterruptConfig, Irqchip, Pit
from ...sample import Sample
from ..window import Window
from .cases import CASES_KEPT, Case, facts_of, read_cases
from .expectations import counts
from .facts import VcpuFacts, VmFacts
from .reasons import (
    NO_CONDITION,
    disabled_branch,
    disabled_reason,
    expected_reasons,
    host_evidence,
    no_apic,
    set_reason,
    vcpu_reasons,
    witness,
)
from .subject import Circumstances, Subject, check_inputs, circumstances_of
from .times import read_times, with_times
from .values import (
    Branch,
    Certainty,
    Evidence,
    From,
    Limit,
    Reason,
    State,
    VcpuVerdict,
    VerdictBody,
    Verdicts,
    VmVerdict,
    Witness,
)

_BRINGS_STATE = (
    "a source that reads KVM's own state: as root `kvmscope apicv` takes one automatically, "
    "and after `kvmscope attach` everybody in its group can"
)


def judge(
    sample: Sample,
    host: HostApicv,
    configs: Sequence[InterruptConfig] = (),
    window: Window | None = None,
) -> Verdicts:
    """The verdict on every VM and vCPU of ``sample``.

    ``configs``: one per VM, in the order of the sample, or empty. ``window`` ends with ``sample``; with it the verdict
    has the share of it for which each reason held. A simulated sample is judged by its simulated hosts, not ``host``.
    Raises UsageError if ``configs`` or ``window`` are of another sample.
    """
    check_inputs(sample, configs, window)
    cases, times = list(read_cases(sample, window)), read_times(sample, window)
    bodies = list(map(judge_case, cases, circumstances_of(sample, host, configs)))
    if times is not None:
        bodies = [with_times(body, facts_of(case), its) for body, case, its in zip(bodies, cases, times, strict=True)]
    ids, firsts = sample.vms.ids, (rows.start for rows in sample.vcpus_of_vm)
    return Verdicts(
        host=HostApicv.unknown("simulated: each VM says on what host it runs") if sample.simulated else host,
        vms=tuple(map(VmVerdict, range(len(bodies)), ids, firsts, bodies)),
        interval_s=window.interval_s if window else None,
    )


@lru_cache(maxsize=CASES_KEPT)
def judge_case(case: Case, circumstances: Circumstances) -> VerdictBody:
    """The verdict on a VM. Cached: on a large host most VMs have equal facts, and most keep them between windows."""
    return _judge_vm(Subject.of(case, circumstances))


def _judge_vm(subject: Subject) -> VerdictBody:
    vm = subject.vm
    if vm.inhibits is None:
        return _unverified(subject)
    if vm.inhibits.get("disabled"):
        return _disabled(subject)
    reasons = tuple(set_reason(subject, name) for name in vm.names)
    vcpus = tuple(_judge_vcpu(subject, vcpu, reasons) for vcpu in vm.vcpus)
    branch, state, own = _sum_up(subject, reasons, vcpus)
    return VerdictBody(
        state=state,
        branch=branch,
        is_verified=True,
        reasons=(*reasons, *own),
        vcpus=vcpus,
        limits=tuple({limit.name: limit for vcpu in vcpus for limit in vcpu.limits}.values()),
        notes=tuple(_vm_notes(vm, vcpus, reasons)),
        contradictions=tuple(_contradictions(subject)),
        would_tell=() if vcpus else ("the VM has no vCPU yet",),
        evidence=_state_evidence(vm),
    )


def _unverified(subject: Subject) -> VerdictBody:
    """The verdict if KVM's state was not read: what the host rules out, and otherwise expectations."""
    host = subject.host
    if host.supported.value is False:
        state, branch = State.UNSUPPORTED, Branch.NOT_SUPPORTED
        reasons = [disabled_reason(subject)]
    else:
        state, branch = State.UNKNOWN, Branch.UNKNOWN
        reasons = [disabled_reason(subject)] if host.switched_on.value is False else []
        reasons += expected_reasons(subject)
    return VerdictBody(
        state=state,
        branch=branch,
        is_verified=False,
        reasons=tuple(reasons),
        vcpus=tuple(_alike(vcpu, state, branch) for vcpu in subject.vm.vcpus),
        would_tell=() if state is State.UNSUPPORTED else (_BRINGS_STATE,),
        evidence=host_evidence(host),
    )


def _disabled(subject: Subject) -> VerdictBody:
    """The verdict if DISABLED is set. Other reasons are then meaningless: in 6.1, ABSENT stays set in any case."""
    host = subject.host
    branch = disabled_branch(host)
    state = State.UNSUPPORTED if branch is Branch.NOT_SUPPORTED else State.INHIBITED
    on = host.switched_on
    return VerdictBody(
        state=state,
        branch=branch,
        is_verified=True,
        reasons=(disabled_reason(subject),),
        vcpus=tuple(_alike(vcpu, state, branch) for vcpu in subject.vm.vcpus),
        contradictions=(f"the VM has it off, though {on.evidence} says on",) if on.value else (),
        would_tell=("the CPU's flags and the KVM module's parameters",) if branch is Branch.OFF else (),
        evidence=(*_state_evidence(subject.vm), *host_evidence(host)),
    )


def _alike(vcpu: VcpuFacts, state: State, branch: Branch) -> VcpuVerdict:
    """A vCPU with the verdict of its VM and nothing of its own."""
    return VcpuVerdict(vcpu.row, vcpu.id, state, branch, vcpu.active)


def _judge_vcpu(subject: Subject, vcpu: VcpuFacts, of_vm: Sequence[Reason]) -> VcpuVerdict:
    if vcpu.has_apic is False:
        own = () if any(reason.name == "absent" for reason in of_vm) else (no_apic(subject),)
        return VcpuVerdict(vcpu.row, vcpu.id, State.INHIBITED, Branch.NO_APIC, vcpu.active, reasons=own)
    if of_vm:
        return _held_back(vcpu)
    if vcpu.active is None:
        note = ("its state was not read",)
        return VcpuVerdict(vcpu.row, vcpu.id, State.UNKNOWN, Branch.UNKNOWN, None, notes=note)
    return _active(subject, vcpu) if vcpu.active else _inactive(subject, vcpu)


def _held_back(vcpu: VcpuFacts) -> VcpuVerdict:
    """A vCPU whose VM is inhibited, even if its own flag is not updated yet."""
    return VcpuVerdict(
        row=vcpu.row,
        id=vcpu.id,
        state=State.INHIBITED,
        branch=Branch.INHIBITED,
        active=vcpu.active,
        is_provisional=bool(vcpu.active),
        notes=("KVM's flag still says active, until the vCPU's next KVM_RUN",) if vcpu.active else (),
    )


def _active(subject: Subject, vcpu: VcpuFacts) -> VcpuVerdict:
    limits = tuple(_limits(subject, vcpu))
    never_ran = vcpu.has_run is False
    return VcpuVerdict(
        row=vcpu.row,
        id=vcpu.id,
        state=State.ACTIVE,
        branch=Branch.PARTLY if limits else Branch.ACTIVE,
        active=True,
        is_provisional=never_ran,
        limits=limits,
        notes=("it has not run yet; this is its initial state",) if never_ran else (),
    )


def _inactive(subject: Subject, vcpu: VcpuFacts) -> VcpuVerdict:
    """A vCPU whose flag is off though nothing inhibits its VM."""
    own = tuple(vcpu_reasons(subject, vcpu))
    note = "nothing inhibits it: KVM switches it on at the vCPU's next KVM_RUN"
    return VcpuVerdict(
        row=vcpu.row,
        id=vcpu.id,
        state=State.INHIBITED if own else State.PENDING,
        branch=Branch.INHIBITED if own else Branch.PENDING,
        active=False,
        is_provisional=not own,
        reasons=own,
        notes=() if own else (note,),
    )


def _limits(subject: Subject, vcpu: VcpuFacts) -> Iterator[Limit]:
    """Features that are not accelerated on a vCPU for which APICv is active, without unknown ones."""
    host = subject.host
    if vcpu.x2apic and host.hardware is Hardware.AMD and host.x2avic.value is False:
        yield Limit(
            name="x2apic-without-x2avic",
            text="the guest uses x2APIC and the CPU lacks x2AVIC: its register accesses still exit",
            cost="each write of the guest to its local APIC, such as an EOI, an IPI or a timer, is a VM exit",
            remedy="have the guest use xAPIC (-cpu …,x2apic=off, at most 255 vCPUs), or use a CPU with x2AVIC",
            evidence=Evidence(From.HOST, host.x2avic.evidence),
        )
    # A guest with one vCPU has no target for an IPI.
    if host.ipi.value is False and len(subject.vm.vcpus) > 1:
        yield _no_ipi_virtualization(host)
    if host.device_posting.value is False:
        yield Limit(
            name="device-posting-off",
            text="device posting is off: interrupts of assigned devices go through KVM",
            cost="each interrupt of an assigned device is handled by a host CPU first; no device assigned, no cost",
            remedy=_parameter_remedy(host, "enable_device_posted_irqs"),
            evidence=Evidence(From.HOST, host.device_posting.evidence),
        )


def _no_ipi_virtualization(host: HostApicv) -> Limit:
    """The limit, whose remedy depends on the cause: the CPU lacks the feature, or a parameter disables it."""
    text, remedy, evidence = _why_no_ipi_virtualization(host)
    return Limit(
        name="ipi-virtualization-off",
        text=f"{text}: KVM sends the guest's IPIs",
        cost="each IPI between vCPUs, such as a wakeup or a TLB flush, is a VM exit of the sender",
        remedy=remedy,
        evidence=Evidence(From.HOST, evidence),
    )


def _why_no_ipi_virtualization(host: HostApicv) -> tuple[str, str, str]:
    reload = _parameter_remedy(host, "enable_ipiv")
    both = f"{host.ipi.evidence}; {host.cpu_ipi.evidence}"
    if host.cpu_ipi.value is False and host.hardware is Hardware.AMD:
        return (
            "KVM leaves IPI virtualization off on this CPU, for erratum 1235",
            "nothing on this host; AMD's CPUs from Zen 3 on do not have the erratum. Fewer vCPUs send fewer IPIs",
            both,
        )
    if host.cpu_ipi.value is False:
        return (
            "this CPU has no IPI virtualization",
            "nothing on this host; Intel has it from Sapphire Rapids on. Fewer vCPUs send fewer IPIs",
            host.cpu_ipi.evidence,
        )
    if host.cpu_ipi.value is None:
        return "IPI virtualization is off", f"{reload}; it stays off where the CPU lacks it", both
    return "IPI virtualization is switched off, though this CPU has it", reload, both


def _parameter_remedy(host: HostApicv, parameter: str) -> str:
    return f"stop all VMs and load {host.module or 'the KVM module'} with {parameter}=1"


def _sum_up(
    subject: Subject, reasons: Sequence[Reason], vcpus: Sequence[VcpuVerdict]
) -> tuple[Branch, State, tuple[Reason, ...]]:
    """The VM's branch and state, and the reasons that it takes over from its vCPUs."""
    if any(reason.name == "absent" for reason in reasons) and subject.behind["absent"].holds is not False:
        return Branch.NO_APIC, State.INHIBITED, ()
    if reasons:
        return Branch.INHIBITED, State.INHIBITED, ()
    return _sum_up_vcpus(vcpus)


def _sum_up_vcpus(vcpus: Sequence[VcpuVerdict]) -> tuple[Branch, State, tuple[Reason, ...]]:
    """Branch, state and reasons of a VM that nothing inhibits as a whole."""
    states = {vcpu.state for vcpu in vcpus}
    own = tuple({reason.name: reason for vcpu in vcpus for reason in vcpu.reasons}.values())
    if State.ACTIVE in states:
        is_whole = states == {State.ACTIVE} and not any(vcpu.limits for vcpu in vcpus)
        return Branch.ACTIVE if is_whole else Branch.PARTLY, State.ACTIVE, own
    if states <= {State.UNKNOWN}:
        return Branch.UNKNOWN, State.UNKNOWN, own
    if states <= {State.PENDING, State.UNKNOWN}:
        return Branch.PENDING, State.PENDING, own
    is_without = all(vcpu.branch is Branch.NO_APIC for vcpu in vcpus)
    return Branch.NO_APIC if is_without else Branch.INHIBITED, State.INHIBITED, own


def _vm_notes(vm: VmFacts, vcpus: Sequence[VcpuVerdict], reasons: Sequence[Reason]) -> Iterator[str]:
    if reasons and not vcpus:
        yield "the VM has no vCPU yet; what it starts with may pass"
    active = sum(vcpu.state is State.ACTIVE for vcpu in vcpus)
    if 0 < active < len(vcpus):
        yield f"active on {active} of {len(vcpus)} vCPUs"
    for name, held in (vm.before or {}).items():
        if held and vm.inhibits is not None and not vm.inhibits.get(name):
            yield f"{name} was set when the window began, and is cleared"


def _contradictions(subject: Subject) -> Iterator[str]:
    """Disagreements between pieces of evidence."""
    for name, holds in (subject.vm.inhibits or {}).items():
        condition = subject.behind.get(name, NO_CONDITION)
        is_sure = condition.holds and condition.certainty is Certainty.CERTAIN
        if holds and witness(name, condition) is Witness.CONTRADICTS:
            yield f"{name} is set, but {condition.text}"
        elif not holds and is_sure and name != "nested" and counts(name, subject.host):
            yield f"{name} is not set, but {condition.text}"
        elif holds and not counts(name, subject.host):
            yield f"{name} is set, which KVM ignores on this hardware"
    yield from _config_contradictions(subject.vm, subject.config)


def _config_contradictions(vm: VmFacts, config: InterruptConfig) -> Iterator[str]:
    """Differences of the VM from its VMM's configuration: settings changed later, or misread by kvmscope."""
    pit = config.pit
    if vm.pit_reinject and pit.is_sure and pit.value in (Pit.ABSENT, Pit.DISCARD):
        yield f"the PIT reinjects ticks, though: {pit.evidence}"
    if vm.pit_reinject is False and pit.is_sure and pit.value is Pit.REINJECT:
        yield f"no in-kernel PIT reinjects ticks, though: {pit.evidence}"
    has = {Irqchip.KERNEL: vm.irqchip_kernel, Irqchip.SPLIT: vm.irqchip_split}
    irqchip = config.irqchip
    if irqchip.is_sure and irqchip.value in has and has[irqchip.value] is False and vm.vcpus:
        yield f"the VM's irqchip differs from the configuration: {irqchip.evidence}"
    if irqchip.is_sure and irqchip.value is Irqchip.OFF and vm.irqchip_in_kernel:
        yield f"the VM has an irqchip in the kernel, though: {irqchip.evidence}"


def _state_evidence(vm: VmFacts) -> tuple[Evidence, ...]:
    if vm.inhibits is None:
        return ()
    # If DISABLED is set, other reasons are meaningless, so none is quoted.
    names = ("disabled",) if vm.inhibits.get("disabled") else vm.names
    if not names:
        return (Evidence(From.STATE, f"none of the {len(vm.inhibits)} inhibit reasons of this kernel is set"),)
    return tuple(Evidence(From.STATE, f"apicv_inhibit_{name} is set") for name in names)
