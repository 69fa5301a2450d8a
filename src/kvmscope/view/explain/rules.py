"""A rule of the doctor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Annotated, Literal

from ...catalog.findings import load_findings
from ..rules import RuleText, rule_text
from .caveats import CaveatView, caveat_views
from .values import ExplainContext


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleExplanation(RuleText):
    """A rule of the doctor, and the caveats that prevent its check."""

    what: Annotated[Literal["rule"], "What the name is."] = "rule"
    caveats: tuple[CaveatView, ...]


def explain_rule(context: ExplainContext, name: str) -> Iterator[RuleExplanation]:
    """The rule of this name, if there is one."""
    for rule in load_findings():
        if rule.slug == name:
            text = rule_text(rule)
            said = {each.name: getattr(text, each.name) for each in fields(text)}
            yield RuleExplanation(**said, caveats=caveat_views(context, rule.silent_if))
