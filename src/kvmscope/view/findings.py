"""Findings as views: those of one VM or vCPU, those that ended, and the total of each rule.

``analysis.findings`` makes the findings, and the catalogue has the rules' texts; this module joins them with names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypedDict

from ..analysis.apicv import Reason, Verdicts
from ..analysis.by_rule import RuleFindings
from ..analysis.findings import EndCause, Ended, Finding, NotJudged
from ..analysis.polling import PollingAdvice
from ..catalog.findings import Remedy, Rule, Severity
from ..sample import VmId
from .added_causes import AddedCauses, CauseSize, FindingCause
from .polling import PollingView, polling_view
from .remedies import FindingRemedy, Parties, remedy_views
from .values import Moment

_WORST_VMS = 5


@dataclass(frozen=True, slots=True)
class WorstVcpu:
    """A vCPU that contributes much to a finding."""

    id: Annotated[int, "Its id."]
    value: Annotated[float, "What the rule's number is for it."]


class FindingFields(TypedDict):
    """The fields of a ``ReportedFinding``."""

    rule: str
    severity: Severity
    vm: VmId
    name: str | None
    vcpu: int | None
    title: str
    since_s: float
    cost_cpus: float | None
    lost_vcpus: float | None
    evidence: Mapping[str, float | None]
    worst_vcpus: Sequence[WorstVcpu]
    worst_count: int
    causes: Sequence[FindingCause]
    polling: PollingView | None
    explanation: str
    remedies: Sequence[FindingRemedy]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedFinding:
    """A finding of a rule about a VM or a vCPU."""

    rule: Annotated[str, "The rule's slug."]
    severity: Annotated[Severity, "How bad it is."]
    vm: Annotated[VmId, "The VM."]
    name: Annotated[str | None, "The VM's name. Untrusted text."]
    vcpu: Annotated[int | None, "Id of the vCPU; null if it is of the whole VM."]
    title: Annotated[str, "The rule's title."]
    since_s: Annotated[float, "For how many seconds it has held, as far as was watched."]
    cost_cpus: Annotated[float | None, "About how many CPUs it costs; null if the rule gives no cost."]
    lost_vcpus: Annotated[float | None, "How many vCPUs' wall time is lost; null if the rule does not give that."]
    evidence: Annotated[Mapping[str, float | None], "Metrics that show it, by name."]
    worst_vcpus: Annotated[Sequence[WorstVcpu], "The vCPUs with the largest values, the largest first."]
    worst_count: Annotated[int, "How many vCPUs have to do with it; 0 if the rule does not say which."]
    causes: Annotated[
        Sequence[FindingCause], "What the verdict on interrupt acceleration, the configuration or the exits add."
    ]
    polling: Annotated[PollingView | None, "Advice on the VM's halt polling limit; null if the rule adds none."]
    explanation: Annotated[str, "Its impact."]
    remedies: Annotated[Sequence[FindingRemedy], "What to do about it."]


@dataclass(frozen=True, slots=True)
class FindingEnd:
    """How a finding ended."""

    why: EndCause
    time: Annotated[Moment, "When the sample was read that showed it."]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedFinding(ReportedFinding):
    """A finding that has ended, with its last values."""

    ended: FindingEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class UncheckedRule:
    """A rule that could not be checked."""

    rule: Annotated[str, "The rule's slug."]
    reason: Annotated[str, "Why it is not known."]
    vms: Annotated[Sequence[VmId] | None, "For which VMs; null for all."]
    names: Annotated[Sequence[str] | None, "The names of those VMs; null for all. Untrusted text."]
    group: Annotated[str | None, "The opt-in group that has to be counted for it."]


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseTotal:
    """A cause of a rule's findings, and the number of findings with it."""

    name: Annotated[str, "Name of the reason."]
    meaning: Annotated[str, "What the reason says."]
    findings: Annotated[int, "How many findings it is behind."]
    size: Annotated[CauseSize | None, "How much of it there is in all; null where that has no number."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstVm:
    """One of the VMs that a rule affects most."""

    vm: Annotated[VmId, "The VM."]
    name: Annotated[str | None, "Its name. Untrusted text."]
    vcpu: Annotated[int | None, "Id of the vCPU; null if it is of the whole VM."]
    cost_cpus: Annotated[float | None, "About how many CPUs it costs."]
    lost_vcpus: Annotated[float | None, "How many vCPUs' wall time is lost."]
    evidence: Annotated[Mapping[str, float | None], "Metrics that show it, by name."]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTotal:
    """All findings of one rule together."""

    rule: Annotated[str, "The rule's slug."]
    severity: Annotated[Severity, "How bad it is."]
    title: Annotated[str, "The rule's title."]
    findings: Annotated[int, "How many findings."]
    vms: Annotated[int, "Of how many VMs."]
    vcpus: Annotated[int | None, "Of how many vCPUs; null if the rule does not say which."]
    cost_cpus: Annotated[float | None, "About how many CPUs they cost together."]
    lost_vcpus: Annotated[float | None, "How many vCPUs' wall time they lose together."]
    since_s: Annotated[float, "For how many seconds the oldest has held."]
    worst: Annotated[Sequence[WorstVm], "Those that cost most, the costliest first."]
    causes: Annotated[
        Sequence[CauseTotal], "What verdicts, configurations or exits add: the largest first, else the most frequent."
    ]
    explanation: Annotated[str, "Its impact."]
    remedies: Annotated[Sequence[FindingRemedy], "What to do about it, what helps most of them first."]


class FindingViews:
    """Makes views of findings.

    ``names``: the name of every VM that was seen. ``parties``: the manager and VMM of each. ``verdicts``: None if no
    finding needs them. ``polling``: halt polling of the VMs whose findings need it.
    """

    def __init__(
        self,
        names: Mapping[VmId, str],
        parties: Mapping[VmId, Parties],
        verdicts: Verdicts | None,
        polling: Mapping[VmId, PollingAdvice],
        added: AddedCauses,
    ) -> None:
        self._names = names
        self._parties = parties
        self._polling = polling
        self._added = added
        self._remedies: dict[tuple[str, Parties], tuple[FindingRemedy, ...]] = {}
        self._reasons = {} if verdicts is None else {vm.id: vm.reasons for vm in verdicts.vms}

    def reported(self, finding: Finding) -> ReportedFinding:
        return ReportedFinding(
            **self._fields(finding, self._reasons_of(finding), self._polling_of(finding), self._added_to(finding))
        )

    def ended(self, ended: Ended) -> EndedFinding:
        """An ended finding. It gets no causes: the present verdict, polling and configuration do not explain it."""
        return EndedFinding(**self._fields(ended.finding), ended=FindingEnd(ended.why, Moment(ended.at_ns)))

    def unchecked(self, missing: NotJudged) -> UncheckedRule:
        names = None if missing.vms is None else [self._names.get(vm, str(vm)) for vm in missing.vms]
        return UncheckedRule(
            rule=missing.rule, reason=missing.reason, vms=missing.vms, names=names, group=missing.group or None
        )

    def total(self, found: RuleFindings) -> RuleTotal:
        rule = found.rule
        return RuleTotal(
            rule=rule.slug,
            severity=rule.severity,
            title=rule.title,
            findings=len(found.findings),
            vms=found.vms,
            vcpus=found.vcpus,
            cost_cpus=found.cost_cpus,
            lost_vcpus=found.lost_vcpus,
            since_s=found.since_s,
            worst=tuple(map(self._worst_vm, found.findings[:_WORST_VMS])),
            causes=self._causes(found.findings),
            explanation=rule.explanation,
            remedies=self._all_remedies(found.findings),
        )

    def _all_remedies(self, findings: Sequence[Finding]) -> tuple[FindingRemedy, ...]:
        count = Counter(remedy for each in findings for remedy in _remedies(each.rule, self._reasons_of(each)))
        vms = [self._parties.get(each.vm, ()) for each in findings]
        return remedy_views((remedy for remedy, _ in count.most_common()), vms)

    def _causes(self, findings: Sequence[Finding]) -> tuple[CauseTotal, ...]:
        named: dict[str, list[tuple[Finding, FindingCause]]] = {}
        for finding in findings:
            for cause in (*map(_cause_of, self._reasons_of(finding)), *self._added_to(finding)):
                named.setdefault(cause.name, []).append((finding, cause))
        return tuple(sorted(map(_cause_total, named.values()), key=_urgency))

    def _worst_vm(self, finding: Finding) -> WorstVm:
        return WorstVm(
            vm=finding.vm,
            name=self._names.get(finding.vm),
            vcpu=finding.vcpu,
            cost_cpus=finding.cost_cpus,
            lost_vcpus=finding.lost_vcpus,
            evidence=finding.evidence,
        )

    def _fields(
        self,
        finding: Finding,
        reasons: Sequence[Reason] = (),
        polling: PollingView | None = None,
        added: Sequence[FindingCause] = (),
    ) -> FindingFields:
        rule = finding.rule
        return {
            "rule": rule.slug,
            "severity": rule.severity,
            "vm": finding.vm,
            "name": self._names.get(finding.vm),
            "vcpu": finding.vcpu,
            "title": rule.title,
            "since_s": finding.since_s,
            "cost_cpus": finding.cost_cpus,
            "lost_vcpus": finding.lost_vcpus,
            "evidence": finding.evidence,
            "worst_vcpus": tuple(WorstVcpu(worst.vcpu, worst.value) for worst in finding.worst),
            "worst_count": finding.worst_count,
            "causes": (*map(_cause_of, reasons), *added),
            "polling": polling,
            "explanation": rule.explanation,
            "remedies": self._remedies_of(finding, reasons),
        }

    def _remedies_of(self, finding: Finding, reasons: Sequence[Reason]) -> tuple[FindingRemedy, ...]:
        """The remedies of a finding. Those of the rule itself are the same for all VMs with the same parties."""
        parties = self._parties.get(finding.vm, ())
        if reasons:
            return remedy_views(_remedies(finding.rule, reasons), [parties])
        key = finding.rule.slug, parties
        if key not in self._remedies:
            self._remedies[key] = remedy_views(finding.rule.remedies, [parties])
        return self._remedies[key]

    def _polling_of(self, finding: Finding) -> PollingView | None:
        advice = self._polling.get(finding.vm) if finding.rule.adds_polling else None
        return None if advice is None else polling_view(advice)

    def _added_to(self, finding: Finding) -> Sequence[FindingCause]:
        adds = finding.rule.adds
        return () if adds is None else self._added.get((adds, finding.vm), ())

    def _reasons_of(self, finding: Finding) -> Sequence[Reason]:
        return self._reasons.get(finding.vm, ()) if finding.rule.adds_verdict else ()


def _cause_total(found: Sequence[tuple[Finding, FindingCause]]) -> CauseTotal:
    """The total of causes with one name. A finding may have several of them, such as processes with the same name."""
    sizes = [cause.size for _, cause in found if cause.size is not None]
    size = CauseSize(sum(each.value for each in sizes), sizes[0].unit) if sizes else None
    _, first = found[0]
    findings = len({finding.key for finding, _ in found})
    return CauseTotal(name=first.name, meaning=first.meaning, findings=findings, size=size)


def _urgency(total: CauseTotal) -> tuple[float, int]:
    return (-(total.size.value if total.size else 0.0), -total.findings)


def _cause_of(reason: Reason) -> FindingCause:
    return FindingCause(reason.name, reason.meaning, reason.cause)


def _remedies(rule: Rule, reasons: Sequence[Reason]) -> Sequence[Remedy]:
    """The remedies that the verdict gives for this VM, else those of the rule."""
    return tuple(Remedy(reason.remedy, rule.remedies[0].price) for reason in reasons) or rule.remedies
