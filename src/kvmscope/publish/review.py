"""The objections that KVM's reviewers would raise to a proposed stat set.

Not here: the reviewers' knowledge (``catalog.review``) and the text of objections (``cli``). Rule: an objection names
the rule, the stat, and what to do instead; a stat that keeps all rules gets none. The rules are reasons for which the
kvm list has refused stats (docs/reference/review.md); people make the decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from ..catalog.review import ReviewKnowledge, load_review
from ..catalog.stats import StatCatalog, load_stats
from ..schema import WORD_BITS, Kind, Scope, Tier, Unit
from .proposal import Proposal, ProposedStat
from .statset import check_name, check_shape

COST_LIMIT = 256
"""Bytes of always-on stats per vCPU or VM above which a reviewer asks for their benefit."""

_DETAIL = 4  # this many stats with a common prefix that enumerate a cause are for debugging
_WORD = 8


@dataclass(frozen=True, slots=True)
class Objection:
    """One objection to a proposal. ``stat`` is None if it is about the set as a whole."""

    rule: str
    stat: str | None
    scope: Scope | None
    says: str
    instead: str


@dataclass(frozen=True, slots=True)
class MemoryCost:
    """Bytes of a proposal for one VM and one vCPU, for stats that are always on and for opt-in groups."""

    vm: int
    vcpu: int
    vm_grouped: int
    vcpu_grouped: int

    def on_host(self, *, vms: int, vcpus: int) -> int:
        """Bytes on a host, with all groups off."""
        return self.vm * vms + self.vcpu * vcpus


def review(
    proposal: Proposal, *, knowledge: ReviewKnowledge | None = None, catalogue: StatCatalog | None = None
) -> tuple[Objection, ...]:
    """All objections: stat by stat in the order of the proposal, then objections to the whole set."""
    context = _Context(proposal, knowledge or load_review(), catalogue or load_stats())
    found = [objection for stat in proposal.stats for rule in _RULES for objection in rule(stat, context)]
    return (*found, *_detail(proposal), *_cost(proposal))


def cost(proposal: Proposal) -> MemoryCost:
    """The memory of the proposed stats. Bits of one scope and group share words."""
    return MemoryCost(
        vm=_size(proposal, Scope.VM, grouped=False),
        vcpu=_size(proposal, Scope.VCPU, grouped=False),
        vm_grouped=_size(proposal, Scope.VM, grouped=True),
        vcpu_grouped=_size(proposal, Scope.VCPU, grouped=True),
    )


@dataclass(frozen=True, slots=True)
class _Context:
    proposal: Proposal
    knows: ReviewKnowledge
    catalogue: StatCatalog


_Rule = Callable[[ProposedStat, _Context], Iterator[Objection]]


def _object(rule: str, stat: ProposedStat, says: str, instead: str) -> Objection:
    return Objection(rule, stat.name, stat.scope, says, instead)


# --- rules, in the order in which a reviewer applies them -------------------------------------------------------------


def _format(stat: ProposedStat, context: _Context) -> Iterator[Objection]:
    """The rules of the format that readers require."""
    checks = (partial(check_name, stat.name), partial(check_shape, stat.descriptor))
    for check in checks:
        try:
            check()
        except ValueError as error:
            yield _object("format", stat, str(error), "keep the rule of the format: readers rely on it")


def _bitmask(stat: ProposedStat, context: _Context) -> Iterator[Objection]:
    descriptor = stat.descriptor
    is_number = descriptor.kind in (Kind.INSTANT, Kind.PEAK) and descriptor.unit is Unit.NONE
    says_mask = stat.words & context.knows.words["bitmask"] or _mentions(stat, "bitmask", "bit mask", "bitmap", "OR of")
    if is_number and says_mask:
        yield _object(
            "bitmask",
            stat,
            "a bitmask is for programs; what its bits mean changes between kernels, and no person reads it",
            "make each fact a boolean of its own (unit bit: 64 of them take 8 bytes), or leave the detail to tracing",
        )


def _negative(stat: ProposedStat, context: _Context) -> Iterator[Objection]:
    negative = sorted(stat.words & context.knows.words["negative"])
    if stat.descriptor.is_boolean and negative:
        yield _object(
            "negative",
            stat,
            f"it is true when something is {negative[0]}: readers have to invert it",
            "track the positive: that the thing is active",
        )


def _per_vcpu(stat: ProposedStat, context: _Context) -> Iterator[Objection]:
    if stat.scope is Scope.VCPU or not stat.descriptor.is_boolean:
        return
    for state in context.knows.per_vcpu:
        if state.topic.covers(stat.words):
            yield _object("scope", stat, f"{state.what} differs between vCPUs: {state.why}", "make it a vCPU stat")


def _boolean_word(stat: ProposedStat, context: _Context) -> Iterator[Objection]:
    if stat.descriptor.unit is Unit.BOOLEAN and stat.descriptor.kind is Kind.INSTANT and not stat.group:
        yield _object(
            "boolean-word",
            stat,
            f"8 bytes for each {_subject(stat.scope)} to say yes or no, of what the code knows anyway",
            "make it a bit (unit bit: 64 booleans share a word), or read the state where it is",
        )


def _configuration(stat: ProposedStat, context: _Context) -> Iterator[Objection]:
    if stat.descriptor.kind is not Kind.INSTANT:
        return
    for known in context.knows.configuration:
        if known.topic.covers(stat.words):
            yield _object(
                "configuration",
                stat,
                f"{known.what} follows from the VM's configuration: {known.decided_by}",
                "leave it out; the VMM that configured the VM knows it",
            )


def _counted(stat: ProposedStat, context: _Context) -> Iterator[Objection]:
    if not _counts(stat):
        return
    for known in context.knows.counted:
        if known.topic.covers(stat.words) and stat.name != known.stat:
            yield _object(
                "counted",
                stat,
                f"{known.stat} counts this, or nearly: {known.why}",
                f"say what it adds to {known.stat}, or leave it out",
            )
    for entry in context.catalogue.named(stat.name):
        if entry.scope is stat.scope and entry.provider == context.proposal.provider and entry.until is None:
            yield _object("counted", stat, "a stat of this name exists already", "use another name, or that stat")


def _misnamed(stat: ProposedStat, context: _Context) -> Iterator[Objection]:
    """Whether the functions that update the stat match the event in its name."""
    said = {meaning for meaning, forms in _EVENTS.items() if any(word.startswith(forms) for word in stat.words)}
    places = [context.knows.places[name] for name in stat.moved_in if name in context.knows.places]
    for counts in dict.fromkeys(place.counts for place in places):
        here = [place for place in places if place.counts == counts]
        names = ", ".join(place.function for place in here)
        if counts == "access" and "access" not in said:
            yield _object(
                "activity",
                stat,
                f"{names}: {here[0].why}",
                "leave these places out, or make them a stat that says so in its name and its group",
            )
        elif said and counts not in said:
            yield _object(
                "name",
                stat,
                f"the name says {' and '.join(sorted(said))}, but {names} is {counts}: {here[0].why}",
                f"name it after {counts}, or move it elsewhere",
            )


_EVENTS = {"injection": ("inj",), "delivery": ("deliver",), "access": ("access",)}


def _name(stat: ProposedStat, context: _Context) -> Iterator[Objection]:
    short = sorted(stat.words & context.knows.words["short"])
    if short:
        yield _object("name", stat, f"{short[0]!r} has to be guessed by readers", "write the word out")
    if stat.name != stat.name.lower():
        yield _object("name", stat, "names of stats are in lower case", f"{stat.name.lower()}")
    last = stat.name.lower().rsplit("_", 1)[-1]
    if _counts(stat) and last in ("event", "exit", "injection", "fault", "kick", "miss"):
        yield _object("name", stat, f"it counts, and {last!r} is one", f"use the plural: {stat.name}s")


def _unit(stat: ProposedStat, context: _Context) -> Iterator[Objection]:
    descriptor = stat.descriptor
    for suffix, unit, exponent in _SUFFIXES:
        if stat.name.endswith(suffix) and (descriptor.unit, descriptor.exponent) != (unit, exponent):
            wanted = f"unit {unit.name.lower()}" + (f", exponent {exponent}" if exponent else "")
            yield _object("unit", stat, f"a name that ends in {suffix} has another unit than it is given", wanted)
    if descriptor.unit is Unit.SECONDS and descriptor.exponent == 0 and not descriptor.is_histogram:
        yield _object("unit", stat, "whole seconds are too coarse for what a vCPU does", "nanoseconds: exponent -9")
    if descriptor.unit is Unit.CYCLES:
        yield _object("unit", stat, "cycles mean another time on each CPU", "nanoseconds: unit seconds, exponent -9")


_SUFFIXES = (
    ("_ns", Unit.SECONDS, -9),
    ("_us", Unit.SECONDS, -6),
    ("_ms", Unit.SECONDS, -3),
    ("_bytes", Unit.BYTES, 0),
    ("_cycles", Unit.CYCLES, 0),
)


def _kind(stat: ProposedStat, context: _Context) -> Iterator[Objection]:
    kind, words = stat.descriptor.kind, context.knows.words
    if stat.words & words["peak"] and kind in (Kind.CUMULATIVE, Kind.INSTANT):
        yield _object("kind", stat, "the name says the largest value seen, the kind does not", "kind peak")
    if kind is Kind.CUMULATIVE and stat.name.lower().rsplit("_", 1)[-1] in words["now"]:
        yield _object("kind", stat, "the name is that of a state, and the kind counts", "kind instant, or another name")
    if kind is Kind.CUMULATIVE and stat.descriptor.is_boolean:
        yield _object("kind", stat, "what is true or false does not add up", "kind instant")


def _words_missing(stat: ProposedStat, context: _Context) -> Iterator[Objection]:
    if len(stat.meaning.split()) < 3:
        yield _object("meaning", stat, "nothing says what is counted, and when", "one sentence of meaning")
    if stat.tier not in {tier.value for tier in Tier}:
        given = f"{stat.tier!r} is not a tier" if stat.tier else "nothing says whether users may rely on it"
        yield _object("tier", stat, given, f"a tier: {', '.join(tier.value for tier in Tier)}")


_RULES: tuple[_Rule, ...] = (
    _format,
    _bitmask,
    _negative,
    _per_vcpu,
    _configuration,
    _boolean_word,
    _counted,
    _misnamed,
    _name,
    _unit,
    _kind,
    _words_missing,
)


# --- the set as a whole -----------------------------------------------------------------------------------------------


def _detail(proposal: Proposal) -> Iterator[Objection]:
    """Booleans that enumerate the variants of one state."""
    families: dict[str, list[str]] = {}
    for stat in proposal.stats:
        beginning = stat.name.rsplit("_", 1)[0]
        if stat.descriptor.is_boolean and not stat.group and "_" in beginning:
            families.setdefault(beginning, []).append(stat.name)
    for beginning, names in families.items():
        if len(names) >= _DETAIL:
            yield Objection(
                "detail",
                None,
                None,
                f"{len(names)} stats {beginning}_… say precisely why something is so: causes change between "
                "kernels, and most follow from the configuration",
                "one boolean for the fact; the causes in an opt-in group",
            )


def _cost(proposal: Proposal) -> Iterator[Objection]:
    always = cost(proposal)
    for scope, size in ((Scope.VM, always.vm), (Scope.VCPU, always.vcpu)):
        if size > COST_LIMIT:
            yield Objection(
                "cost",
                None,
                scope,
                f"{size} bytes for each {_subject(scope)}, always: {_expensive(proposal, scope)}; "
                f"{size * 1000 / 2**20:.2g} MiB on a host of 1,000",
                f"put what is for debugging into a group that is off by default; {COST_LIMIT} bytes are few questions",
            )


def _expensive(proposal: Proposal, scope: Scope) -> str:
    stats = [stat for stat in proposal.stats if stat.scope is scope and not stat.group]
    stats.sort(key=lambda stat: -stat.descriptor.size)
    return ", ".join(f"{stat.name} {_WORD * stat.descriptor.size}" for stat in stats[:3])


def _size(proposal: Proposal, scope: Scope, *, grouped: bool) -> int:
    stats = [stat for stat in proposal.stats if stat.scope is scope and bool(stat.group) is grouped]
    words = sum(stat.descriptor.size for stat in stats if stat.descriptor.unit is not Unit.BIT)
    return _WORD * (words + sum(-(-count // WORD_BITS) for count in _bits_by_group(stats)))


def _bits_by_group(stats: Iterable[ProposedStat]) -> list[int]:
    counts: dict[str, int] = {}
    for stat in stats:
        if stat.descriptor.unit is Unit.BIT:
            counts[stat.group] = counts.get(stat.group, 0) + 1
    return list(counts.values())


def _counts(stat: ProposedStat) -> bool:
    return stat.descriptor.kind is Kind.CUMULATIVE


def _mentions(stat: ProposedStat, *phrases: str) -> bool:
    return any(phrase in stat.meaning for phrase in phrases)


def _subject(scope: Scope) -> str:
    return "VM" if scope is Scope.VM else "vCPU"
