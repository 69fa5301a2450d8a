"""A fleet in one screen: its hosts, the costliest findings first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from ...analysis.findings import urgency
from ...catalog.findings import Severity, find_rule
from ...engines.fleet import FleetFinding, FleetHost, FleetStore
from .place import UNKNOWN, FleetAnswer, FleetHostTitle, fleet_head, host_head


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetHostStatus(FleetHostTitle):
    """One host and its problems."""

    findings: Annotated[int, "How many findings it has."]
    affected_vms: Annotated[int, "How many of its VMs have any."]
    worst: Annotated[Severity | None, "The severity of the worst; null if there is none."]
    cost_cpus: Annotated[float, "About how many CPUs they cost together."]
    lost_vcpus: Annotated[float, "How many vCPUs' wall time they lose together."]
    rules: Annotated[Mapping[str, int], "How many VMs each rule found, the most urgent rule first."]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetStatusView(FleetAnswer):
    """The answer of ``fleet status``."""

    affected_hosts: Annotated[int, "How many hosts have findings."]
    findings: Annotated[int, "How many findings there are."]
    cost_cpus: Annotated[float, "About how many CPUs all findings cost together."]
    kernels: Annotated[Mapping[str, int], "Hosts by kernel, the most first."]
    hosts: Annotated[Sequence[FleetHostStatus], "Every host, the one with the costliest findings first."]


def fleet_status_view(store: FleetStore) -> FleetStatusView:
    """Every host, the costliest findings first."""
    hosts = store.hosts()
    head = fleet_head(store, hosts)
    of_host: dict[str, list[FleetFinding]] = {host.host: [] for host in hosts}
    for finding in store.findings().findings:
        of_host.setdefault(finding.host, []).append(finding)
    rows = sorted((_host(host, of_host[host.host]) for host in hosts), key=_rank)
    return FleetStatusView(
        **head,
        affected_hosts=sum(bool(row.findings) for row in rows),
        findings=sum(row.findings for row in rows),
        cost_cpus=sum(row.cost_cpus for row in rows),
        kernels=dict(Counter(host.kernel or UNKNOWN for host in hosts).most_common()),
        hosts=tuple(rows),
    )


def _host(host: FleetHost, findings: Sequence[FleetFinding]) -> FleetHostStatus:
    count = Counter(finding.rule for finding in findings)
    rules = sorted(count, key=lambda slug: urgency(find_rule(slug), _cost(findings, slug)))
    severities = [find_rule(slug).severity for slug in rules]
    return FleetHostStatus(
        **host_head(host),
        findings=len(findings),
        affected_vms=len({finding.vm for finding in findings}),
        worst=max(severities, key=lambda severity: severity.rank, default=None),
        cost_cpus=sum(finding.cost_cpus or 0.0 for finding in findings),
        lost_vcpus=sum(finding.lost_vcpus or 0.0 for finding in findings),
        rules={slug: count[slug] for slug in rules},
    )


def _cost(findings: Sequence[FleetFinding], slug: str) -> float:
    return sum(finding.cost_cpus or finding.lost_vcpus or 0.0 for finding in findings if finding.rule == slug)


def _rank(row: FleetHostStatus) -> tuple[bool, float, int, str]:
    """Sort key: problems first, then by cost, then by number of findings."""
    is_lesser = row.worst is not Severity.PROBLEM
    return is_lesser, -(row.cost_cpus + row.lost_vcpus), -row.findings, row.name or row.host
