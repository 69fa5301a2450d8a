"""Caveats as they apply on this host: to the whole host, or to some VMs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from ...analysis.caveats import CaveatSubject, Facts, Truth, TruthValue, facts_of, judge
from ...catalog.caveats import Caveat, load_caveats
from ...catalog.stats import load_stats
from ...host.apicv import host_apicv
from ...host.config import config_of
from .values import ExplainContext, HostWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class CaveatView:
    """Something that changes what a stat means on some hosts."""

    slug: Annotated[str, "Its name."]
    text: Annotated[str, "What it is."]
    general: Annotated[bool, "Whether it applies to every stat of a kind."]
    verdict: Annotated[TruthValue, "Whether it applies on this host."]
    reason: Annotated[str, "The evidence for it, or why it is unknown."]
    vms: Annotated[tuple[str, ...], "Where it depends on the VM, those to which the verdict applies."]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaveatExplanation(CaveatView):
    """A caveat by its name, and the stats that it affects."""

    what: Annotated[Literal["caveat"], "What the name is."] = "caveat"
    name: Annotated[str, "Its name."]
    stats: Annotated[tuple[str, ...], "The stats that it is of, as PROVIDER.SCOPE.NAME."]


def explain_caveat(context: ExplainContext, name: str) -> Iterator[CaveatExplanation]:
    """The caveat of this name, if there is one."""
    if name not in load_caveats():
        return
    [found] = caveat_views(context, (name,))
    yield CaveatExplanation(
        slug=found.slug,
        text=found.text,
        general=found.general,
        verdict=found.verdict,
        reason=found.reason,
        vms=found.vms,
        name=name,
        stats=tuple(f"{e.provider}.{e.scope.value}.{e.name}" for e in load_stats() if name in e.caveats),
    )


def caveat_views(context: ExplainContext, slugs: Iterable[str]) -> tuple[CaveatView, ...]:
    """Caveats by their names, each as it applies here."""
    caveats = load_caveats()
    return tuple(_view(context, caveats[slug]) for slug in slugs)


def _view(context: ExplainContext, caveat: Caveat) -> CaveatView:
    truth, vms = _judge(context, caveat)
    return CaveatView(
        slug=caveat.slug,
        text=caveat.text,
        general=caveat.every is not None,
        verdict=truth.verdict,
        reason=truth.reason,
        vms=vms,
    )


def _judge(context: ExplainContext, caveat: Caveat) -> tuple[Truth, tuple[str, ...]]:
    """The truth for the host (the worst of its VMs if it depends on the VM), and the VMs that the caveat affects."""
    live, machine = context.live, context.machine
    facts = Facts(machine) if live is None else facts_of(machine, live.window.current)
    of_host = judge(caveat.holds_if, facts)
    if of_host.verdict is not TruthValue.CANNOT_TELL or live is None:
        return of_host, ()
    truths = [judge(caveat.holds_if, replace(facts, vm=vm)) for vm in _vms(live)]
    for verdict in (TruthValue.HOLDS, TruthValue.CANNOT_TELL):
        rows = [row for row, truth in enumerate(truths) if truth.verdict is verdict]
        if rows:
            is_unknown_of_all = verdict is TruthValue.CANNOT_TELL and len(rows) == len(truths)
            named = [] if is_unknown_of_all else rows
            return truths[rows[0]], tuple(live.scene.title(row) for row in named)
    return next(iter(truths), of_host), ()


def _vms(live: HostWindow) -> Iterator[CaveatSubject]:
    """The subject to judge for each VM."""
    hardware = host_apicv(live.scene.machine).hardware
    for row, identity in enumerate(live.scene.identities):
        argv = tuple(identity.process.argv) if identity.process else None
        config = config_of(identity.process, identity.domain_xml, hardware=hardware)
        yield CaveatSubject(live.window.current, row, config, argv)
