"""``what_if``: which VMs would be accelerated if the host had it switched on, which not, and by what.

KVM that runs without APICv records no reason but DISABLED, so the conditions behind the reasons are what there is.
Rule: a prediction is only of a reason that this kernel has and this hardware heeds; what is momentary or up to the
guest is said to be that, and makes no VM inhibited.
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
    """What would become of a VM."""

    ACCELERATED = "accelerated"
    INHIBITED = "inhibited"
    REFUSED = "cannot be started"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Prediction:
    """One reason. ``holds``: whether it would; None if that is unknown. ``cause``: untrusted text."""

    reason: str
    cls: InhibitClass
    holds: bool | None
    certainty: Certainty
    cause: str
    remedy: str
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class WhatIf:
    """One VM; ``row`` is that of the sample.

    ``predictions``: every reason that could count here, in the kernel's order. ``is_off``: it is off on the host now;
    else the outcome is what the conditions say of the present. ``host``: what stands in the way of switching it on, or
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
    """For every VM of ``sample`` what its interrupts would be, if the host had APICv or AVIC switched on.

    Arguments and errors as for ``judge``. For a host on which KVM can have neither there are no predictions.
    """
    check_inputs(sample, configs, window)
    cases = read_cases(sample, window, irq_windows_always=True)
    alike = map(predict_case, cases, circumstances_of(sample, host, configs))
    return tuple(replace(found, row=row, id=sample.vms.vm_id(row)) for row, found in enumerate(alike))


@lru_cache(maxsize=CASES_KEPT)
def predict_case(case: Case, circumstances: Circumstances) -> WhatIf:
    """What would be of a VM; its row and id are those of none."""
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
        # Without a local APIC in the kernel there is nothing that another reason could inhibit.
        notes=() if any(found.reason == "absent" for found in standing) else tuple(_notes(predictions)),
    )


def _refusal(subject: Subject) -> tuple[str, ...]:
    """What to change of a VM that this kernel would not make at all.

    Before 6.17 a vCPU id that AVIC has no place for is an error at its creation, and no reason to inhibit.
    """
    inhibits, large = subject.vm.inhibits, subject.behind["physical_id_too_big"]
    if inhibits is None or "physical_id_too_big" in inhibits or not counts("physical_id_too_big", subject.host):
        return ()
    if not large.holds:
        return ()
    return (f"vCPU ids: {remedy('physical_id_too_big', subject.config)} ({large.text}: KVM_CREATE_VCPU fails)",)


def _names(subject: Subject) -> list[str]:
    """The reasons that this kernel has and this hardware heeds."""
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
    """What one can change oneself comes first, and of that the surest."""
    return _ORDER.index(prediction.cls), list(Certainty).index(prediction.certainty)
