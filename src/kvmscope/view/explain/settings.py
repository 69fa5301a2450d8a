"""A setting of a VM that remedies refer to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from ...catalog.findings import load_findings
from ...catalog.inhibits import load_inhibits
from ...catalog.settings import load_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingExplanation:
    """A setting, and how each VMM and manager writes it."""

    what: Annotated[Literal["setting"], "What the name is."] = "setting"
    name: Annotated[str, "Its name."]
    does: Annotated[str, "What it sets."]
    by: Annotated[Mapping[str, str], "How it is written, by VMM or manager; `any` is what a VMM itself calls."]
    cannot: Annotated[Mapping[str, str], "Why a VMM or manager has no such setting."]
    rules: Annotated[tuple[str, ...], "Rules of the doctor whose remedies change it."]
    reasons: Annotated[tuple[str, ...], "Inhibit reasons whose remedies change it."]


def explain_setting(name: str) -> Iterator[SettingExplanation]:
    """The setting of this name, if there is one."""
    setting = load_settings().get(name.lower())
    if setting is not None:
        yield SettingExplanation(
            name=setting.name,
            does=setting.does,
            by=setting.by,
            cannot=setting.cannot,
            rules=tuple(
                rule.slug for rule in load_findings() if any(setting.name in each.settings for each in rule.remedies)
            ),
            reasons=tuple(each.name for each in load_inhibits().values() if setting.name in each.settings),
        )
