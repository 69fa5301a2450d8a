"""A rule that reads a stat whose meaning depends on the host is not checked there, or says why it holds all the same.

That is: on which module runs the guests, on a module's parameter, on a feature of the CPU, or on EPT/NPT.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from kvmscope.catalog.caveats import (
    AllOf,
    AnyOf,
    Condition,
    FirstKnown,
    HasCpuFlag,
    Inverted,
    ModuleIs,
    PagingIs,
    ParameterIs,
    load_caveats,
)
from kvmscope.catalog.findings import Rule, load_findings, parse_findings
from kvmscope.catalog.stats import load_stats
from kvmscope.errors import CatalogError
from kvmscope.formula.check import Context
from kvmscope.view.explain.reads import stats_of

OF_HOST = (HasCpuFlag, ModuleIs, PagingIs, ParameterIs)


def parts(condition: Condition) -> Iterator[Condition]:
    yield condition
    match condition:
        case AllOf() | AnyOf() | FirstKnown():
            for part in condition.parts:
                yield from parts(part)
        case Inverted():
            yield from parts(condition.part)


def caveats_of_host(rule: Rule) -> Mapping[str, set[str]]:
    """Those of the stats that a rule's formulas read, with these stats."""
    found: dict[str, set[str]] = {}
    caveats = load_caveats()
    for provider, scope, name in dict.fromkeys(stat for formula in rule.formulas for stat in stats_of(formula)):
        entry = load_stats().find(provider, scope, name)
        for slug in entry.caveats if entry else ():
            if any(isinstance(part, OF_HOST) for part in parts(caveats[slug].holds_if)):
                found.setdefault(slug, set()).add(name)
    return found


@pytest.mark.parametrize("rule", load_findings(), ids=lambda rule: rule.slug)
def test_a_rule_answers_each_caveat_of_the_host_that_its_stats_have(rule: Rule) -> None:
    caveats = caveats_of_host(rule)
    answered = rule.despite.keys() | (set(rule.silent_if) & caveats.keys())
    assert caveats.keys() == answered, "a caveat of a stat that the rule reads has to be in `despite` or `silent_if`"
    assert not rule.despite.keys() & set(rule.silent_if)
    assert all(why.endswith(".") for why in rule.despite.values())


def test_what_is_answered_are_many_rules_and_stats() -> None:
    of_rules = {rule.slug: caveats_of_host(rule) for rule in load_findings()}
    assert of_rules["pf-emulation"]["mmio-caching-off"] == {"pf_taken", "pf_emulate", "pf_mmio_spte_created"}
    assert sum(map(len, of_rules.values())) >= 50


RULE = """\
[[rule]]
slug = "busy"
title = "is busy"
severity = "warning"
scope = "vm"
when = "sum(rate(exits)) >= 1000"
evidence = []
explanation = "e"
threshold = "t"
[rule.despite]
tdp-mmu = "It counts all the same."
[[rule.remedy]]
do = "d"
price = "p"
"""


def test_a_reason_is_of_a_caveat_that_there_is() -> None:
    (rule,) = parse_findings(RULE, "rules.toml", Context(), caveats=["tdp-mmu"])
    assert rule.despite == {"tdp-mmu": "It counts all the same."}
    with pytest.raises(CatalogError, match="slugs of caveats"):
        parse_findings(RULE, "rules.toml", Context(), caveats=["nested"])
    with pytest.raises(CatalogError, match="despite"):
        parse_findings(RULE.replace('"It counts all the same."', "1"), "rules.toml", Context(), caveats=["tdp-mmu"])
