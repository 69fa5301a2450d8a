"""The verdict on interrupt acceleration as plain values: of a host, its VMs and their vCPUs.

``analysis.apicv`` defines the verdict and computes it; ``apicv_text`` formats it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from ..analysis.apicv import (
    Branch,
    Certainty,
    Evidence,
    From,
    Limit,
    Outcome,
    Prediction,
    Reason,
    State,
    VcpuVerdict,
    VmVerdict,
    WhatIf,
    Witness,
)
from ..analysis.window import Window
from ..catalog.inhibits import InhibitClass
from ..host.apicv import Hardware, HostApicv, HostFlag
from ..sample import Gap, Sample
from ..scene import Scene
from .judging import foresee, judge_scene
from .subjects import Selection
from .values import (
    ABSENT_IF_NONE,
    SceneAnswer,
    VcpuTitle,
    VmTitle,
    scene_head,
    vcpu_head,
    vm_head,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceView:
    """One observation."""

    from_: Annotated[From, "Where it was seen."]
    text: Annotated[str, "What was seen; untrusted where it quotes a configuration."]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitView:
    """Something that is not accelerated although APICv or AVIC is active."""

    name: Annotated[str, "Its name."]
    text: Annotated[str, "What it is."]
    cost: Annotated[str, "What it costs the guest."]
    remedy: Annotated[str, "The change that removes it."]
    evidence: EvidenceView


@dataclass(frozen=True, slots=True, kw_only=True)
class InhibitView:
    """Why interrupts are not accelerated."""

    name: Annotated[str, "The kernel's name of the reason, in lower case."]
    class_: Annotated[InhibitClass, "Who brings it about."]
    meaning: Annotated[str, "What it means."]
    cause: Annotated[str, "The option or observation that causes it; untrusted text."]
    remedy: Annotated[str, "The change that removes it."]
    cleared_by: Annotated[str, "The event that clears it in KVM."]
    certainty: Annotated[Certainty, "How certain the reason is."]
    witness: Annotated[Witness, "Cross-check: whether the condition behind the reason confirms it."]
    share: Annotated[float | None, "Share of the interval in which it held; null if it was not counted."]
    inhibited_s: Annotated[float | None, "Seconds for which it held since counting began."]
    since_s: Annotated[float | None, "Seconds since it was set."]
    since_is_at_least: Annotated[bool, "Whether it was set before counting began."]
    history: Annotated[str | None, "What the two samples of the interval show of it."]
    evidence: tuple[EvidenceView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionView:
    """One reason as it would be with APICv or AVIC switched on."""

    reason: Annotated[str, "Name of the reason."]
    class_: Annotated[InhibitClass, "Who brings it about."]
    holds: Annotated[bool | None, "Whether it would hold; null if that is unknown."]
    certainty: Annotated[Certainty, "How certain that is."]
    cause: Annotated[str, "What would cause it; untrusted text."]
    remedy: Annotated[str, "The change that removes it."]


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIfView:
    """One VM as it would be with APICv or AVIC switched on."""

    outcome: Annotated[Outcome, "The state that the VM would have."]
    is_off_now: Annotated[bool | None, "Whether it is off on the host now."]
    host: Annotated[Branch, "Whether the host could switch it on."]
    first: Annotated[tuple[str, ...], "The changes to make, in this order."]
    notes: Annotated[tuple[str, ...], "What is momentary, unknown or decided by the guest."]
    predictions: tuple[PredictionView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VmVerdictView:
    """The verdict on a VM."""

    state: Annotated[State, "The verdict in one word."]
    branch: Annotated[Branch, "The verdict in detail."]
    verified: Annotated[bool, "Whether it is from KVM's own state."]
    reasons: tuple[InhibitView, ...]
    limits: tuple[LimitView, ...]
    notes: Annotated[tuple[str, ...], "What else to know."]
    contradictions: Annotated[tuple[str, ...], "Where two observations disagree."]
    would_tell: Annotated[tuple[str, ...], "What would determine an unknown verdict."]
    evidence: tuple[EvidenceView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VcpuApicvView(VcpuTitle):
    """The verdict on a vCPU."""

    apicv_active: Annotated[bool | None, "KVM's own flag; null if it was not read or the vCPU has no in-kernel APIC."]
    state: Annotated[State, "The verdict in one word."]
    branch: Annotated[Branch, "The verdict in detail."]
    provisional: Annotated[bool, "Whether KVM applies its VM's state to it only at the next KVM_RUN."]
    active_share: Annotated[float | None, "Share of the interval in which it was active; null if not counted."]
    reasons: tuple[InhibitView, ...]
    limits: tuple[LimitView, ...]
    notes: Annotated[tuple[str, ...], "What else to know."]


@dataclass(frozen=True, slots=True, kw_only=True)
class VmApicvView(VmTitle):
    """The verdict on a VM and on its vCPUs."""

    apicv: VmVerdictView
    what_if: Annotated[WhatIfView | None, "The prediction with APICv or AVIC on, if requested.", ABSENT_IF_NONE]
    vcpus: tuple[VcpuApicvView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FactView:
    """A yes or no with its evidence."""

    value: Annotated[bool | None, "Null if it is unknown."]
    evidence: Annotated[str, "The evidence for it, or why it is unknown."]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostApicvView:
    """The APICv or AVIC support of the host."""

    name: Annotated[str | None, "Name of the host."]
    module: Annotated[str | None, "The KVM module in use."]
    hardware: Annotated[Hardware | None, "What KVM runs on."]
    supported: FactView
    switched_on: FactView
    x2avic: FactView
    ipi: FactView
    device_posting: FactView
    nested: FactView


@dataclass(frozen=True, slots=True, kw_only=True)
class ApicvView(SceneAnswer):
    """Whether the interrupts of VMs are accelerated, and why not."""

    interval_s: Annotated[float | None, "Seconds between the samples; null for one sample."]
    host: HostApicvView
    vms: tuple[VmApicvView, ...]
    gaps: tuple[Gap, ...]


def apicv_view(
    scene: Scene, window: Window | None = None, *, with_what_if: bool = False, subject: Selection | None = None
) -> ApicvView:
    """The verdicts on a scene, or on one VM or vCPU if ``subject`` is given. ``window`` ends with the scene."""
    verdicts = judge_scene(scene, window)
    foreseen = foresee(scene, window) if with_what_if else None
    return ApicvView(
        **scene_head(scene),
        interval_s=verdicts.interval_s,
        host=_host(scene, verdicts.host),
        vms=tuple(
            _vm(scene, vm, None if foreseen is None else foreseen[vm.row], subject)
            for vm in verdicts.vms
            if subject is None or subject.vm == vm.row
        ),
        gaps=scene.sample.gaps,
    )


def _host(scene: Scene, host: HostApicv) -> HostApicvView:
    return HostApicvView(
        name=scene.machine.hostname.value,
        module=host.module,
        hardware=host.hardware,
        supported=_fact(host.supported),
        switched_on=_fact(host.switched_on),
        x2avic=_fact(host.x2avic),
        ipi=_fact(host.ipi),
        device_posting=_fact(host.device_posting),
        nested=_fact(host.nested),
    )


def _fact(flag: HostFlag) -> FactView:
    return FactView(value=flag.value, evidence=flag.evidence)


def _vm(scene: Scene, vm: VmVerdict, foreseen: WhatIf | None, subject: Selection | None) -> VmApicvView:
    vcpus = [vcpu for vcpu in vm.vcpus if subject is None or subject.vcpu in (None, vcpu.row)]
    return VmApicvView(
        **vm_head(scene, vm.row),
        apicv=VmVerdictView(
            state=vm.state,
            branch=vm.branch,
            verified=vm.is_verified,
            reasons=_reasons(vm.reasons),
            limits=_limits(vm.limits),
            notes=vm.notes,
            contradictions=vm.contradictions,
            would_tell=vm.would_tell,
            evidence=_evidence(vm.evidence),
        ),
        what_if=None if foreseen is None else _what_if(foreseen),
        vcpus=tuple(_vcpu(scene.sample, vcpu) for vcpu in vcpus),
    )


def _vcpu(sample: Sample, vcpu: VcpuVerdict) -> VcpuApicvView:
    return VcpuApicvView(
        **vcpu_head(sample, vcpu.row),
        apicv_active=vcpu.active,
        state=vcpu.state,
        branch=vcpu.branch,
        provisional=vcpu.is_provisional,
        active_share=vcpu.active_share,
        reasons=_reasons(vcpu.reasons),
        limits=_limits(vcpu.limits),
        notes=vcpu.notes,
    )


def _reasons(reasons: Iterable[Reason]) -> tuple[InhibitView, ...]:
    return tuple(
        InhibitView(
            name=reason.name,
            class_=reason.cls,
            meaning=reason.meaning,
            cause=reason.cause,
            remedy=reason.remedy,
            cleared_by=reason.cleared_by,
            certainty=reason.certainty,
            witness=reason.witness,
            share=reason.share,
            inhibited_s=reason.inhibited_s,
            since_s=reason.since_s,
            since_is_at_least=reason.is_older,
            history=reason.history or None,
            evidence=_evidence(reason.evidence),
        )
        for reason in reasons
    )


def _limits(limits: Iterable[Limit]) -> tuple[LimitView, ...]:
    return tuple(
        LimitView(
            name=limit.name,
            text=limit.text,
            cost=limit.cost,
            remedy=limit.remedy,
            evidence=_one_evidence(limit.evidence),
        )
        for limit in limits
    )


def _evidence(evidence: Iterable[Evidence]) -> tuple[EvidenceView, ...]:
    return tuple(map(_one_evidence, evidence))


def _one_evidence(evidence: Evidence) -> EvidenceView:
    return EvidenceView(from_=evidence.source, text=evidence.text)


def _what_if(found: WhatIf) -> WhatIfView:
    return WhatIfView(
        outcome=found.outcome,
        is_off_now=found.is_off,
        host=found.host,
        first=found.first,
        notes=found.notes,
        predictions=tuple(map(_prediction, found.predictions)),
    )


def _prediction(prediction: Prediction) -> PredictionView:
    return PredictionView(
        reason=prediction.reason,
        class_=prediction.cls,
        holds=prediction.holds,
        certainty=prediction.certainty,
        cause=prediction.cause,
        remedy=prediction.remedy,
    )
