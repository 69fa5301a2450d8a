"""The rules of findings.toml: when something is wrong with a VM, why it matters, what to do, and the trade-off.

Not here: whether a rule fires (``analysis.findings``). A condition may name facts, which no stat provides; ``FACTS``
lists them, and ``analysis.observations`` determines them.
Rule: a file with a mistake is a CatalogError that names the place, and nothing of the file is used.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache
from types import MappingProxyType
from typing import Final

from ..errors import UsageError
from ..formula.check import Context, Dimension, Formula, Type, check
from ..formula.parse import parse
from ..schema import Scope
from .caveats import Condition, load_caveats, parse_condition
from .data import read_toml
from .metrics import metric_context
from .settings import setting_names
from .tomlfile import TomlEntry, read_root, root_tables, shown, unique
from .windows import USUAL_WINDOWS

_FILE: Final = "findings.toml"
_SYMPTOM: Final = "symptom"
_WINDOWS_MAX: Final = 100


class Severity(Enum):
    """The severity: worth knowing, costs something, breaks something."""

    INFO = "info"
    WARNING = "warning"
    PROBLEM = "problem"

    @property
    def rank(self) -> int:
        return _RANKS[self.value]


_RANKS: Final = {severity.value: rank for rank, severity in enumerate(Severity)}


class Addition(Enum):
    """Details that are added to the findings of a rule."""

    VERDICT = "apicv"
    """The verdict on interrupt acceleration."""
    POLLING = "polling"
    """Advice on halt polling."""
    CLOCKS = "clocks"
    """The clocks and timers that the guest is offered, as far as its configuration shows them, with the ports and MSRs
    that it uses most, while they are counted."""
    EXITS = "exits"
    """The reasons of exits that take most time."""
    ERRORS = "errors"
    """Suberrors of internal errors, and causes of failed entries."""
    RIVALS = "rivals"
    """The processes that ran while vCPUs waited for a CPU."""
    NESTING = "nesting"
    """Whether the guest is shown VMX or SVM, its most likely hypervisor, and enlightenments not offered to that."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """A fix and its trade-off. ``only_if``: the hosts concerned; None for all. ``settings``: those that it changes."""

    do: str
    price: str
    only_if: Condition | None = None
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    ``when``, ``activity``, ``clears``: conditions of ``scope``; None if there is no such condition. ``windows``: the
    number of consecutive windows in which ``when`` must hold. ``worst``: a formula of vCPUs. ``evidence``: names of
    metrics. ``cost``: CPU time, in CPUs. ``lost``: wall time that vCPUs lose, in vCPUs. ``adds``: details to add to its
    findings. ``silent_if``: slugs of caveats. ``despite``: by a caveat's slug, why the rule is valid although this
    caveat of a stat that it reads holds. ``symptoms``: names of the symptoms that lead to the rule.
    """

    slug: str
    title: str
    severity: Severity
    scope: Scope
    when: Formula
    activity: Formula | None
    clears: Formula | None
    windows: int
    cost: Formula | None
    lost: Formula | None
    worst: Formula | None
    evidence: tuple[str, ...]
    adds: Addition | None
    explanation: str
    threshold: str
    remedies: tuple[Remedy, ...]
    silent_if: tuple[str, ...]
    despite: Mapping[str, str] = field(default_factory=dict, hash=False)
    symptoms: tuple[str, ...] = ()

    @property
    def adds_verdict(self) -> bool:
        return self.adds is Addition.VERDICT

    @property
    def adds_polling(self) -> bool:
        return self.adds is Addition.POLLING

    @property
    def conditions(self) -> tuple[Formula, ...]:
        """The conditions that must be known for the rule to fire."""
        return (self.when,) if self.activity is None else (self.activity, self.when)

    @property
    def formulas(self) -> tuple[Formula, ...]:
        """The formulas of the conditions and of the cost."""
        parts = (*self.conditions, self.clears, self.cost, self.lost)
        return tuple(part for part in parts if part is not None)


