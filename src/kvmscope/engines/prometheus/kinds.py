"""Kinds of hosts by their stats: every known kernel, each vendor, with and without the opt-in groups, and modules of
KVM that count less than the kernel describes.

A rule in a rule file is one query for all hosts of a fleet, while a formula is resolved by the stats of one host. So a
formula is resolved for each kind; where kinds differ, the queries are joined by ``or``, each for the kinds on which it
is right:

- A query that reads a stat which a host lacks has no result there, just as the stat is unknown to numpy.
- Where that does not separate two kinds, a guard does: a series that hosts of one kind have and others do not.
- Where no series distinguishes two kinds, the formula is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from ...catalog.exit_reasons import ReasonTable, reasons
from ...catalog.findings import FACTS
from ...catalog.kernels import known_kernels
from ...catalog.series_names import Family, stat_family
from ...catalog.stats import load_stats
from ...catalog.uncounted import load_uncounted
from ...formula.check import Formula, walk_with_metrics
from ...formula.resolve import Descriptors, resolve
from ...formula.resolved import (
    Complement,
    Connective,
    HistogramQuantile,
    HistogramShare,
    Operation,
    Opposite,
    Quotient,
    Relation,
    ResolvedFormula,
    ResolvedNode,
    ScopedStat,
    StatColumn,
    StatTotal,
    Unresolved,
    VcpuFold,
)
from ...formula.tree import Leaf, Level
from ...schema import Descriptor, KernelTables, Kind, Scope, Shape
from ..refusal import EngineRefusal, QueryEngine
from .printer import NOBODY

_KVM: Final = "kvm"
_OF_SCHEDULER: Final = ("cgroup", "pressure", "sched")
_VENDORS: Final[Mapping[str, tuple[tuple[ReasonTable, ...], ...]]] = {
    "x86": ((ReasonTable.VMX,), (ReasonTable.SVM,)),
    "arm64": ((ReasonTable.ARM64, ReasonTable.ARM64_EXCEPTION),),
}
"""By architecture, the tables of exit reasons that one host has."""

_MODULES: Final[Mapping[str, tuple[str, ...]]] = {"x86": ("kvm_pvm",), "powerpc": ("kvm_hv",)}
"""By architecture, KVM modules that count less than the kernel describes."""

_WAKEUPS: Final = ("wakeup_to_entry", "wakeup_to_resume")
"""The two histograms of the group wakeups: the first where KVM traces guest entries, else the second."""

Say = Callable[[ResolvedFormula], str | EngineRefusal]
"""Prints a resolved formula."""


@dataclass(frozen=True, slots=True)
class StatVariety:
    """The stats of a kind of hosts that a formula reads. ``name``: a kernel of the kind."""

    name: str
    descriptors: Mapping[ScopedStat, Descriptor]


@dataclass(frozen=True, slots=True)
class FleetQuery:
    """A formula for hosts of all kinds. ``parts``: queries, each for the kinds on which it is right."""

    parts: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\nor\n".join(self.parts) if self.parts else NOBODY


def fleet_query(
    formula: Formula, level: Level, metrics: Mapping[str, Formula], say: Say, *, subject: str
) -> FleetQuery | EngineRefusal:
    """The formula for every kind of hosts. ``subject``: named in a refusal."""
    kinds = kinds_of(formula, metrics)
    resolved = [resolve(formula, level, _plain(kind.descriptors), metrics=metrics, facts=FACTS) for kind in kinds]
    said = [say(each) for each in resolved]
    refusal = next((each for each in said if isinstance(each, EngineRefusal)), None)
    if refusal is not None:
        return replace(refusal, subject=subject)
    texts = [each for each in said if isinstance(each, str)]
    return _Choice(kinds, resolved, texts, say, subject).query()


def _plain(descriptors: Mapping[ScopedStat, Descriptor]) -> Descriptors:
    return {(stat.provider, stat.scope, stat.name): descriptor for stat, descriptor in descriptors.items()}


def kinds_of(formula: Formula, metrics: Mapping[str, Formula]) -> tuple[StatVariety, ...]:
    """The kinds that differ in the stats that the formula reads, from the newest kernel to the oldest."""
    stats = tuple(dict.fromkeys(_stats_of(formula, metrics)))
    found: dict[tuple[tuple[ScopedStat, Shape], ...], StatVariety] = {}
    for kernel in reversed(known_kernels()):
        for name, has in _variants(kernel):
            descriptors = {stat: shape for stat in stats if (shape := has(stat)) is not None}
            key = tuple((stat, found_shape.shape) for stat, found_shape in descriptors.items())
            found.setdefault(key, StatVariety(name, descriptors))
    return tuple(found.values())


def _stats_of(formula: Formula, metrics: Mapping[str, Formula]) -> Iterator[ScopedStat]:
    for part, scope in walk_with_metrics(formula.expression, formula.scope, metrics):
        if isinstance(part, Leaf):
            yield ScopedStat(part.stat.provider, scope, part.stat.name)


_Has = Callable[[ScopedStat], Descriptor | None]


def _variants(kernel: KernelTables) -> Iterator[tuple[str, _Has]]:
    """The stats of a kernel: without groups, read by the iterator or by another source; and with the groups of its
    architecture."""
    tables = {table.scope: table.stats for table in kernel.tables}

    def own(stat: ScopedStat) -> Descriptor | None:
        if stat.provider in _OF_SCHEDULER:
            return _of_scheduler(stat, kernel.architecture or "")
        shape = tables[stat.scope].get(stat.name) if stat.provider == _KVM else None
        return None if shape is None else _descriptor(stat.name, shape)

    def elsewhere(stat: ScopedStat) -> Descriptor | None:
        return None if stat.provider in _OF_SCHEDULER else own(stat)

    yield kernel.name, own
    yield f"{kernel.name} by other sources", elsewhere
    for module in _MODULES.get(kernel.architecture or "", ()):
        yield f"{kernel.name} by {module}", _without_stats(own, _uncounted_by(module))
    for vendor in _VENDORS.get(kernel.architecture or "", ()):
        for wakeup in _WAKEUPS:
            yield f"{kernel.name} with groups", _with_groups(own, kernel.architecture or "", vendor, wakeup)


@cache
def _uncounted_by(module: str) -> frozenset[str]:
    """The stats that KVM does not count where this module runs the guests. Such hosts do not export them."""
    return frozenset(stat for rule in load_uncounted() if module in rule.modules for stat in rule.stats)


def _without_stats(has: _Has, names: frozenset[str]) -> _Has:
    return lambda stat: None if stat.provider == _KVM and stat.name in names else has(stat)


def _of_scheduler(stat: ScopedStat, architecture: str) -> Descriptor | None:
    """A scheduler stat, which only the iterator reads; unknown for hosts that are read by another source."""
    entry = load_stats().find(*stat)
    return None if entry is None or architecture not in entry.architectures else _descriptor(stat.name, entry.shape)


def _with_groups(own: _Has, architecture: str, vendor: tuple[ReasonTable, ...], wakeup: str) -> _Has:
    exits = _exit_stats(vendor)
    other_wakeup = next(each for each in _WAKEUPS if each != wakeup)

    def has(stat: ScopedStat) -> Descriptor | None:
        if stat.provider == _KVM:
            return own(stat)
        entry = load_stats().find(*stat)
        if entry is None or architecture not in entry.architectures or stat.name.startswith(other_wakeup):
            return None
        if stat.provider == "exits" and stat.name not in exits:
            return None
        return _descriptor(stat.name, entry.shape)

    return has


@cache
def _exit_stats(vendor: tuple[ReasonTable, ...]) -> frozenset[str]:
    return frozenset(f"exit_{name}{end}" for table in vendor for name in reasons(table).values() for end in ("", "_ns"))


def _descriptor(name: str, shape: Shape) -> Descriptor:
    return Descriptor(name, shape.kind, shape.unit, shape.base, shape.exponent, shape.size, shape.bucket_size)


class _Choice:
    """Chooses the queries to join, and the guard of each."""

    def __init__(
        self,
        kinds: Sequence[StatVariety],
        resolved: Sequence[ResolvedFormula],
        texts: Sequence[str],
        say: Say,
        subject: str,
    ) -> None:
        self._kinds = kinds
        self._resolved = resolved
        self._texts = texts
        self._say = say
        self._subject = subject

    def query(self) -> FleetQuery | EngineRefusal:
        parts: list[str] = []
        open_kinds = {place for place, text in enumerate(self._texts) if text != NOBODY}
        while open_kinds:
            # First the kind with the most complete formula: it may be right on hosts that lack a part of it.
            place = max(sorted(open_kinds), key=lambda each: len(self._texts[each]))
            right, wrong = self._judged(place)
            part = self._guarded(place, right, wrong)
            if isinstance(part, EngineRefusal):
                return part
            parts.append(part)
            open_kinds -= right
        return FleetQuery(tuple(parts))

    def _judged(self, place: int) -> tuple[set[int], set[int]]:
        """The kinds on which a query is right, and those on which it is wrong; on all others it has no result."""
        right, wrong = set(), set()
        for other, kind in enumerate(self._kinds):
            there = self._say(_on(self._resolved[place], kind.descriptors))
            if there == self._texts[other]:
                right.add(other)
            elif there != NOBODY:
                wrong.add(other)
        return right, wrong

    def _guarded(self, place: int, right: set[int], wrong: set[int]) -> str | EngineRefusal:
        text = self._texts[place]
        while wrong:
            guard = next(filter(None, (self._guard(right, other) for other in sorted(wrong))), None)
            if guard is None:
                pair = f"{self._kinds[place].name} and {self._kinds[min(wrong)].name}"
                reason = f"no series distinguishes hosts such as {pair}, which need different formulas"
                return EngineRefusal(QueryEngine.PROMETHEUS, self._subject, reason)
            word, stat = guard
            text += f" {word} on (job, instance) {self._witness(stat)}"
            is_kept = word == "and"
            wrong = {other for other in wrong if (stat in self._kinds[other].descriptors) == is_kept}
        return text

    def _guard(self, right: set[int], other: int) -> tuple[str, ScopedStat] | None:
        """A stat that all ``right`` kinds have and ``other`` lacks, or the reverse."""
        theirs = self._kinds[other].descriptors
        every = dict.fromkeys(stat for kind in self._kinds for stat in kind.descriptors)
        for stat in every:
            has = [stat in self._kinds[each].descriptors for each in right]
            if all(has) and stat not in theirs:
                return "and", stat
            if not any(has) and stat in theirs:
                return "unless", stat
        return None

    def _witness(self, stat: ScopedStat) -> str:
        """A series that a host exports if it has the stat, if possible at every level of detail."""
        descriptor = next(kind.descriptors[stat] for kind in self._kinds if stat in kind.descriptors)
        is_summed = descriptor.is_histogram or descriptor.kind is Kind.CUMULATIVE
        level = Scope.VM if is_summed else stat.scope
        name = stat_family(stat.provider, descriptor, stat.scope, level=level).sample_name
        return f'{name}_bucket{{le="+Inf"}}' if descriptor.is_histogram else name


def _on(formula: ResolvedFormula, descriptors: Mapping[ScopedStat, Descriptor]) -> ResolvedFormula:
    """What a formula of one kind computes on hosts of another kind, where series are absent."""
    return ResolvedFormula(_without(formula.node, descriptors), formula.level)


def _without(node: ResolvedNode, descriptors: Mapping[ScopedStat, Descriptor]) -> ResolvedNode:
    """The formula with missing stats as unknown."""
    match node:
        case StatColumn():
            there = descriptors.get(node.stat)
            is_same = there is not None and _exported(node.stat, there) == _exported(node.stat, node.descriptor)
            return node if is_same else Unresolved(f"no stat {node.stat}", node.stat.scope)
        case StatTotal():
            column = _without(node.column, descriptors)
            is_there = all(presence.stat in descriptors for presence in node.cohort.presences)
            return node if is_there and column == node.column else Unresolved(f"no stat {node.column.stat}", None)
        case HistogramQuantile() | HistogramShare():
            inner = _without(node.buckets, descriptors)
            return inner if isinstance(inner, Unresolved) else node
        case Opposite():
            return Opposite(_without(node.operand, descriptors))
        case Complement():
            return Complement(_without(node.operand, descriptors))
        case VcpuFold():
            return VcpuFold(node.fold, _without(node.operand, descriptors), node.level)
        case Operation():
            return Operation(node.operator, *_sides(node, descriptors))
        case Quotient():
            return Quotient(*_sides(node, descriptors), node.zero)
        case Relation():
            return Relation(node.comparison, *_sides(node, descriptors))
        case Connective():
            return Connective(node.junction, *_sides(node, descriptors))
    return node


def _exported(stat: ScopedStat, descriptor: Descriptor) -> tuple[Family, int, int]:
    """The parts of a descriptor that matter to a query: values are exported in base units, whatever unit the kernel
    uses."""
    return stat_family(stat.provider, descriptor, stat.scope), descriptor.size, descriptor.bucket_size


def _sides(
    node: Operation | Quotient | Relation | Connective, descriptors: Mapping[ScopedStat, Descriptor]
) -> tuple[ResolvedNode, ResolvedNode]:
    return _without(node.left, descriptors), _without(node.right, descriptors)
