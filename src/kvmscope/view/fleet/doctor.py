"""The findings of a fleet: by rule, or all findings of one rule or of one host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

from ...analysis.caveats import Facts, is_possible
from ...analysis.findings import urgency
from ...catalog.findings import Remedy, Rule, Severity, find_rule, load_findings
from ...catalog.inhibits import load_inhibits, unlisted
from ...catalog.settings import parties_of
from ...engines.fleet import FleetFinding, FleetHost, FleetStore
from ..findings import CauseTotal
from ..known_names import outermost_manager
from ..remedies import FindingRemedy, Parties, remedy_views
from ..values import Moment
from .place import UNKNOWN, FleetAnswer, find_host, fleet_head

_VmPlace: TypeAlias = tuple[str, str]
"""The ids of a host and of a VM."""

_WORST_SHOWN: Final = 5
_COSTLIEST: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFindingView:
    """A finding of a rule about one VM. Names are untrusted text."""

    rule: Annotated[str, "The rule's slug."]
    severity: Annotated[Severity, "How bad it is."]
    host: Annotated[str, "Identifies the host."]
    host_name: Annotated[str | None, "The host's name."]
    vm: Annotated[str, "Identifies the VM on its host."]
    name: Annotated[str | None, "The VM's name."]
    since: Annotated[Moment, "Begin of the first interval in which it stood."]
    until: Annotated[Moment, "End of the last interval in which it stood."]
    intervals: Annotated[int, "In how many intervals it stood."]
    stands: Annotated[bool, "Whether it stood in the last interval of its host."]
    cost_cpus: Annotated[float | None, "About how many CPUs it costs while it stands; null if the rule gives no cost."]
    lost_vcpus: Annotated[
        float | None, "How many vCPUs' wall time is lost while it stands; null if the rule gives none."
    ]
    evidence: Annotated[Mapping[str, float | None], "Metrics that show it, by name, as far as the store has them."]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRuleTotal:
    """All findings of one rule together."""

    rule: Annotated[str, "The rule's slug."]
    severity: Annotated[Severity, "How bad it is."]
    title: Annotated[str, "The rule's title."]
    vms: Annotated[int, "Of how many VMs."]
    hosts: Annotated[int, "On how many hosts."]
    standing: Annotated[int, "Of how many VMs it stood in the last interval."]
    cost_cpus: Annotated[float | None, "About how many CPUs they cost together."]
    lost_vcpus: Annotated[float | None, "How many vCPUs' wall time they lose together."]
    kernels: Annotated[Mapping[str, int], "VMs by the kernel of their host, the most first."]
    worst: Annotated[Sequence[FleetFindingView], "Those that cost most, the costliest first."]
    causes: Annotated[Sequence[CauseTotal], "The reasons that inhibit APICv or AVIC, the most frequent first."]
    explanation: Annotated[str, "Its impact."]
    remedies: Annotated[Sequence[FindingRemedy], "What to do about it."]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRule:
    """A rule that the store cannot judge."""

    rule: Annotated[str, "The rule's slug."]
    reason: Annotated[str, "Why not."]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetDoctorView(FleetAnswer):
    """The answer of ``fleet doctor``."""

    interval_s: Annotated[float | None, "Seconds of an interval; null if each is from one sample to the next."]
    rule: Annotated[str | None, "The rule that was requested; null for all."]
    host: Annotated[str | None, "The host that was requested; null for all."]
    rules: Annotated[int, "How many rules were judged."]
    by_rule: Annotated[Sequence[FleetRuleTotal], "The findings of each rule together, the most urgent first."]
    cost_cpus: Annotated[float, "About how many CPUs all findings cost together."]
    lost_vcpus: Annotated[float, "How many vCPUs' wall time all findings lose together."]
    findings: Annotated[
        Sequence[FleetFindingView], "All of the rule or the host that was requested; empty if neither was."
    ]
    not_judged: Annotated[Sequence[RefusedRule], "Rules that this store cannot judge."]


def fleet_doctor_view(store: FleetStore, *, subject: str | None = None) -> FleetDoctorView:
    """The findings. ``subject``: the slug of a rule, or a host's name or id. Raises UsageError if it is neither."""
    slugs = {rule.slug for rule in load_findings()}
    slug = subject if subject in slugs else None
    host_id = None if subject is None or slug is not None else find_host(store.hosts(), subject).host
    found = store.findings(rule=slug, host=host_id)  # first, so that reading the hosts needs no more I/O
    hosts = store.hosts()
    head = fleet_head(store, hosts)
    findings = _Findings(hosts, _reasons(store, found.findings), _parties(store, found.findings))
    by_rule = findings.totals(found.findings)
    is_drilled = subject is not None
    return FleetDoctorView(
        **head,
        interval_s=found.window_s or None,
        rule=slug,
        host=host_id,
        rules=len(found.judged),
        by_rule=by_rule,
        cost_cpus=sum(total.cost_cpus or 0.0 for total in by_rule),
        lost_vcpus=sum(total.lost_vcpus or 0.0 for total in by_rule),
        findings=tuple(map(findings.view, sorted(found.findings, key=finding_rank))) if is_drilled else (),
        not_judged=tuple(RefusedRule(rule=each.subject, reason=each.reason) for each in found.refused),
    )


