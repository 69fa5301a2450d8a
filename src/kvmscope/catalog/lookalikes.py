"""Which rules of the doctor look alike, and how they differ, taken from the rules themselves.

Rules look alike if they share a symptom. They differ in the inputs of their conditions, and by the sentences in which
the texts of one name the other.
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
    """A rule that shares ``symptoms`` with a given rule.

    ``decided_by``: the inputs of its conditions that the given rule's lack: names of metrics and stats, or a fact in a
    few words; all of its inputs if they differ only in thresholds. ``needs``: opt-in groups that it reads. ``said``:
    sentences in which one rule names the other, with the rule that has the sentence.
    """

    rule: Rule
    symptoms: tuple[str, ...]
    decided_by: tuple[str, ...]
    needs: tuple[str, ...]
    said: tuple[str, ...]


def lookalikes(rule: Rule, rules: Sequence[Rule]) -> tuple[Lookalike, ...]:
    """The rules that share a symptom with ``rule``: first those where one names the other, then the most similar."""
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
    """The inputs of the conditions, each once, those of ``when`` first."""
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
    """The groups of opt-in counters that the conditions read."""
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
