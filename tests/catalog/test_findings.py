"""The rules' file: what is wrong in one is told with its place, and the one that is shipped keeps its own promises."""

from __future__ import annotations

import re

import pytest

from kvmscope.catalog.findings import FACTS, UNKNOWN_FACTS, Rule, Severity, load_findings, parse_findings
from kvmscope.errors import CatalogError
from kvmscope.formula.check import Context, Type
from kvmscope.formula.tree import FactTerm, walk
from kvmscope.schema import Scope

GOOD = """\
[[rule]]
slug = "busy"
title = "is busy"
severity = "warning"
scope = "vm"
when = "sum(rate(exits)) >= 1000"
evidence = ["exits_per_s"]
explanation = "e"
threshold = "t"
remedy = [{do = "d", price = "p"}]
"""
CONTEXT = Context(metrics={"exits_per_s": (Scope.VCPU, Type())}, facts=FACTS)


def parse(text: str) -> tuple[Rule, ...]:
    return parse_findings(text, "rules.toml", CONTEXT, caveats=["nested"])


def test_a_rule_has_its_defaults() -> None:
    (rule,) = parse(GOOD)
    assert (rule.severity, rule.scope, rule.windows) == (Severity.WARNING, Scope.VM, 2)
    assert (rule.activity, rule.clears, rule.cost, rule.worst) == (None, None, None, None)
    assert rule.conditions == (rule.when,)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ('slug = "busy"\n', "", 1, "a key 'slug'"),
        ('severity = "warning"', 'severity = "bad"', 4, "one of info, warning, problem, found 'bad'"),
        ('scope = "vm"', 'scope = "host"', 5, "one of vm, vcpu"),
        ("sum(rate(exits)) >= 1000", "sum(rate(exits))", 6, "a condition"),
        ("sum(rate(exits)) >= 1000", "sum(rate(exits)) >=", 6, "a number"),
        ("sum(rate(exits)) >= 1000", "fact(moon) == 1", 6, "'moon'"),
        ('["exits_per_s"]', '["entries_per_s"]', 7, "'entries_per_s'"),
        ('price = "p"', 'prize = "p"', 10, "'prize'"),
        ('[{do = "d", price = "p"}]', "[]", 10, "at least one"),
        ('threshold = "t"', 'threshold = ""', 9, "blank"),
        ('title = "is busy"', 'title = "is busy"\nwindows = 0', 4, "1 to 100, found 0"),
        ('title = "is busy"', 'title = "is busy"\ncost = "1 < 2"', 4, "a number"),
        ('title = "is busy"', 'title = "is busy"\ncost = "2s"', 4, "number"),
        ('title = "is busy"', 'title = "is busy"\nsilent_if = ["netsed"]', 4, "'netsed'"),
        ('title = "is busy"', 'title = "is busy"\nadds = "weather"', 4, "'weather'"),
        ('title = "is busy"', 'title = "is busy"\nurgent = true', 4, "'urgent'"),
    ],
)
def test_a_mistake_is_told_with_its_place(old: str, new: str, line: int, says: str) -> None:
    assert old in GOOD
    with pytest.raises(CatalogError) as raised:
        parse(GOOD.replace(old, new))
    assert (raised.value.file, raised.value.line) == ("rules.toml", line)
    assert says in str(raised.value)


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(CatalogError, match=r"rules.toml:12: .*a unique slug"):
        parse(GOOD + GOOD)


@pytest.mark.parametrize("rule", load_findings(), ids=lambda rule: rule.slug)
def test_a_rule_of_the_catalogue_says_all_that_a_person_needs(rule: Rule) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.slug)
    assert not rule.title.endswith(".")
    for text in (rule.explanation, rule.threshold, *(text for r in rule.remedies for text in (r.do, r.price))):
        assert text.rstrip().endswith((".", ")")), text
        assert "  " not in text
    # A rule with two levels has the lower one in `clears`.
    if re.search(r"rate|share|seconds", str(rule.when)):
        assert rule.clears is not None, "a `when` with a level needs `clears`, with about half of it"


def test_every_fact_is_asked_and_explained() -> None:
    asked = {
        (scope, part.name)
        for rule in load_findings()
        for formula in (*rule.conditions, *filter(None, (rule.clears, rule.cost, rule.worst)))
        for part, scope in walk(formula.expression, formula.scope)
        if isinstance(part, FactTerm)
    }
    assert asked == set(FACTS)
    assert {name for _, name in FACTS} >= set(UNKNOWN_FACTS)