def _reasons(store: FleetStore, found: Sequence[FleetFinding]) -> Mapping[_VmPlace, tuple[str, ...]]:
    """The inhibit reasons of APICv or AVIC by host and VM, if a rule adds them to its findings."""
    rules = {rule.slug for rule in load_findings() if rule.adds_verdict}
    if not any(finding.rule in rules for finding in found):
        return {}
    return {(each.host, each.vm): each.reasons for each in store.acceleration(has_rates=False)}


def _parties(store: FleetStore, found: Sequence[FleetFinding]) -> Mapping[_VmPlace, Parties]:
    """The manager and VMM of each VM with a finding."""
    vms = store.vms({(finding.host, finding.vm) for finding in found})
    return {(vm.host, vm.vm): parties_of(vm.vmm, outermost_manager(vm.managed_by, vm.domain_xml)) for vm in vms}


def finding_rank(finding: FleetFinding) -> tuple[bool, float, int, str]:
    """Sort key, the most urgent first."""
    return *urgency(find_rule(finding.rule), finding.cost_cpus or finding.lost_vcpus), finding.host


class _Findings:
    """Puts findings beside their hosts and rules."""

    def __init__(
        self,
        hosts: Iterable[FleetHost],
        reasons: Mapping[_VmPlace, tuple[str, ...]],
        parties: Mapping[_VmPlace, Parties],
    ) -> None:
        self._hosts = {host.host: host for host in hosts}
        self._reasons = reasons
        self._parties = parties

    def view(self, found: FleetFinding) -> FleetFindingView:
        host = self._hosts.get(found.host)
        return FleetFindingView(
            rule=found.rule,
            severity=find_rule(found.rule).severity,
            host=found.host,
            host_name=None if host is None else host.name,
            vm=found.vm,
            name=found.name,
            since=Moment(found.since_ns),
            until=Moment(found.until_ns),
            intervals=found.windows,
            stands=found.stands,
            cost_cpus=found.cost_cpus,
            lost_vcpus=found.lost_vcpus,
            evidence=found.evidence,
        )

    def totals(self, findings: Iterable[FleetFinding]) -> tuple[FleetRuleTotal, ...]:
        of_rule: dict[str, list[FleetFinding]] = {}
        for finding in findings:
            of_rule.setdefault(finding.rule, []).append(finding)
        totals = [self._total(find_rule(slug), sorted(of, key=finding_rank)) for slug, of in of_rule.items()]
        return tuple(sorted(totals, key=_urgency))

    def _total(self, rule: Rule, findings: Sequence[FleetFinding]) -> FleetRuleTotal:
        kernels = Counter(self._kernel(finding.host) for finding in findings)
        causes = self._causes(findings) if rule.adds_verdict else ()
        return FleetRuleTotal(
            rule=rule.slug,
            severity=rule.severity,
            title=rule.title,
            vms=len({(finding.host, finding.vm) for finding in findings}),
            hosts=len({finding.host for finding in findings}),
            standing=sum(finding.stands for finding in findings),
            cost_cpus=_sum(finding.cost_cpus for finding in findings),
            lost_vcpus=_sum(finding.lost_vcpus for finding in findings),
            kernels=dict(kernels.most_common()),
            worst=tuple(map(self.view, findings[:_WORST_SHOWN])),
            causes=causes,
            explanation=rule.explanation,
            remedies=self._remedies(rule, causes, findings),
        )

    def _remedies(
        self, rule: Rule, causes: Sequence[CauseTotal], findings: Sequence[FleetFinding]
    ) -> tuple[FindingRemedy, ...]:
        """The remedies of the causes, the most frequent cause first; without causes, the rule's remedies that some of
        the hosts allow. Each is spelled as the VMs' managers and VMMs write it."""
        parties = [self._parties.get((finding.host, finding.vm), ()) for finding in findings]
        if not causes:
            hosts = dict.fromkeys(finding.host for finding in findings)
            return remedy_views((each for each in rule.remedies if self._is_possible(each, hosts)), parties)
        inhibits, price = load_inhibits(), rule.remedies[0].price
        found = (inhibits.get(cause.name) or unlisted(cause.name) for cause in causes)
        return remedy_views((Remedy(each.change, price, settings=each.settings) for each in found), parties)

    def _is_possible(self, remedy: Remedy, hosts: Iterable[str]) -> bool:
        if remedy.only_if is None:
            return True
        machines = (self._hosts[host].machine for host in hosts if host in self._hosts)
        return any(is_possible(remedy, Facts(machine)) for machine in machines if machine is not None)

    def _kernel(self, host: str) -> str:
        found = self._hosts.get(host)
        return UNKNOWN if found is None else found.kernel or UNKNOWN

    def _causes(self, findings: Sequence[FleetFinding]) -> tuple[CauseTotal, ...]:
        inhibits = load_inhibits()
        reasons = (reason for each in findings for reason in self._reasons.get((each.host, each.vm), ()))
        return tuple(
            CauseTotal(name=name, meaning=inhibits.get(name, unlisted(name)).meaning, findings=count)
            for name, count in Counter(reasons).most_common(_COSTLIEST)
        )


def _urgency(total: FleetRuleTotal) -> tuple[bool, float, int, str]:
    return *urgency(find_rule(total.rule), total.cost_cpus or total.lost_vcpus), total.rule


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum of the known values; None if none is known."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
