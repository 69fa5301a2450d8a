"""What each opt-in group would give on this kernel and take of its memory, without loading anything.

Not here: what they mean (``catalog.groups``), and loading them (``groups``).
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
from . import pins
from .groups import PLANS, pinned
from .groups.base import WHO_SIZE
from .groups.kernel import KernelFacts

_ALL = Feature.APICV | Feature.SYNIC | Feature.SEV


@dataclass(frozen=True, slots=True)
class Offer:
    """One group on this kernel. ``why_not``: why it cannot be had; "" if it can. ``doubt``: why its events may never
    come. ``missing``: stats that this kernel does not let be counted, each with the reason. Bytes are of the kernel's
    memory, for each subject."""

    name: str
    stats: Mapping[Scope, int]
    bytes_per: Mapping[Scope, int]
    why_not: str = ""
    doubt: str = ""
    missing: tuple[tuple[str, str], ...] = ()
    is_pinned: bool = False


def offers(*, root: Path = pins.ROOT) -> tuple[Offer, ...]:
    """Every group that there is, in the order of ``collect.GROUPS``."""
    attached = pinned.pinned_names(root)
    return (*_of_iterator(), *(_of_plan(name, is_pinned=name in attached) for name in PLANS))


def _of_iterator() -> tuple[Offer, Offer]:
    """Those that are part of the iterator's own program."""
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
            why_not,
        ),
        Offer("apic", _by_scope(registers[0] - without[0], registers[1] - without[1]), _by_scope(0, 0), why_not),
    )


def _reasons() -> apicv.Reasons:
    from .source import read_reasons

    try:
        return read_reasons()
    except SourceError:
        return {}


def _of_plan(name: str, *, is_pinned: bool) -> Offer:
    try:
        plan = PLANS[name](KernelFacts())
    except SourceError as error:
        return Offer(name, {}, {}, error.reason)
    scope = plan.schema.scope
    size = plan.schema.data_size + WHO_SIZE
    return Offer(name, {scope: _count(plan.schema)}, {scope: size}, "", plan.silent, plan.missing, is_pinned)


def _count(schema: Schema) -> int:
    return len(schema.descriptors)


def _by_scope(vm: int, vcpu: int) -> Mapping[Scope, int]:
    return {Scope.VM: vm, Scope.VCPU: vcpu}
