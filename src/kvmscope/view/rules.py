"""The rules of the doctor as a view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from ..catalog.findings import Rule, Severity, load_findings, load_symptoms
from ..catalog.lookalikes import lookalikes
from ..schema import Scope
from .remedies import FindingRemedy, remedy_views
from .values import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarRule:
    """A rule that fires on similar symptoms, and what distinguishes the two."""

    rule: Annotated[str, "Its slug."]
    title: Annotated[str, "What is wrong then."]
    symptoms: Annotated[Sequence[str], "What both have in common, by the names of symptoms."]
    decided_by: Annotated[
        Sequence[str],
        "The evidence that distinguishes it: metrics, stats and facts that it reads and the other rule does not.",
    ]
    needs: Annotated[Sequence[str], "Opt-in groups that have to be counted for it."]
    said: Annotated[Sequence[str], "What the text of either rule says about the other."]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleText:
    """One rule in full. Formulas are in the language that docs/reference/library.md describes."""

    rule: Annotated[str, "Its slug."]
    severity: Annotated[Severity, "How bad it is."]
    scope: Annotated[Scope, "Whether it applies to a VM or to a vCPU."]
    title: Annotated[str, "What is wrong."]
    activity: Annotated[str | None, "The condition under which the rule is evaluated."]
    when: Annotated[str, "The condition under which it fires."]
    clears: Annotated[str | None, "The condition that ends a finding; null means that `when` does not hold."]
    windows: Annotated[int, "Number of consecutive intervals in which `when` must hold."]
    cost_cpus: Annotated[str | None, "Formula of the CPUs that it costs."]
    lost_vcpus: Annotated[str | None, "Formula of the vCPUs whose wall time is lost."]
    evidence: Annotated[Sequence[str], "Metrics that show it."]
    explanation: Annotated[str, "Its impact."]
    threshold: Annotated[str, "Why it fires at this level."]
    remedies: Annotated[Sequence[FindingRemedy], "What to do about it."]
    silent_if: Annotated[Sequence[str], "Caveats under which it is not checked."]
    despite: Annotated[Mapping[str, str], "By caveat of what it reads, why it holds although the caveat does."]
    symptoms: Annotated[Mapping[str, str], "The symptoms that lead to it, by name."]
    looks_like: Annotated[Sequence[SimilarRule], "Rules with one of these symptoms, the most similar first."]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleList(Answer):
    """The answer of ``doctor --rules`` and ``doctor --explain``."""

    rules: Annotated[Sequence[RuleText], "The rules."]


def rule_list(rules: Sequence[Rule]) -> RuleList:
    return RuleList(rules=tuple(map(rule_text, rules)))


def similar_rules(rule: Rule) -> tuple[SimilarRule, ...]:
    """The rules of the catalogue that fire on similar symptoms."""
    return tuple(
        SimilarRule(
            rule=each.rule.slug,
            title=each.rule.title,
            symptoms=each.symptoms,
            decided_by=each.decided_by,
            needs=each.needs,
            said=each.said,
        )
        for each in lookalikes(rule, load_findings())
    )


def rule_text(rule: Rule) -> RuleText:
    return RuleText(
        rule=rule.slug,
        severity=rule.severity,
        scope=rule.scope,
        title=rule.title,
        activity=None if rule.activity is None else str(rule.activity),
        when=str(rule.when),
        clears=None if rule.clears is None else str(rule.clears),
        windows=rule.windows,
        cost_cpus=None if rule.cost is None else str(rule.cost),
        lost_vcpus=None if rule.lost is None else str(rule.lost),
        evidence=rule.evidence,
        explanation=rule.explanation,
        threshold=rule.threshold,
        remedies=remedy_views(rule.remedies),
        silent_if=rule.silent_if,
        despite=rule.despite,
        symptoms={name: load_symptoms()[name] for name in rule.symptoms},
        looks_like=similar_rules(rule),
    )