_NUMBER: Final = Type(dimension=Dimension())
_SECONDS: Final = Type(dimension=Dimension(seconds=1))
_PER_SECOND: Final = Type(dimension=Dimension(seconds=-1))
FACTS: Final[Mapping[tuple[Scope, str], Type]] = MappingProxyType(
    {
        (Scope.VM, "vcpus"): _NUMBER,
        (Scope.VM, "stats_reset"): _NUMBER,
        (Scope.VM, "apicv_inhibited"): _NUMBER,
        (Scope.VM, "apicv_off_on_host"): _NUMBER,
        (Scope.VM, "apicv_uninhibited"): _NUMBER,
        (Scope.VM, "hlt_exits_disabled"): _NUMBER,
        (Scope.VM, "mmio_uncached"): _NUMBER,
        (Scope.VM, "vmm_silent_s"): _SECONDS,
        (Scope.VM, "poll_limit"): _SECONDS,
        (Scope.VM, "poll_limit_known"): _NUMBER,
        (Scope.VM, "mapped_growth"): _PER_SECOND,
        (Scope.VCPU, "never_ran"): _NUMBER,
        (Scope.VCPU, "injected_while_active"): _PER_SECOND,
        (Scope.VCPU, "costliest_exit"): _NUMBER,
    }
)
"""The facts that a condition may use by ``fact(…)``."""

_NO_STATE: Final = "KVM's state of interrupt acceleration was not read; the sources bpf and pinned have it"
UNKNOWN_FACTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "apicv_inhibited": _NO_STATE,
        "apicv_off_on_host": "it is unknown whether the host has APICv or AVIC",
        "apicv_uninhibited": _NO_STATE,
        "hlt_exits_disabled": "it is unknown whether HLT exits are disabled; the sources bpf and pinned have it",
        "vmm_silent_s": "the process of the VM is unknown",
        "never_ran": "how long the VM has existed is unknown",
        "poll_limit": "the halt polling limit is unknown",
        "injected_while_active": _NO_STATE,
        "mapped_growth": "how much memory was mapped before is unknown",
    }
)
"""Why a fact can be unknown, as text for people."""

FACT_TEXTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "vcpus": "the number of vCPUs",
        "stats_reset": "counters that went down",
        "apicv_inhibited": "a reason that inhibits APICv/AVIC",
        "apicv_off_on_host": "whether KVM was loaded without APICv/AVIC",
        "apicv_uninhibited": "that no reason inhibits APICv/AVIC",
        "hlt_exits_disabled": "whether HLT exits are disabled",
        "mmio_uncached": "whether KVM caches MMIO addresses",
        "vmm_silent_s": "for how long the VMM has not responded",
        "poll_limit": "the halt polling limit",
        "poll_limit_known": "whether the halt polling limit is known",
        "mapped_growth": "growth of the mapped memory",
        "never_ran": "vCPUs without any exit",
        "injected_while_active": "injections while APICv/AVIC is active",
        "costliest_exit": "the time of the costliest reason of exits",
    }
)
"""Facts in a few words."""

FACT_GROUPS: Final[Mapping[str, str]] = MappingProxyType({"costliest_exit": "exits"})
"""Facts that need a group of opt-in counters."""


@cache
def load_findings() -> tuple[Rule, ...]:
    """Every rule, in the order of the file."""
    text = read_toml(_FILE)
    return parse_findings(text, _FILE, replace(metric_context(), facts=FACTS), caveats=load_caveats())


@cache
def load_symptoms() -> Mapping[str, str]:
    """The texts of the symptoms, by the names that rules have in ``symptoms``."""
    return _parse_symptoms(read_root(read_toml(_FILE), _FILE))


def find_rule(slug: str) -> Rule:
    """The rule of this name. Raises UsageError if there is none."""
    for rule in load_findings():
        if rule.slug == slug:
            return rule
    raise UsageError(f"there is no rule {slug!r}; `kvmscope doctor --rules` lists them", nearest=near_rules(slug))


def near_rules(word: str) -> tuple[str, ...]:
    """Names of rules that are similar to ``word``."""
    return tuple(difflib.get_close_matches(word, [rule.slug for rule in load_findings()], cutoff=0.5))


def parse_findings(text: str, file: str, context: Context, *, caveats: Collection[str] = ()) -> tuple[Rule, ...]:
    """Rules from TOML; ``caveats``: the slugs that a rule may name. Raises CatalogError."""
    root = read_root(text, file)
    entries = root_tables(root, "rule", beside=(_SYMPTOM,))
    symptoms = _parse_symptoms(root)
    rules = tuple(_parse_rule(entry, context, caveats, symptoms) for entry in entries)
    unique(entries, "slug")
    return rules


def _parse_symptoms(root: TomlEntry) -> Mapping[str, str]:
    entries = root_tables(root, _SYMPTOM, beside=("rule",))
    for entry in entries:
        entry.check_keys(("name", "text"))
    unique(entries, "name")
    return MappingProxyType({entry.string("name"): entry.string("text") for entry in entries})


