"""An opt-in group of statistics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from ...catalog.groups import load_groups
from ...catalog.stats import load_stats
from .reads import metrics_of_provider, rules_of_provider


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupExplanation:
    """A group of statistics that are counted or read only on request."""

    what: Annotated[Literal["group"], "What the name is."] = "group"
    name: Annotated[str, "Its name, and that of the provider of its stats."]
    title: Annotated[str, "What it counts, in a few words."]
    meaning: Annotated[str, "What it counts."]
    needs: Annotated[str, "What a kernel must have."]
    ns_per_event: Annotated[int | None, "Nanoseconds that one event costs, as measured for bench/RESULTS.md."]
    stats: Annotated[tuple[str, ...], "Its stats, as SCOPE.NAME."]
    metrics: Annotated[tuple[str, ...], "Metrics that read them."]
    rules: Annotated[tuple[str, ...], "Rules of the doctor that need them."]


def explain_group(name: str) -> Iterator[GroupExplanation]:
    """The group of this name, if there is one."""
    group = load_groups().get(name.lower())
    if group is not None:
        yield GroupExplanation(
            name=group.name,
            title=group.title,
            meaning=group.meaning,
            needs=group.needs,
            ns_per_event=group.ns_per_event,
            stats=tuple(f"{e.scope.value}.{e.name}" for e in load_stats() if e.provider == group.name),
            metrics=metrics_of_provider(group.name),
            rules=rules_of_provider(group.name),
        )
