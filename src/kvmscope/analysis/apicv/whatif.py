"""``what_if``: which VMs would be accelerated if the host had APICv or AVIC enabled, which not, and for which reasons.

KVM without APICv records no reason but DISABLED, so predictions are made from the conditions behind the reasons.
Rule: only reasons that this kernel has and this hardware honours are predicted; a reason that is brief or depends on
the guest is marked as such, and does not make a VM inhibited.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import Final

from ...catalog.inhibits import InhibitClass
from ...host.apicv import Hardware, HostApicv
from ...host.config import InterruptConfig
from ...sample import Sample, VmId
from ..window import Window
from .cases import CASES_KEPT, Case, read_cases
from .conditions import Condition
from .expectations import counts, inhibit, remedy
from .facts import VmFacts
from .reasons import disabled_branch
from .subject import Circumstances, Subject, check_inputs, circumstances_of
from .values import Branch, Certainty, Evidence, From

_NO_ROW: Final = -1
_NO_VM: Final = VmId(0)


class Outcome(Enum):
    """The predicted outcome for a VM."""

    ACCELERATED = "accelerated"
    INHIBITED = "inhibited"
    REFUSED = "cannot be started"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Prediction:
    """The prediction of one reason. ``holds``: whether it would hold; None if unknown. ``cause``: untrusted text."""

    reason: str
    cls: InhibitClass
    holds: bool | None
    certainty: Certainty
    cause: str
    remedy: str
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The prediction for one VM; ``row``: in the sample.

    ``predictions``: every reason that could count here, in the kernel's order. ``is_off``: it is off on the host now;
    otherwise the outcome describes the present. ``host``: what prevents enabling it on the host, or
    ``Branch.OFF_BY_PARAMETER`` if nothing does. ``first``: the changes to make, in this order.
    """

    row: int
    id: VmId
    outcome: Outcome
    is_off: bool | None
    host: Branch
    predictions: tuple[Prediction, ...]
    first: tuple[str, ...]
    notes: tuple[str, ...] = ()


def what_if(
    sample: Sample,
    host: HostApicv,
    configs: Sequence[InterruptConfig] = (),
    window: Window | None = None,
) -> tuple[WhatIf, ...]:
    """For every VM of ``sample``, whether its interrupts would be accelerated if the host had APICv or AVIC enabled.

    Arguments and errors as for ``judge``. There are no predictions for a host whose KVM supports neither.
    """
    check_inputs(sample, configs, window)
    cases = read_cases(sample, window, irq_windows_always=True)
    alike = map(predict_case, cases, circumstances_of(sample, host, configs))
    return tuple(replace(found, row=row, id=sample.vms.vm_id(row)) for row, found in enumerate(alike))


@lru_cache(maxsize=CASES_KEPT)
def predict_case(case: Case, circumstances: Circumstances) -> WhatIf:
    """The prediction for the VM of a case, with a placeholder for its row and id."""
    return _of_vm(Subject.of(case, circumstances))


def _of_vm(subject: Subject) -> WhatIf:
    vm, host = subject.vm, subject.host
    is_off = host.switched_on.value is False if vm.inhibits is None else vm.inhibits.get("disabled", False)
    branch = disabled_branch(host)
    if host.hardware is Hardware.OTHER:
        return WhatIf(_NO_ROW, _NO_VM, Outcome.UNKNOWN, is_off, branch, (), (), (host.supported.evidence,))
    predictions = tuple(_predict(subject, name) for name in _names(subject))
    standing = [
        prediction for prediction in predictions if prediction.holds and prediction.cls is not InhibitClass.PASSING
    ]
    refusal = _refusal(subject)
    return WhatIf(
        row=_NO_ROW,
        id=_NO_VM,
        outcome=Outcome.REFUSED if refusal else _outcome(vm, predictions, standing),
        is_off=is_off,
        host=branch,
        predictions=predictions,
        first=(*refusal, *(f"{p.reason}: {p.remedy}" for p in sorted(standing, key=_place))),
        # Without an in-kernel local APIC there is nothing for another reason to inhibit.
        notes=() if any(found.reason == "absent" for found in standing) else tuple(_notes(predictions)),
    )


def _refusal(subject: Subject) -> tuple[str, ...]:
    """The changes needed for a VM that this kernel would refuse to create.

    Before 6.17, a vCPU id that exceeds AVIC's range is an error at its creation, not an inhibit reason.
    """
    inhibits, large = subject.vm.inhibits, subject.behind["physical_id_too_big"]
    if inhibits is None or "physical_id_too_big" in inhibits or not counts("physical_id_too_big", subject.host):
        return ()
    if not large.holds:
        return ()
    return (f"vCPU ids: {remedy('physical_id_too_big', subject.config)} ({large.text}: KVM_CREATE_VCPU fails)",)


def _names(subject: Subject) -> list[str]:
    """The reasons that this kernel has and this hardware honours."""
    names = subject.behind if subject.vm.inhibits is None else subject.vm.inhibits
    return [name for name in names if name != "disabled" and counts(name, subject.host)]


def _predict(subject: Subject, name: str) -> Prediction:
    condition = subject.behind.get(name, _UNTESTED)
    told = subject.told.get(name)
    holds, certainty, cause = condition.holds, condition.certainty, condition.text
    evidence = [Evidence(From.STATE, cause)] if subject.vm.inhibits is not None else []
    if told is not None:
        evidence.append(Evidence(From.CONFIGURATION, told.cause))
        if holds is None and told.certainty is not Certainty.POSSIBLE:
            holds, certainty = True, told.certainty
        if holds is not False:
            cause = told.cause
        elif told.certainty is Certainty.POSSIBLE:
            certainty, cause = Certainty.LIKELY, f"{cause} now, and the guest may change that: {told.cause}"
    fix = remedy(name, subject.config)
    return Prediction(name, inhibit(name).cls, holds, certainty, cause, fix, tuple(evidence))


_UNTESTED = Condition(None, "kvmscope does not know the cause of this reason", Certainty.POSSIBLE)


def _outcome(vm: VmFacts, predictions: Sequence[Prediction], standing: Sequence[Prediction]) -> Outcome:
    if any(prediction.certainty is not Certainty.POSSIBLE for prediction in standing):
        return Outcome.INHIBITED
    if vm.inhibits is None or not predictions or not vm.vcpus:
        return Outcome.UNKNOWN
    is_open = any(p.holds is None and p.cls is not InhibitClass.PASSING for p in predictions)
    return Outcome.UNKNOWN if is_open or standing else Outcome.ACCELERATED


def _notes(predictions: Sequence[Prediction]) -> Iterator[str]:
    for prediction in predictions:
        if prediction.cls is InhibitClass.PASSING and prediction.holds:
            yield f"{prediction.reason} would hold at this moment, and pass: {prediction.cause}"
        elif prediction.holds is None:
            yield f"{prediction.reason} is unknown: {prediction.cause}"
        elif (
            prediction.holds is False
            and prediction.certainty is Certainty.LIKELY
            and prediction.cls is InhibitClass.GUEST
            and len(prediction.evidence) > 1
        ):
            yield f"{prediction.reason}: {prediction.cause}"


_ORDER = (InhibitClass.HOST, InhibitClass.CONFIGURATION, InhibitClass.GUEST, InhibitClass.PASSING)


def _place(prediction: Prediction) -> tuple[int, int]:
    """Sort key: reasons that the operator can change come first, the most certain of them before others."""
    return _ORDER.index(prediction.cls), list(Certainty).index(prediction.certainty)
