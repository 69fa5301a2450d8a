"""The stats that each opt-in group would provide on this kernel, and the memory that it would take; loads nothing.

Not here: the meaning of the stats (``catalog.groups``), and loading the groups (``groups``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...codec import apicv
from ...codec.apicv import Counted
from ...codec.snapshot import VCPU_EVENT_WORDS, VM_EVENT_WORDS, Feature
from ...errors import SourceError
from ...schema import Schema, Scope
from .groups import pinned, plans_by_name
from .groups.kernel import KernelFacts
from .place import ROOT
from .source import GROUP_ROOM, read_reasons

_ALL = Feature.APICV | Feature.SYNIC | Feature.SEV


@dataclass(frozen=True, slots=True)
class Offer:
    """One group on this kernel. ``why_not``: why it is unavailable; "" if it is available. ``doubt``: why its events
    may never occur. ``missing``: stats that cannot be counted on this kernel, each with the reason. ``bytes_per``:
    kernel memory per subject. ``memory_bytes``: kernel memory in all, with room for more subjects."""

    name: str
    stats: Mapping[Scope, int]
    bytes_per: Mapping[Scope, int]
    memory_bytes: int | None = None
    why_not: str = ""
    doubt: str = ""
    missing: tuple[tuple[str, str], ...] = ()
    is_pinned: bool = False


def offers(*, vms: int, vcpus: int, root: Path = ROOT) -> tuple[Offer, ...]:
    """Every group, in the order of the catalogue, for a host with this many VMs and vCPUs."""
    attached, subjects = pinned.pinned_names(root), _by_scope(vms, vcpus)
    return (*_of_iterator(), *(_of_plan(name, subjects, is_pinned=name in attached) for name in plans_by_name()))


def _of_iterator() -> tuple[Offer, Offer]:
    """The groups that are part of the iterator's own program."""
    counted = frozenset(Counted)
    reasons = _reasons()
    without = _count(apicv.vm_schema(reasons, _ALL)), _count(apicv.vcpu_schema())
    with_counts = _count(apicv.vm_schema(reasons, _ALL, counted)), _count(apicv.vcpu_schema(counted))
    registers = _count(apicv.vm_schema(reasons, _ALL, registers=True)), _count(apicv.vcpu_schema(registers=True))
    why_not = "" if reasons else "this kernel's KVM has no APICv or AVIC"
    return (
        Offer(
            "apicv",
            _by_scope(with_counts[0] - without[0], with_counts[1] - without[1]),
            _by_scope(8 * VM_EVENT_WORDS, 8 * VCPU_EVENT_WORDS),
            8 * (VM_EVENT_WORDS * GROUP_ROOM[0] + VCPU_EVENT_WORDS * GROUP_ROOM[1]),
            why_not,
        ),
        Offer("apic", _by_scope(registers[0] - without[0], registers[1] - without[1]), _by_scope(0, 0), 0, why_not),
    )


def _reasons() -> apicv.Reasons:
    try:
        return read_reasons()
    except SourceError:
        return {}


def _of_plan(name: str, subjects: Mapping[Scope, int], *, is_pinned: bool) -> Offer:
    try:
        plan = plans_by_name()[name](KernelFacts())
    except SourceError as error:
        return Offer(name, {}, {}, why_not=error.reason)
    cost = plan.shape(subjects[plan.schema.scope]).cost
    return Offer(
        name,
        {cost.scope: cost.stats},
        {cost.scope: cost.bytes_per_subject},
        cost.memory_bytes,
        doubt=plan.silent,
        missing=plan.missing,
        is_pinned=is_pinned,
    )


def _count(schema: Schema) -> int:
    return len(schema.descriptors)


def _by_scope(vm: int, vcpu: int) -> Mapping[Scope, int]:
    return {Scope.VM: vm, Scope.VCPU: vcpu}
