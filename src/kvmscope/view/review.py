"""The review of proposed stats, as plain values and as text. Rules: ``publish.review``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from ..host.text import printable
from ..schema import Scope
from ..units import format_bytes
from .text import counted
from .values import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectionView:
    """One objection."""

    rule: Annotated[str, "Name of the rule that is broken."]
    stat: Annotated[str | None, "The stat; null for the set as a whole."]
    scope: Annotated[Scope | None, "Scope of the stat; null for the set as a whole."]
    says: Annotated[str, "What is wrong."]
    instead: Annotated[str, "What to do instead."]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCost:
    """The cost of the stats on a host, with all groups off."""

    vms: Annotated[int, "Number of VMs."]
    vcpus: Annotated[int, "Number of vCPUs."]
    bytes: Annotated[int, "Bytes of kernel memory."]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalCost:
    """The cost of the stats."""

    bytes_per_vm: Annotated[int, "Bytes for each VM, always."]
    bytes_per_vcpu: Annotated[int, "Bytes for each vCPU, always."]
    grouped_bytes_per_vm: Annotated[int, "Further bytes for each VM where groups are on."]
    grouped_bytes_per_vcpu: Annotated[int, "Further bytes for each vCPU where groups are on."]
    host: HostCost


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewView(Answer):
    """A review of proposed stats."""

    title: Annotated[str, "Title of the proposal; untrusted text."]
    provider: Annotated[str, "Provider of the stats."]
    stats: Annotated[int, "Number of stats."]
    objections: tuple[ObjectionView, ...]
    cost: ProposalCost


def review_lines(view: ReviewView) -> Iterator[str]:
    """The objections, stat by stat, and the cost."""
    yield f"{printable(view.title)}: {counted(view.stats, 'stat')}"
    before: tuple[object, object] | None = None
    for objection in view.objections:
        subject = objection.stat, objection.scope
        if subject != before:
            yield ""
            yield _subject(objection)
            before = subject
        yield f"  {objection.rule}: {objection.says}"
        yield f"    instead: {objection.instead}"
    yield ""
    yield _cost_line(view.cost)
    yield counted(len(view.objections), "objection") if view.objections else "no objections"


def _subject(objection: ObjectionView) -> str:
    if objection.stat is None:
        return "the set as a whole"
    return f"{objection.stat} ({objection.scope.value if objection.scope else ''})"


def _cost_line(cost: ProposalCost) -> str:
    vm, vcpu = cost.grouped_bytes_per_vm, cost.grouped_bytes_per_vcpu
    grouped = f"; {vm} and {vcpu} bytes more where its groups are on" if vm or vcpu else ""
    return (
        f"cost: {cost.bytes_per_vm} bytes for each VM and {cost.bytes_per_vcpu} for each vCPU, always: "
        f"{format_bytes(cost.host.bytes)} on a host with {cost.host.vcpus:,} vCPUs in {cost.host.vms} VMs{grouped}"
    )
