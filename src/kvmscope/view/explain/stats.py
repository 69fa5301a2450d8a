"""A stat: its catalogue entry, or its provider's description if there is no entry; and its values on this host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from ...catalog.stats import ChangedPart, StatEntry, load_stats
from ...schema import Descriptor, Schema, Scope, Tier
from ..text import kind_text, unit_text
from .caveats import CaveatView, caveat_views
from .reads import metrics_that_read, rules_that_read
from .values import ExplainContext, HostValues, stat_values

_STABILITY = {
    Tier.ABI_LIKE: "programs rely on it, and it is not expected to change",
    Tier.STABLE: "the name stays; what moves it depends on CPU, VM and kernel",
    Tier.VOLATILE: "an implementation detail of KVM, which may change its meaning or go at any time",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StatChange:
    """A kernel release in which the meaning of a stat, or what it counts, changed."""

    since: Annotated[str, "First kernel with the change."]
    what: Annotated[ChangedPart, "Which property changed."]
    text: Annotated[str, "What was before."]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatExplanation:
    """A stat of the catalogue."""

    what: Annotated[Literal["stat"], "What the name is."] = "stat"
    provider: Annotated[str, "Provider of the stat."]
    scope: Scope
    name: Annotated[str, "Its name."]
    catalogued: Annotated[Literal[True], "Whether the catalogue has it."] = True
    kind: Annotated[str, "Kind of the stat."]
    unit: Annotated[str | None, "Unit of its raw values; null for a bare count."]
    tier: Tier
    tier_means: Annotated[str, "What that tier promises."]
    meaning: Annotated[str, "What it counts."]
    kernels: Annotated[Mapping[str, str], "First kernel that has it, by architecture."]
    until: Annotated[str | None, "First kernel without it."]
    replaced_by: Annotated[tuple[str, ...], "Stats to use in its place."]
    changed: tuple[StatChange, ...]
    compare: Annotated[tuple[str, ...], "Stats to compare it with."]
    caveats: tuple[CaveatView, ...]
    metrics: Annotated[tuple[str, ...], "Metrics that read it."]
    rules: Annotated[tuple[str, ...], "Rules of the doctor that read it."]
    here: HostValues


@dataclass(frozen=True, slots=True, kw_only=True)
class UncataloguedStat:
    """A stat of this host that is not in the catalogue, as its provider describes it."""

    what: Annotated[Literal["stat"], "What the name is."] = "stat"
    provider: Annotated[str, "Provider of the stat."]
    scope: Scope
    name: Annotated[str, "Its name."]
    catalogued: Annotated[Literal[False], "Whether the catalogue has it."] = False
    kind: Annotated[str, "Kind of the stat."]
    unit: Annotated[str, "Unit of its raw values; empty for a bare count."]
    tier: Annotated[Tier | None, "How stable its publisher says that it is; null if it says nothing."]
    meaning: Annotated[str | None, "What its publisher says that it counts; untrusted text, null if it says nothing."]
    here: HostValues


def explain_stat(context: ExplainContext, name: str) -> Iterator[StatExplanation | UncataloguedStat]:
    """Every stat of this name, or ``PROVIDER.NAME``: first from the catalogue, then those that only this host has."""
    provider, _, bare = name.rpartition(".")
    catalogued = [entry for entry in load_stats().named(bare) if provider in ("", entry.provider)]
    known = {(entry.provider, entry.scope, entry.name) for entry in catalogued}
    for entry in catalogued:
        yield _explain(context, entry)
    for schema, descriptor in described(context):
        key = schema.provider, schema.scope, descriptor.name
        if descriptor.name == bare and provider in ("", schema.provider) and key not in known:
            known.add(key)
            yield _as_described(context, schema, descriptor)


def described(context: ExplainContext) -> Iterator[tuple[Schema, Descriptor]]:
    """Every stat that this host has, with its schema; stats of publishers that ended in the interval come last."""
    if context.live is None:
        return
    window = context.live.window
    for block in (*window.current.blocks, *window.previous.blocks):
        for descriptor in block.schema.descriptors:
            yield block.schema, descriptor


def _explain(context: ExplainContext, entry: StatEntry) -> StatExplanation:
    key = entry.provider, entry.scope, entry.name
    return StatExplanation(
        provider=entry.provider,
        scope=entry.scope,
        name=entry.name,
        kind=entry.kind.name.lower(),
        unit=_unit(entry.unit.name, entry.shape.exponent),
        tier=entry.tier,
        tier_means=_STABILITY[entry.tier],
        meaning=entry.meaning,
        kernels=dict(entry.since),
        until=entry.until,
        replaced_by=entry.replaced_by,
        changed=tuple(StatChange(since=each.since, what=each.what, text=each.text) for each in entry.changed),
        compare=entry.compare,
        caveats=caveat_views(context, entry.caveats),
        metrics=metrics_that_read(key),
        rules=rules_that_read(key),
        here=stat_values(context, *key),
    )


def _as_described(context: ExplainContext, schema: Schema, descriptor: Descriptor) -> UncataloguedStat:
    note = schema.note(descriptor.name)
    return UncataloguedStat(
        provider=schema.provider,
        scope=schema.scope,
        name=descriptor.name,
        kind=kind_text(descriptor),
        unit=unit_text(descriptor),
        tier=note.tier,
        meaning=note.meaning or None,
        here=stat_values(context, schema.provider, schema.scope, descriptor.name),
    )


def _unit(name: str, exponent: int) -> str | None:
    if name == "SECONDS":
        return {-9: "ns", -6: "µs", -3: "ms", 0: "s"}.get(exponent, f"10^{exponent} s")
    return None if name == "NONE" else name.lower()
