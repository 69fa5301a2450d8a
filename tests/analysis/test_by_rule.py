"""Findings by rule, on findings made by hand."""

from __future__ import annotations

from dataclasses import replace

from kvmscope.analysis.by_rule import by_rule
from kvmscope.analysis.findings import Finding, Worst
from kvmscope.catalog.findings import Rule, Severity, load_findings
from kvmscope.sample import VmId
from kvmscope.schema import Scope

RULES = {rule.slug: rule for rule in load_findings()}
WASTE, STORM = RULES["poll-waste"], RULES["mmio-storm"]


def finding(rule: Rule, vm: int, **others: object) -> Finding:
    plain = Finding(rule, VmId(vm), vm, None, 1.0, None, None, {}, (Worst(0, 1.0),), 1)
    return replace(plain, **others)  # type: ignore[arg-type]


def test_a_rule_has_its_findings_the_costliest_first_and_their_sum() -> None:
    found = [finding(WASTE, 1, cost_cpus=0.1, since_s=4.0), finding(WASTE, 2, cost_cpus=0.3, worst_count=3)]
    (group,) = by_rule(found)
    assert [each.vm.value for each in group.findings] == [2, 1]
    assert (group.vms, group.vcpus, group.cost_cpus, group.since_s) == (2, 4, 0.4, 4.0)


def test_where_nothing_costs_the_first_evidence_tells_the_worst() -> None:
    found = [finding(WASTE, vm, evidence={"a": size, "b": 9.0}) for vm, size in enumerate((1.0, 3.0, None, 2.0))]
    (group,) = by_rule(found)
    assert [each.vm.value for each in group.findings] == [1, 3, 0, 2]
    assert (group.cost_cpus, group.lost_vcpus) == (None, None)


def test_problems_come_first_and_then_what_costs_most_in_all() -> None:
    broken = replace(STORM, slug="broken", severity=Severity.PROBLEM)
    cheap = [finding(STORM, vm, cost_cpus=0.2) for vm in range(3)]
    groups = by_rule([finding(WASTE, 1, cost_cpus=0.5), *cheap, finding(broken, 1)])
    assert [group.rule.slug for group in groups] == ["broken", "mmio-storm", "poll-waste"]


def test_a_rule_of_vcpus_counts_them_and_their_vms() -> None:
    of_vcpus = replace(WASTE, scope=Scope.VCPU)
    (group,) = by_rule([finding(of_vcpus, vm, vcpu=vcpu) for vm in (1, 2) for vcpu in (0, 1)])
    assert (group.vms, group.vcpus) == (2, 4)


def test_of_a_rule_that_names_no_vcpus_their_number_is_not_known() -> None:
    (group,) = by_rule([finding(replace(WASTE, worst=None), 1)])
    assert group.vcpus is None
