"""What there is to say of a name of the catalogue, as the JSON of ``kvmscope explain``: meaning, and how it is here.

Not here: how that is written for a person (``explain``). Rule: what could not be read here has its reason, and the
meaning is told all the same.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from ..analysis.caveats import Truth, VmFacts
    from ..analysis.evaluate import Evaluator
    from ..analysis.window import Window
    from ..catalog.caveats import Caveat
    from ..catalog.findings import Rule
    from ..catalog.inhibits import Inhibit
    from ..catalog.metrics import Metric
    from ..catalog.stats import StatEntry
    from ..formula.check import Formula
    from ..host.facts import Machine
    from ..scene import Scene
    from ..schema import Descriptor, Scope

VMS_SHOWN = 5
_QUANTILES = (0.5, 0.99)

TIER_MEANS = {
    "abi-like": "programs lean on it, and it is not expected to change",
    "stable": "the name stays; what moves it depends on CPU, VM and kernel",
    "volatile": "a detail of how KVM is built, which may change meaning or go at any time",
}


@dataclass(frozen=True)
class Here:
    """What was read of this host: a window, and who its VMs are."""

    scene: Scene
    window: Window

    @cached_property
    def evaluator(self) -> Evaluator:
        from ..analysis.evaluate import Evaluator
        from ..catalog.metrics import formulas, load_metrics

        return Evaluator(self.window, formulas(load_metrics()))


@dataclass(frozen=True)
class Explainer:
    """Tells what is known of names. ``here`` is None if the VMs could not be read, for the reason ``why_not``."""

    machine: Machine
    here: Here | None = None
    why_not: str = ""

    def explain(self, name: str) -> list[dict[str, Any]]:
        """Everything of that name. Raises UsageError, with the nearest names, if there is nothing."""
        found = [
            *self._stats(name),
            *self._metrics(name),
            *self._rules(name),
            *self._reasons(name),
            *self._caveats(name),
        ]
        if not found:
            nearest = tuple(difflib.get_close_matches(name, list(self._names()), n=3, cutoff=0.6))
            raise UsageError(
                f"nothing is called {name!r} here: no stat, metric, rule, reason or caveat", nearest=nearest
            )
        return found

    # --- stats --------------------------------------------------------------------------------------------------------

    def _stats(self, name: str) -> Iterator[dict[str, Any]]:
        from ..catalog.stats import load_stats

        provider, _, bare = name.rpartition(".")
        catalogued = [entry for entry in load_stats().named(bare) if provider in ("", entry.provider)]
        known = {(entry.provider, entry.scope, entry.name) for entry in catalogued}
        for entry in catalogued:
            yield self._stat(entry)
        for owner, scope, descriptor in self._described():
            if descriptor.name == bare and provider in ("", owner) and (owner, scope, bare) not in known:
                yield self._uncatalogued(owner, scope, descriptor)

    def _stat(self, entry: StatEntry) -> dict[str, Any]:
        from ..catalog.findings import load_findings
        from ..catalog.metrics import load_metrics

        return {
            "what": "stat",
            "provider": entry.provider,
            "scope": entry.scope.value,
            "name": entry.name,
            "catalogued": True,
            "kind": entry.kind.name.lower(),
            "unit": _unit(entry.unit.name, entry.shape.exponent),
            "tier": entry.tier.value,
            "tier_means": TIER_MEANS[entry.tier.value],
            "meaning": entry.meaning,
            "kernels": dict(entry.since),
            "until": entry.until,
            "replaced_by": list(entry.replaced_by),
            "changed": [
                {"since": change.since, "what": change.what.value, "text": change.text} for change in entry.changed
            ],
            "compare": list(entry.compare),
            "caveats": self._caveats_of(entry.caveats),
            "metrics": [m.name for m in load_metrics() if _reads(m.formula, entry)],
            "rules": [rule.slug for rule in load_findings() if any(_reads(f, entry) for f in rule.conditions)],
            "here": self._values(entry.provider, entry.scope, entry.name),
        }

    def _uncatalogued(self, provider: str, scope: Scope, descriptor: Descriptor) -> dict[str, Any]:
        from ..view.text import kind_text, unit_text

        return {
            "what": "stat",
            "provider": provider,
            "scope": scope.value,
            "name": descriptor.name,
            "catalogued": False,
            "kind": kind_text(descriptor),
            "unit": unit_text(descriptor),
            "here": self._values(provider, scope, descriptor.name),
        }

    def _described(self) -> Iterator[tuple[str, Scope, Descriptor]]:
        if self.here is None:
            return
        for block in self.here.window.current.blocks:
            for descriptor in block.schema.descriptors:
                yield block.schema.provider, block.schema.scope, descriptor

    # --- metrics ------------------------------------------------------------------------------------------------------

    def _metrics(self, name: str) -> Iterator[dict[str, Any]]:
        from ..catalog.findings import load_findings
        from ..catalog.metrics import load_metrics

        for metric in load_metrics():
            if metric.name == name:
                stats = list(_stats_of(metric.formula))
                yield {
                    "what": "metric",
                    "name": metric.name,
                    "title": metric.title,
                    "scope": metric.scope.value,
                    "unit": metric.unit.value,
                    "meaning": metric.help,
                    "good": metric.good,
                    "bad": metric.bad,
                    "formula": str(metric.formula),
                    "tier": _worst_tier(stats),
                    "stats": [f"{provider}.{scope.value}.{stat}" for provider, scope, stat in stats],
                    "caveats": self._caveats_of(_caveats_of(stats)),
                    "rules": [rule.slug for rule in load_findings() if _refers(rule, metric.name)],
                    "here": self._of_metric(metric),
                }

    def _of_metric(self, metric: Metric) -> dict[str, Any]:
        if self.here is None:
            return {"why_not": self.why_not}
        return self._by_vm({metric.unit.value: metric.formula})

    # --- rules, reasons, caveats --------------------------------------------------------------------------------------

    def _rules(self, name: str) -> Iterator[dict[str, Any]]:
        from ..catalog.findings import load_findings
        from ..view.jsonout import to_object
        from ..view.rules import rule_text

        for rule in load_findings():
            if rule.slug == name:
                yield {"what": "rule", **to_object(rule_text(rule)), "caveats": self._caveats_of(rule.silent_if)}

    def _reasons(self, name: str) -> Iterator[dict[str, Any]]:
        from ..catalog.inhibits import load_inhibits

        wanted = name.lower().removeprefix("apicv_inhibit_reason_").removeprefix("apicv_inhibit_")
        for inhibit in load_inhibits().values():
            if inhibit.name == wanted:
                yield self._reason(inhibit)

    def _reason(self, inhibit: Inhibit) -> dict[str, Any]:
        from ..schema import Scope

        return {
            "what": "reason",
            "name": inhibit.name,
            "class": inhibit.cls.value,
            "vendors": sorted(vendor.value for vendor in inhibit.vendors),
            "meaning": inhibit.meaning,
            "set_by": inhibit.set_by,
            "cleared_by": inhibit.cleared_by,
            "compare": list(inhibit.witness),
            "remedies": dict(inhibit.remedies),
            "here": self._values("apicv", Scope.VM, f"apicv_inhibit_{inhibit.name}"),
        }

    def _caveats(self, name: str) -> Iterator[dict[str, Any]]:
        from ..catalog.caveats import load_caveats
        from ..catalog.stats import load_stats

        if name in load_caveats():
            [told] = self._caveats_of((name,))
            stats = [f"{e.provider}.{e.scope.value}.{e.name}" for e in load_stats() if name in e.caveats]
            yield {"what": "caveat", "name": name, **told, "stats": stats}

    def _caveats_of(self, slugs: Iterable[str]) -> list[dict[str, Any]]:
        from ..catalog.caveats import load_caveats

        caveats = load_caveats()
        return [self._caveat(caveats[slug]) for slug in slugs]

    def _caveat(self, caveat: Caveat) -> dict[str, Any]:
        truth, vms = self._judge(caveat)
        told = {"slug": caveat.slug, "text": caveat.text, "general": caveat.every is not None}
        return {**told, "verdict": truth.verdict.value, "reason": truth.reason, "vms": vms}

    def _judge(self, caveat: Caveat) -> tuple[Truth, list[str]]:
        """The truth for the host, or where that depends on the VM, the worst, and the VMs of which it is the truth."""
        from ..analysis.caveats import Facts, Verdict, facts_of, judge

        facts = Facts(self.machine) if self.here is None else facts_of(self.machine, self.here.window.current)
        of_host = judge(caveat.holds_if, facts)
        if of_host.verdict is not Verdict.CANNOT_TELL or self.here is None:
            return of_host, []
        truths = [judge(caveat.holds_if, replace(facts, vm=vm)) for vm in _vms(self.here)]
        for verdict in (Verdict.HOLDS, Verdict.CANNOT_TELL):
            rows = [row for row, truth in enumerate(truths) if truth.verdict is verdict]
            if rows:
                is_told_of_all = verdict is Verdict.CANNOT_TELL and len(rows) == len(truths)
                named = [] if is_told_of_all else rows
                return truths[rows[0]], [self.here.scene.title(row) for row in named]
        return next(iter(truths), of_host), []

    # --- values -------------------------------------------------------------------------------------------------------

    def _values(self, provider: str, scope: Scope, name: str) -> dict[str, Any]:
        from ..analysis.window import find_column

        if self.here is None:
            return {"why_not": self.why_not}
        column = find_column(self.here.window.current, provider, scope, name)
        if column is None:
            return {"why_not": _why_no_stat(provider, self.here)}
        return self._by_vm(_formulas(provider, scope, column.descriptor))

    def _by_vm(self, formulas: dict[str, Formula]) -> dict[str, Any]:
        """The formulas for the host and for each VM, the largest first. What is not known is null."""
        import numpy as np

        from ..formula.tree import HOST
        from ..schema import Scope

        assert self.here is not None
        evaluator = self.here.evaluator
        of_host = {key: _known(evaluator.of(formula, HOST)[0]) for key, formula in formulas.items()}
        of_vms = {key: evaluator.of(formula, Scope.VM).tolist() for key, formula in formulas.items()}
        largest = -np.array(of_vms[list(formulas)[-1]])  # NaN is sorted to the end
        vms = [
            {"vm": self.here.scene.title(row), **{key: _known(values[row]) for key, values in of_vms.items()}}
            for row in np.argsort(largest, kind="stable").tolist()
        ]
        return {"interval_s": self.here.window.interval_s, "host": of_host, "vms": vms}

    def _names(self) -> Iterator[str]:
        from ..catalog.caveats import load_caveats
        from ..catalog.findings import load_findings
        from ..catalog.inhibits import load_inhibits
        from ..catalog.metrics import load_metrics
        from ..catalog.stats import load_stats

        yield from (entry.name for entry in load_stats())
        yield from (metric.name for metric in load_metrics())
        yield from (rule.slug for rule in load_findings())
        yield from load_inhibits()
        yield from load_caveats()
        yield from (descriptor.name for _, _, descriptor in self._described())


def _vms(here: Here) -> Iterator[VmFacts]:
    """What there is to judge each VM by."""
    from ..analysis.caveats import VmFacts
    from ..host.apicv import host_apicv
    from ..host.config import config_of

    hardware = host_apicv(here.scene.machine).hardware
    for row, identity in enumerate(here.scene.identities):
        argv = tuple(identity.process.argv) if identity.process else None
        config = config_of(identity.process, identity.domain_xml, hardware=hardware)
        yield VmFacts(here.window.current, row, config, argv)


def _formulas(provider: str, scope: Scope, descriptor: Descriptor) -> dict[str, Formula]:
    """What to show of a stat of this kind, by key of the JSON."""
    from ..formula.check import Formula, Type
    from ..formula.tree import Expression, QuantileTerm, Reduction, StatName, StatTerm
    from ..schema import Kind, Unit

    name = StatName(provider, descriptor.name)
    found: dict[str, Expression] = {}
    if descriptor.is_histogram:
        found = {f"p{q * 100:g}": QuantileTerm(name, q) for q in _QUANTILES}
    elif descriptor.kind is Kind.CUMULATIVE:
        is_time = descriptor.unit is Unit.SECONDS
        found = {"s_per_s": StatTerm(Reduction.SECONDS, name)} if is_time else {"per_s": StatTerm(Reduction.RATE, name)}
    else:
        found = {"value": StatTerm(Reduction.VALUE, name)}
    return {key: Formula(expression, scope, Type()) for key, expression in found.items()}


def _stats_of(formula: Formula) -> Iterator[tuple[str, Scope, str]]:
    """The stats that a formula reads, those of the metrics that it names included; each once."""
    seen: dict[tuple[str, Scope, str], None] = {}
    for stat in _walk_stats(formula):
        seen.setdefault(stat)
    yield from seen


def _walk_stats(formula: Formula) -> Iterator[tuple[str, Scope, str]]:
    from ..catalog.metrics import load_metrics
    from ..formula.tree import QuantileTerm, Reference, ShareTerm, StatTerm, walk

    for part, scope in walk(formula.expression, formula.scope):
        if isinstance(part, (StatTerm, QuantileTerm, ShareTerm)):
            yield part.stat.provider, scope, part.stat.name
        elif isinstance(part, Reference):
            referred = next(metric for metric in load_metrics() if metric.name == part.name)
            yield from _walk_stats(referred.formula)


def _reads(formula: Formula, entry: StatEntry) -> bool:
    return (entry.provider, entry.scope, entry.name) in _walk_stats(formula)


def _refers(rule: Rule, metric: str) -> bool:
    from ..formula.tree import Reference, walk

    formulas = [*rule.conditions, *filter(None, (rule.clears, rule.cost))]
    parts = (part for formula in formulas for part, _ in walk(formula.expression, formula.scope))
    return metric in rule.evidence or any(isinstance(part, Reference) and part.name == metric for part in parts)


def _worst_tier(stats: Sequence[tuple[str, Scope, str]]) -> str | None:
    """A metric can be relied on as far as the least of its stats."""
    from ..catalog.stats import load_stats
    from ..schema import Tier

    order = list(Tier)
    entries = [load_stats().find(*stat) for stat in stats]
    tiers = [order.index(entry.tier) for entry in entries if entry is not None]
    return order[max(tiers)].value if tiers else None


def _caveats_of(stats: Sequence[tuple[str, Scope, str]]) -> list[str]:
    from ..catalog.stats import load_stats

    entries = [load_stats().find(*stat) for stat in stats]
    return list(dict.fromkeys(slug for entry in entries if entry is not None for slug in entry.caveats))


def _why_no_stat(provider: str, here: Here) -> str:
    from ..sources.bpf.groups import PLANS

    sample = here.window.current
    if not len(sample.vms):
        return "no VM runs here"
    owners = {block.schema.provider for block in sample.blocks}
    if provider in owners:
        return "this kernel has no such stat" if provider == "kvm" else f"provider {provider} does not show it here"
    if provider in PLANS:
        return f"a group that is off until asked for; `kvmscope groups try {provider}` counts it for a while"
    return f"source {sample.source} shows no stats of provider {provider}"


def _unit(name: str, exponent: int) -> str | None:
    if name == "SECONDS":
        return {-9: "ns", -6: "µs", -3: "ms", 0: "s"}.get(exponent, f"10^{exponent} s")
    return None if name == "NONE" else name.lower()


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
