"""Rules that look alike: each rule has a symptom, is told from those that share it, and names their evidence."""

from __future__ import annotations

import pytest

from kvmscope.catalog.findings import FACT_TEXTS, FACTS, Rule, load_findings, load_symptoms, parse_findings
from kvmscope.catalog.lookalikes import Lookalike, lookalikes
from kvmscope.catalog.metrics import load_metrics
from kvmscope.catalog.stats import load_stats
from kvmscope.errors import CatalogError
from kvmscope.formula.check import Context
from kvmscope.schema import Scope

RULES = {rule.slug: rule for rule in load_findings()}


def found(slug: str) -> dict[str, Lookalike]:
    return {each.rule.slug: each for each in lookalikes(RULES[slug], load_findings())}


def is_stat(name: str) -> bool:
    provider, _, stat = name.rpartition(".")
    return any(load_stats().find(provider or "kvm", scope, stat) for scope in Scope)


@pytest.mark.parametrize("rule", load_findings(), ids=lambda rule: rule.slug)
def test_each_rule_looks_like_another_and_is_told_from_it_by_evidence(rule: Rule) -> None:
    assert rule.symptoms
    similar = lookalikes(rule, load_findings())
    assert similar
    assert rule.slug not in {each.rule.slug for each in similar}
    metrics = {metric.name for metric in load_metrics()}
    for each in similar:
        assert each.decided_by
        assert all(map(is_stat, {*each.decided_by} - metrics - {*FACT_TEXTS.values()}))
        assert set(each.symptoms) == {*rule.symptoms} & {*each.rule.symptoms}


def test_rules_look_like_each_other_in_both_directions() -> None:
    pairs = {(slug, other) for slug in RULES for other in found(slug)}
    assert pairs == {(other, slug) for slug, other in pairs}


def test_every_symptom_brings_somebody_to_several_rules() -> None:
    for symptom in load_symptoms():
        assert sum(symptom in rule.symptoms for rule in RULES.values()) >= 2, symptom


def test_every_fact_has_a_few_words() -> None:
    assert FACT_TEXTS.keys() == {name for _, name in FACTS}


@pytest.mark.parametrize(
    ("slug", "other", "decided_by", "needs"),
    [
        ("cpu-wait", "cpu-throttled", "throttled_share", ()),
        ("cpu-wait", "wakeups-late", "wakeup_p99_s", ("wakeups",)),
        ("cpu-throttled", "cpu-wait", "sched.run_delay_ns", ()),
        ("preempted", "vmm-time", "vmm_time_cpus", ("userspace",)),
        ("pf-emulation", "apicv-inhibited", "a reason that inhibits APICv/AVIC", ()),
        ("mmio-storm", "port-io-storm", "io_exits", ()),
        ("cpuid-exits", "exits-of-one-reason", "the time of the costliest reason of exits", ("exits",)),
        ("poll-waste", "halts-without-rest", "quick_halts_per_s", ()),
        ("emulation-failure", "kvm-internal-error", "userspace.userspace_exit_internal_error", ("userspace",)),
    ],
)
def test_what_decides_is_what_the_other_asks_and_what_must_be_counted(
    slug: str, other: str, decided_by: str, needs: tuple[str, ...]
) -> None:
    similar = found(slug)[other]
    assert decided_by in similar.decided_by
    assert similar.needs == needs


def test_a_rule_that_another_names_comes_first_with_what_is_said() -> None:
    first, *_ = found("cpu-wait").values()
    assert first.rule.slug == "preempted"
    assert any(said.startswith("preempted says: ") and "cpu-wait reports it instead" in said for said in first.said)


RULE = """\
[[symptom]]
name = "slow"
text = "It is slow."
[[rule]]
slug = "RULE"
title = "is busy"
severity = "warning"
scope = "vm"
symptoms = ["slow"]
when = "sum(rate(exits)) >= 1000"
evidence = []
explanation = "Not busy-too."
threshold = "Otherwise busy reports it. Nothing else."
remedy = [{do = "d", price = "p"}]
"""


def test_rules_that_ask_the_same_are_told_apart_by_all_that_they_ask() -> None:
    text = RULE + RULE[RULE.index("[[rule]]") :].replace("RULE", "idle")
    busy, idle = parse_findings(text.replace("RULE", "busy", 1), "rules.toml", Context())
    assert busy.slug == "busy"
    (similar,) = lookalikes(busy, (busy, idle))
    assert similar.decided_by == ("exits",)
    assert similar.said == ("idle says: Otherwise busy reports it.",)


def test_a_symptom_that_there_is_not_is_refused() -> None:
    with pytest.raises(CatalogError, match="names of symptoms"):
        parse_findings(RULE.replace('["slow"]', '["fast"]'), "rules.toml", Context())
