"""Findings by rule: the number of VMs, the total cost, and the worst VMs.

On a large host, one rule may fire for hundreds of VMs; its text is shown once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..catalog.findings import Rule
from ..schema import Scope
from .findings import Finding, urgency


@dataclass(frozen=True, slots=True)
class RuleFindings:
    """The findings of one rule: the costliest first, then by the first metric of the evidence."""

    rule: Rule
    findings: tuple[Finding, ...]

    @property
    def vms(self) -> int:
        """The number of VMs that have such a finding."""
        return len({finding.vm for finding in self.findings})

    @property
    def vcpus(self) -> int | None:
        """The number of vCPUs affected; None if the rule does not identify vCPUs."""
        if self.rule.scope is Scope.VCPU:
            return len(self.findings)
        return None if self.rule.worst is None else sum(finding.worst_count for finding in self.findings)

    @property
    def cost_cpus(self) -> float | None:
        """The total cost of all findings; None if no cost is known."""
        costs = [finding.cost_cpus for finding in self.findings if finding.cost_cpus is not None]
        return sum(costs) if costs else None

    @property
    def lost_vcpus(self) -> float | None:
        """The wall time that vCPUs lose, in all findings together; None if it is not known."""
        lost = [finding.lost_vcpus for finding in self.findings if finding.lost_vcpus is not None]
        return sum(lost) if lost else None

    @property
    def since_s(self) -> float:
        """How long the oldest of the findings has held."""
        return max(finding.since_s for finding in self.findings)


def by_rule(findings: Iterable[Finding]) -> tuple[RuleFindings, ...]:
    """Findings grouped by rule: problems first, then by total cost; without a cost, by severity."""
    of_rule: dict[str, list[Finding]] = {}
    for finding in findings:
        of_rule.setdefault(finding.rule.slug, []).append(finding)
    groups = (RuleFindings(found[0].rule, tuple(sorted(found, key=_size))) for found in of_rule.values())
    return tuple(sorted(groups, key=lambda group: urgency(group.rule, group.cost_cpus or group.lost_vcpus)))


def _size(finding: Finding) -> tuple[float, float]:
    first = next(iter(finding.evidence.values()), None)
    return -(finding.cost_cpus or finding.lost_vcpus or 0.0), -(first or 0.0)