_REQUIRED: Final = ("slug", "title", "severity", "scope", "when", "evidence", "explanation", "threshold", "remedy")
_OPTIONAL: Final = (
    "activity",
    "clears",
    "windows",
    "worst",
    "cost",
    "lost",
    "adds",
    "silent_if",
    "despite",
    "symptoms",
)


def _parse_rule(entry: TomlEntry, context: Context, caveats: Collection[str], symptoms: Collection[str]) -> Rule:
    entry.check_keys(_REQUIRED, _OPTIONAL)
    scope = entry.choice("scope", Scope)
    return Rule(
        slug=entry.string("slug"),
        title=entry.string("title"),
        severity=entry.choice("severity", Severity),
        scope=scope,
        when=_condition(entry, "when", scope, context),
        activity=_condition(entry, "activity", scope, context) if "activity" in entry else None,
        clears=_condition(entry, "clears", scope, context) if "clears" in entry else None,
        windows=_windows(entry),
        cost=_number(entry, "cost", scope, context, _NUMBER) if "cost" in entry else None,
        lost=_number(entry, "lost", scope, context, _NUMBER) if "lost" in entry else None,
        worst=_number(entry, "worst", Scope.VCPU, context) if "worst" in entry else None,
        evidence=_evidence(entry, context),
        adds=entry.choice("adds", Addition) if "adds" in entry else None,
        explanation=entry.string("explanation"),
        threshold=entry.string("threshold"),
        remedies=_remedies(entry),
        silent_if=_known_names(entry, "silent_if", caveats, "slugs of caveats"),
        despite=_despite(entry, caveats),
        symptoms=_known_names(entry, "symptoms", symptoms, "names of symptoms"),
    )


def _formula(entry: TomlEntry, key: str, scope: Scope, context: Context) -> Formula:
    blame = entry.blame(key)
    return check(parse(entry.string(key), blame), scope, context, blame)


def _condition(entry: TomlEntry, key: str, scope: Scope, context: Context) -> Formula:
    formula = _formula(entry, key, scope, context)
    if not formula.type.is_condition:
        raise entry.error(key, "a condition", "a number")
    return formula


def _number(entry: TomlEntry, key: str, scope: Scope, context: Context, wanted: Type | None = None) -> Formula:
    formula = _formula(entry, key, scope, context)
    if formula.type.is_condition:
        raise entry.error(key, "a number", "a condition")
    if wanted and formula.type.dimension not in (None, wanted.dimension):
        raise entry.error(key, str(wanted), str(formula.type))
    return formula


def _windows(entry: TomlEntry) -> int:
    windows = entry.integer("windows", USUAL_WINDOWS)
    if not 1 <= windows <= _WINDOWS_MAX:
        raise entry.error("windows", f"1 to {_WINDOWS_MAX}", str(windows))
    return windows


def _evidence(entry: TomlEntry, context: Context) -> tuple[str, ...]:
    names = entry.strings("evidence")
    for name in names:
        if name not in context.metrics:
            raise entry.error("evidence", "names of metrics", shown(name))
    return names


def _remedies(entry: TomlEntry) -> tuple[Remedy, ...]:
    remedies = entry.tables("remedy")
    for remedy in remedies:
        remedy.check_keys(("do", "price"), ("only_if", "settings"))
    if all("only_if" in remedy for remedy in remedies):
        raise entry.error("remedy", "at least one without only_if", "none")
    return tuple(map(_remedy, remedies))


def _remedy(entry: TomlEntry) -> Remedy:
    only_if = parse_condition(entry.table("only_if")) if "only_if" in entry else None
    return Remedy(entry.string("do"), entry.string("price"), only_if, setting_names(entry, "settings"))


def _known_names(entry: TomlEntry, key: str, known: Collection[str], what: str) -> tuple[str, ...]:
    names = entry.strings(key)
    for name in names:
        if name not in known:
            raise entry.error(key, what, shown(name))
    return names


def _despite(entry: TomlEntry, caveats: Collection[str]) -> Mapping[str, str]:
    if "despite" not in entry:
        return MappingProxyType({})
    reasons = entry.table("despite")
    for slug in reasons:
        if slug not in caveats:
            raise entry.error("despite", "slugs of caveats", shown(slug))
    return MappingProxyType({slug: reasons.string(slug) for slug in reasons})
