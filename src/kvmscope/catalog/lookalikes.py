"""Which rules of the doctor look alike, and what distinguishes them, as the rules themselves say it.

Rules look alike if they share a symptom. What distinguishes one from another is what its conditions ask and those of
the other do not, and what the texts of either say of the other by its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ..formula.check import Formula, walk_with_metrics
from ..formula.tree import FactTerm, Leaf, QuantileTerm, Reference, ShareTerm, StatTerm, walk
from .findings import FACT_GROUPS, FACT_TEXTS, Rule
from .groups import GroupHome, load_groups
from .metrics import metric_formulas

_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z`])")


@dataclass(frozen=True, slots=True)
class Lookalike:
    """A rule that shares ``symptoms`` with the one that is asked about.

    ``decided_by``: what its conditions ask and those of the other do not: names of metrics and stats, or a fact in a
    few words. Where the same is asked with other levels, all of it. ``needs``: opt-in groups that it asks. ``said``:
    sentences in which one names the other, and whose they are.
    """

    rule: Rule
    symptoms: tuple[str, ...]
    decided_by: tuple[str, ...]
    needs: tuple[str, ...]
    said: tuple[str, ...]


def lookalikes(rule: Rule, rules: Sequence[Rule]) -> tuple[Lookalike, ...]:
    """Those that share a symptom with a rule: first those of which one names the other, then the most alike."""
    own = set(_asked(rule))
    found = [_compared(rule, own, other) for other in rules if other is not rule and _shared(rule, other)]
    alike = {each.rule.slug: len(own.intersection(_asked(each.rule))) for each in found}
    return tuple(sorted(found, key=lambda each: (not each.said, -len(each.symptoms), -alike[each.rule.slug])))


def _compared(rule: Rule, own: set[str], other: Rule) -> Lookalike:
    asked = tuple(_asked(other))
    decided_by = tuple(name for name in asked if name not in own) or asked
    said = (*_naming(rule, other.slug), *_naming(other, rule.slug))
    return Lookalike(other, _shared(rule, other), decided_by, tuple(_groups(other)), tuple(dict.fromkeys(said)))


def _shared(rule: Rule, other: Rule) -> tuple[str, ...]:
    return tuple(symptom for symptom in rule.symptoms if symptom in other.symptoms)


def _asked(rule: Rule) -> Iterator[str]:
    """What the conditions ask, each once, that under which the rule fires first."""
    yield from dict.fromkeys(name for formula in reversed(rule.conditions) for name in _names(formula))


def _names(formula: Formula) -> Iterator[str]:
    for part, _ in walk(formula.expression, formula.scope):
        match part:
            case StatTerm() | QuantileTerm() | ShareTerm():
                yield part.stat.name if part.stat.provider == "kvm" else f"{part.stat.provider}.{part.stat.name}"
            case Reference():
                yield part.name
            case FactTerm():
                yield FACT_TEXTS[part.name]
            case _:
                pass


def _groups(rule: Rule) -> Iterator[str]:
    """The groups of opt-in counters that the conditions ask."""
    home = {name for name, group in load_groups().items() if group.home is GroupHome.OBJECT}
    yield from dict.fromkeys(group for formula in rule.conditions for group in _providers(formula) if group in home)


def _providers(formula: Formula) -> Iterator[str]:
    for part, _ in walk_with_metrics(formula.expression, formula.scope, metric_formulas()):
        if isinstance(part, Leaf):
            yield part.stat.provider
        elif isinstance(part, FactTerm) and part.name in FACT_GROUPS:
            yield FACT_GROUPS[part.name]


def _naming(rule: Rule, slug: str) -> Iterator[str]:
    """The sentences of a rule's texts that name another rule."""
    name = re.compile(rf"(?<![\w-]){re.escape(slug)}(?![\w-])")
    texts = (rule.explanation, rule.threshold, *(remedy.do for remedy in rule.remedies))
    sentences = (sentence for text in texts for sentence in _SENTENCE.split(text))
    yield from (f"{rule.slug} says: {sentence}" for sentence in sentences if name.search(sentence))
