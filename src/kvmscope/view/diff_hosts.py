"""Differences between the hosts of a diff besides metrics: settings, caveats, interrupt acceleration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from ..analysis.apicv import VmVerdict
from ..analysis.caveats import Facts, TruthValue, judge
from ..analysis.difference_sides import VmPair
from ..catalog.caveats import load_caveats
from ..catalog.stats import load_stats
from ..host.facts import Machine
from ..linux.facts import Fact, KernelModule
from ..scene import Scene
from ..schema import Scope
from .judging import judge_scene


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingDifference:
    """A property of the machine that differs."""

    name: Annotated[str, "What it is: kernel, cpu, a module parameter (kvm.halt_poll_ns), …"]
    a: Annotated[str | None, "On side A."]
    b: Annotated[str | None, "On side B."]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaveatDifference:
    """A caveat that is known to apply on one side, and known not to apply on the other."""

    slug: Annotated[str, "Its name."]
    text: Annotated[str, "What it is."]
    applies_to: Annotated[Literal["a", "b"], "The side on which it applies."]
    a: Annotated[str, "How that is known of side A."]
    b: Annotated[str, "How that is known of side B."]
    stats: Annotated[tuple[str, ...], "The stats that it is of, as PROVIDER.NAME."]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApicvDifference:
    """A VM whose interrupt acceleration differs between the sides."""

    name: Annotated[str, "Name of the VM. Untrusted text."]
    a: Annotated[str, "State on side A, with the reasons if it is not active."]
    b: Annotated[str, "State on side B."]


def setting_differences(a: Machine, b: Machine) -> Iterator[SettingDifference]:
    """The properties that differ between two machines; a property unknown on both does not."""
    of_a, of_b = _settings(a), _settings(b)
    for name in dict.fromkeys([*of_a, *of_b]):
        if of_a.get(name) != of_b.get(name):
            yield SettingDifference(name=name, a=of_a.get(name), b=of_b.get(name))


def _settings(machine: Machine) -> Mapping[str, str | None]:
    cpu = machine.cpu.value
    modules = {module.name: module for module in map(_value, (machine.kvm, machine.kvm_vendor)) if module}
    return {
        "kernel": machine.kernel_release.value,
        "architecture": machine.architecture.value,
        "cpu": cpu.model if cpu else None,
        "cpu flags": " ".join(sorted(cpu.flags)) if cpu else None,
        "kvm module": machine.kvm_vendor.value.name if machine.kvm_vendor.value else None,
        "lockdown": machine.lockdown.value,
        "clocksource": machine.clocksource.value,
        **{
            f"{module.name}.{name}": fact.value
            for module in modules.values()
            for name, fact in sorted(module.parameters.items())
        },
    }


def _value(fact: Fact[KernelModule]) -> KernelModule | None:
    return fact.value


def caveat_differences(a: Facts, b: Facts) -> Iterator[CaveatDifference]:
    """Caveats of either side's stats that apply on one side alone."""
    stats = _stats_by_caveat(a, b)
    for slug, caveat in load_caveats().items():
        of_a, of_b = judge(caveat.holds_if, a), judge(caveat.holds_if, b)
        if slug in stats and {of_a.verdict, of_b.verdict} == {TruthValue.HOLDS, TruthValue.DOES_NOT_HOLD}:
            yield CaveatDifference(
                slug=slug,
                text=caveat.text,
                applies_to="a" if of_a.verdict is TruthValue.HOLDS else "b",
                a=of_a.reason,
                b=of_b.reason,
                stats=tuple(stats[slug]),
            )


def _stats_by_caveat(a: Facts, b: Facts) -> dict[str, list[str]]:
    """The stats of both sides by their caveats in the catalogue."""
    found: dict[str, list[str]] = {}
    keys = {
        (schema.provider, schema.scope.value, name)
        for side in (a, b)
        for schema in side.schemas
        for name in schema.names
    }
    for provider, scope, name in sorted(keys):
        entry = load_stats().find(provider, Scope(scope), name)
        for slug in entry.caveats if entry else ():
            found.setdefault(slug, []).append(f"{provider}.{name}")
    return found


def apicv_differences(a: Scene, b: Scene, pairs: Sequence[VmPair]) -> Iterator[ApicvDifference]:
    """The VMs whose verdict on interrupt acceleration differs."""
    if not pairs:
        return
    of_a, of_b = judge_scene(a).vms, judge_scene(b).vms
    for pair in pairs:
        text_a, text_b = _verdict_text(of_a[pair.a]), _verdict_text(of_b[pair.b])
        if text_a != text_b:
            yield ApicvDifference(name=a.identities[pair.a].name, a=text_a, b=text_b)


def _verdict_text(verdict: VmVerdict) -> str:
    reasons = ", ".join(reason.name for reason in verdict.reasons)
    return f"{verdict.state.value}: {reasons}" if reasons else verdict.state.value
