"""Evaluates the rules of the catalogue for each VM and vCPU, window after window.

Pure: windows and facts in, findings out; all times are those of the samples. Not here: the rules (the catalogue), the
facts (``observations``), and what the verdict on interrupt acceleration adds.

Rules, for each rule and subject separately:
- It fires after ``when`` and ``activity`` held in as many consecutive windows as the rule asks for, and then stays
  until ``clears`` holds or ``activity`` does not.
- Unknown never fires: like false, it ends a sequence of windows. A finding whose condition is no longer known ends as
  UNKNOWN, not as CLEARED, and its rule is listed as not judged.
- A subject that came in the window, or whose counts were cleared in it, starts again; so do all subjects if a window
  does not start where the last one ended, as the sequence of windows would have a hole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt

from ..catalog.findings import FACT_GROUPS, UNKNOWN_FACTS, Rule, Severity
from ..catalog.groups import load_groups
from ..formula.check import Formula
from ..formula.tree import (
    Either,
    Expression,
    FactTerm,
    OverVcpus,
    QuantileTerm,
    Reference,
    ShareTerm,
    StatTerm,
    children,
)
from ..sample import I64Array, Sample, VmId
from ..schema import Schema, Scope
from .evaluate import Evaluator
from .observations import reset_vms
from .plan import Questions
from .rule_states import RuleStates
from .window import BoolArray, F64Array, Window

_WORST_SHOWN: Final = 3
_URGENCY: Final = {each: (each is not Severity.PROBLEM, -each.rank) for each in Severity}
_TRUE, _FALSE = 1.0, 0.0

_Rows: TypeAlias = npt.NDArray[np.intp]

Key: TypeAlias = tuple[str, VmId, int | None]
"""The identity of a finding: rule, VM, and vCPU id or None."""


@dataclass(frozen=True, slots=True)
class Worst:
    """A vCPU that contributes much to a finding, and its value of the rule's formula."""

    vcpu: int
    value: float


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that fires for a subject. ``vm_row``: in the last sample that has it. ``vcpu``: its id, None for a VM.

    ``since_s``: how long it has held, within the time observed. ``cost_cpus``: CPU time; ``lost_vcpus``: wall time that
    vCPUs lose; each None if the rule does not define it or it is not known.
    ``evidence``: metrics of the subject by name. ``worst``: the worst vCPUs first, without those of value 0.
    """

    rule: Rule
    vm: VmId
    vm_row: int
    vcpu: int | None
    since_s: float
    cost_cpus: float | None
    lost_vcpus: float | None
    evidence: Mapping[str, float | None]
    worst: tuple[Worst, ...]
    worst_count: int

    @property
    def key(self) -> Key:
        return self.rule.slug, self.vm, self.vcpu


class EndCause(Enum):
    """Why a finding ended."""

    CLEARED = "cleared"
    UNKNOWN = "unknown"
    GONE = "gone"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Ended:
    """A finding that ended, as it was last seen. ``at_ns``: CLOCK_REALTIME of the sample that showed its end."""

    finding: Finding
    why: EndCause
    at_ns: int


@dataclass(frozen=True, slots=True)
class NotJudged:
    """A rule for which it is unknown whether it fires, and why.

    ``vms``: the VMs concerned, None for all. ``group``: the group of statistics that would have to be counted, or "".
    """

    rule: str
    reason: str
    vms: tuple[VmId, ...] | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result of a window: ``findings`` in order, those that ``ended`` in it, and the rules that are not judged."""

    taken_ns: int
    findings: tuple[Finding, ...]
    ended: tuple[Ended, ...]
    not_judged: tuple[NotJudged, ...]


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort findings: problems first, then by cost; without a cost, by severity."""
    return tuple(sorted(findings, key=lambda finding: urgency(finding.rule, finding.cost_cpus or finding.lost_vcpus)))


def urgency(rule: Rule, cost: float | None) -> tuple[bool, float, int]:
    """Sort key of a finding, the most urgent first. ``cost``: in CPUs or, for wall time, in vCPUs."""
    is_lesser, rank = _URGENCY[rule.severity]
    return is_lesser, -(cost or 0.0), rank


class Watcher:
    """Judges consecutive windows.

    ``metrics``: formulas by name, for the rules that refer to them. ``silent``: by slug, why a rule is not judged on
    this host.
    """

    def __init__(
        self, rules: Sequence[Rule], metrics: Mapping[str, Formula], *, silent: Mapping[str, str] | None = None
    ) -> None:
        self._metrics = metrics
        self._silent = dict(silent or {})
        self._places = {rule.slug: place for place, rule in enumerate(rules)}
        judged = [rule for rule in rules if rule.slug not in self._silent]
        of_scopes = {scope: tuple(rule for rule in judged if rule.scope is scope) for scope in Scope}
        self._conditions = [_Conditions(rules, scope) for scope, rules in of_scopes.items() if rules]
        self._states: dict[Scope, RuleStates] = {}
        self._findings: dict[Key, Finding] = {}
        self._last_ns: int | None = None
        self._schemas: tuple[Schema, ...] = ()
        self._missing: dict[str, tuple[str, str]] = {}
        """By rule, what these schemas lack for it: see ``_Look._why_unknown``."""

    @property
    def rules_of_vms(self) -> tuple[Rule, ...]:
        """The judged rules of scope VM, in the order of ``states_of_vms``."""
        return next((each.rules for each in self._conditions if each.scope is Scope.VM), ())

    @property
    def states_of_vms(self) -> RuleStates:
        """The states of these rules after the last window, for the VMs of its sample."""
        return self._states[Scope.VM]

    def go_on_after(self, sample: Sample, states: RuleStates) -> None:
        """Continue after ``sample`` from ``states``, the ``states_of_vms`` of windows that were judged elsewhere.

        Findings that end in the next window are not reported, since nothing is known of their evidence.
        """
        self._states, self._findings, self._last_ns = {Scope.VM: states}, {}, sample.monotonic_ns

    def update(self, evaluator: Evaluator) -> Judgement:
        """Judge one window; ``evaluator`` is of that window and has the metrics and the facts of ``observe``."""
        window = evaluator.window
        if window.previous.monotonic_ns != self._last_ns:
            self._states, self._findings = {}, {}
        self._last_ns = window.current.monotonic_ns
        schemas = tuple(block.schema for block in window.current.blocks)
        if schemas != self._schemas:
            self._schemas, self._missing = schemas, {}
        look = _Look(window, evaluator, self._metrics, self._missing)
        found: list[Finding] = []
        why: dict[Key, EndCause] = {}
        not_judged = [NotJudged(slug, reason) for slug, reason in self._silent.items() if slug in self._places]
        of_rules = [questions for conditions in self._conditions for questions in conditions.questions]
        evaluator.prepare(*of_rules, evaluator.metrics(Scope.VM))  # metrics are the evidence
        for conditions in self._conditions:
            truth = _Truth.of(conditions, evaluator)
            before = self._aligned(conditions, look)
            after = before.without(look.new(conditions.scope)).moved(
                truth.holds, truth.stays, windows=conditions.windows, began_ns=window.previous.monotonic_ns
            )
            self._states[conditions.scope] = after
            for rule, fires, began_ns in conditions.where(after.fires, after.began_ns):
                found += look.findings(rule, np.flatnonzero(fires), began_ns)
            for rule, ended, is_quiet in conditions.where(before.fires & ~after.fires, truth.is_quiet):
                why.update(look.endings(rule, is_quiet, ended))
            for rule, unknown in conditions.where(truth.is_unknown):
                not_judged += look.not_judged(rule, np.flatnonzero(unknown))
        found.sort(key=lambda finding: self._places[finding.rule.slug])
        not_judged.sort(key=lambda each: self._places[each.rule])
        ended = self._ended({finding.key for finding in found}, why, window.current.taken_ns)
        self._findings = {finding.key: finding for finding in found}
        return Judgement(window.current.taken_ns, in_order(found), ended, tuple(not_judged))

    def _aligned(self, conditions: _Conditions, look: _Look) -> RuleStates:
        """The states of the rules after the previous window, for this window's subjects."""
        scope = conditions.scope
        before = self._states.get(scope)
        if before is None:
            return RuleStates.fresh(len(conditions.rules), look.count(scope))
        return before if look.window.is_unchanged(scope) else before.aligned(look.window.previous_rows(scope))

    def _ended(self, found: Set[Key], why: Mapping[Key, EndCause], at_ns: int) -> tuple[Ended, ...]:
        over = (finding for key, finding in self._findings.items() if key not in found)
        return tuple(Ended(finding, why.get(finding.key, EndCause.GONE), at_ns) for finding in over)


class _Conditions:
    """The rules of one scope, and the formulas to evaluate for them in each window."""

    def __init__(self, rules: tuple[Rule, ...], scope: Scope) -> None:
        self.rules = rules
        self.scope = scope
        self.when = Questions(tuple(rule.when for rule in rules), scope)
        self.with_activity, self.activity = self._some([rule.activity for rule in rules])
        self.with_clears, self.clears = self._some([rule.clears for rule in rules])
        quantities = dict.fromkeys(each for rule in rules for each in (rule.cost, rule.lost) if each is not None)
        worst = dict.fromkeys(rule.worst for rule in rules if rule.worst is not None)
        self.questions = (
            self.when,
            self.activity,
            self.clears,
            Questions(tuple(quantities), scope),
            Questions(tuple(worst), Scope.VCPU),
        )
        self.windows = np.array([[rule.windows] for rule in rules])

    def _some(self, formulas: Sequence[Formula | None]) -> tuple[list[int], Questions]:
        """The indices of the rules whose formula is not None, and these formulas."""
        numbers = [number for number, formula in enumerate(formulas) if formula is not None]
        return numbers, Questions(tuple(filter(None, formulas)), self.scope)

    def where(self, holds: BoolArray, *columns: npt.NDArray[Any]) -> Iterator[tuple[Any, ...]]:
        """The rules for which ``holds`` is true of some subject, with these subjects and the rows of ``columns``."""
        for number in np.flatnonzero(holds.any(axis=1)).tolist():
            yield self.rules[number], holds[number], *(column[number] for column in columns)


@dataclass(frozen=True, slots=True)
class _Truth:
    """The conditions of rules, one row per rule and one column per subject: 1, 0, or NaN for unknown."""

    active: F64Array
    when: F64Array
    clears: F64Array

    @classmethod
    def of(cls, conditions: _Conditions, evaluator: Evaluator) -> _Truth:
        when = evaluator.all_of(conditions.when)
        active, clears = np.ones(when.shape), 1.0 - when
        active[conditions.with_activity] = evaluator.all_of(conditions.activity)
        clears[conditions.with_clears] = evaluator.all_of(conditions.clears)
        return cls(active, when, clears)

    @property
    def holds(self) -> BoolArray:
        return np.asarray((self.active == _TRUE) & (self.when == _TRUE))

    @property
    def stays(self) -> BoolArray:
        """Where a finding continues: both conditions that would end it are known to be false."""
        return np.asarray((self.active == _TRUE) & (self.clears == _FALSE))

    @property
    def is_quiet(self) -> BoolArray:
        """Where a condition that ends a finding is known to hold."""
        return np.asarray((self.active == _FALSE) | (self.clears == _TRUE))

    @property
    def is_unknown(self) -> BoolArray:
        """Where it is not known whether the rule fires."""
        return np.asarray((self.active != _FALSE) & (self.when != _FALSE) & ~self.holds)


class _Look:
    """A window with the data that the rules need."""

    def __init__(
        self,
        window: Window,
        evaluator: Evaluator,
        metrics: Mapping[str, Formula],
        missing: dict[str, tuple[str, str]],
    ) -> None:
        """``missing``: a cache of ``_why_unknown`` for samples with the same schemas; entries are added to it."""
        self.window = window
        self._evaluator = evaluator
        self._metrics = metrics
        self._missing = missing
        reset = reset_vms(window)
        self._came = {scope: np.asarray(window.previous_rows(scope) < 0) for scope in Scope}
        self._is_reset = {Scope.VM: reset, Scope.VCPU: reset[window.current.vcpus.vm]}
        new = {scope: np.asarray(self._came[scope] | self._is_reset[scope]) for scope in Scope}
        self._new = {scope: is_new if is_new.any() else None for scope, is_new in new.items()}

    def of(self, what: str | Formula, at: Scope) -> F64Array:
        return self._evaluator.of(what, at)

    def count(self, scope: Scope) -> int:
        return len(self._came[scope])

    def new(self, scope: Scope) -> BoolArray | None:
        """Subjects that start again, None if there are none."""
        return self._new[scope]

    def endings(self, rule: Rule, is_quiet: BoolArray, ended: BoolArray) -> Iterator[tuple[Key, EndCause]]:
        """The causes for which findings of the rule ended, for subjects that still exist."""
        is_reset = self._is_reset[rule.scope]
        for row in np.flatnonzero(ended).tolist():
            vm_row, vcpu = self._subject(rule.scope, row)
            why = EndCause.RESET if is_reset[row] else EndCause.CLEARED if is_quiet[row] else EndCause.UNKNOWN
            yield (rule.slug, self.window.current.vms.vm_id(vm_row), vcpu), why

    def _subject(self, scope: Scope, row: int) -> tuple[int, int | None]:
        """The row of the VM, and the id of the vCPU or None."""
        if scope is Scope.VM:
            return row, None
        vcpus = self.window.current.vcpus
        return int(vcpus.vm[row]), int(vcpus.id[row])

    def findings(self, rule: Rule, rows: _Rows, began_ns: I64Array) -> Iterator[Finding]:
        """The findings of one rule that fires on the subjects in ``rows``. ``began_ns``: for every subject."""
        sample = self.window.current
        vm_rows = rows if rule.scope is Scope.VM else sample.vcpus.vm[rows]
        vcpus = [None] * len(rows) if rule.scope is Scope.VM else sample.vcpus.id[rows].tolist()
        worst = self._worst(rule, vm_rows) if rule.scope is Scope.VM else [((), 0)] * len(rows)
        for vm, vm_row, vcpu, since_s, cost_cpus, lost_vcpus, evidence, (shown, count) in zip(
            map(sample.vms.ids.__getitem__, vm_rows.tolist()),
            vm_rows.tolist(),
            vcpus,
            ((sample.monotonic_ns - began_ns[rows]) / 1e9).tolist(),
            self._known(rule.cost, rule.scope, rows),
            self._known(rule.lost, rule.scope, rows),
            self._evidence(rule, rows),
            worst,
            strict=True,
        ):
            yield Finding(rule, vm, vm_row, vcpu, since_s, cost_cpus, lost_vcpus, evidence, shown, count)

    def _evidence(self, rule: Rule, rows: _Rows) -> list[dict[str, float | None]]:
        """The evidence for these subjects: metrics by name."""
        if not rule.evidence:
            return [{} for _ in rows]
        columns = [self._known(name, rule.scope, rows) for name in rule.evidence]
        return [dict(zip(rule.evidence, values, strict=True)) for values in zip(*columns, strict=True)]

    def _known(self, what: str | Formula | None, scope: Scope, rows: _Rows) -> list[float | None]:
        """The values of a metric or formula for these subjects; None for unknown."""
        if what is None:
            return [None] * len(rows)
        return [None if math.isnan(value) else value for value in self.of(what, scope)[rows].tolist()]

    def _worst(self, rule: Rule, vm_rows: _Rows) -> list[tuple[tuple[Worst, ...], int]]:
        """For each VM, the worst vCPUs and the number of vCPUs affected."""
        if rule.worst is None:
            return [((), 0)] * len(vm_rows)
        sample = self.window.current
        is_asked = np.zeros(len(sample.vms), dtype=np.bool_)
        is_asked[vm_rows] = True
        values = np.nan_to_num(self.of(rule.worst, Scope.VCPU))
        bad = np.flatnonzero((values > 0) & is_asked[sample.vcpus.vm])
        of_vm = sample.vcpus.vm[bad]
        in_order = bad[np.lexsort((-values[bad], of_vm))]  # by VM, the worst of each first
        ids, numbers = sample.vcpus.id[in_order].tolist(), values[in_order].tolist()
        counts = np.bincount(of_vm, minlength=len(sample.vms))
        first = np.cumsum(counts) - counts
        return [
            (tuple(map(Worst, ids[at : at + min(count, _WORST_SHOWN)], numbers[at : at + _WORST_SHOWN])), count)
            for at, count in zip(first[vm_rows].tolist(), counts[vm_rows].tolist(), strict=True)
        ]

    def not_judged(self, rule: Rule, unknown: _Rows) -> Iterator[NotJudged]:
        """For each reason, the VMs of those subjects for which it is unknown whether the rule fires."""
        came, reset = self._came[rule.scope][unknown], self._is_reset[rule.scope][unknown]
        if rule.slug not in self._missing:
            self._missing[rule.slug] = self._why_unknown(rule)
        reason, group = self._missing[rule.slug]
        if group:
            yield NotJudged(rule.slug, reason, self._vms(rule.scope, unknown), group)
            return
        for why, rows in (
            ("came in this window", unknown[came]),
            ("its statistics were cleared in this window", unknown[~came & reset]),
            (reason, unknown[~came & ~reset]),
        ):
            if len(rows):
                yield NotJudged(rule.slug, why, self._vms(rule.scope, rows))

    def _vms(self, scope: Scope, rows: _Rows) -> tuple[VmId, ...] | None:
        sample = self.window.current
        is_meant = np.zeros(len(sample.vms), dtype=np.bool_)
        is_meant[rows if scope is Scope.VM else sample.vcpus.vm[rows]] = True
        vms = np.flatnonzero(is_meant).tolist()  # np.unique would load numpy.ma, 8 ms of a start
        return None if len(vms) == len(sample.vms) else tuple(sample.vms.vm_id(vm) for vm in vms)

    def _why_unknown(self, rule: Rule) -> tuple[str, str]:
        """What is missing to judge the rule, and the group that would have to be counted, or ""."""
        leaves = [leaf for formula in rule.conditions for leaf in self._leaves(formula.expression, formula.scope)]
        missing = dict.fromkeys(str(leaf.stat) for leaf, scope in leaves if self._is_missing(leaf, scope))
        facts = [leaf.name for leaf, _ in leaves if isinstance(leaf, FactTerm)]
        groups = [group for name in missing if (group := name.rpartition(".")[0]) in load_groups()]
        groups += [FACT_GROUPS[name] for name in facts if not self._counts(FACT_GROUPS.get(name))]
        if groups:
            return f"group {groups[0]} is not being counted, which is off until asked for", groups[0]
        if missing:
            return f"this source or kernel has no {', '.join(missing)}", ""
        reasons = [UNKNOWN_FACTS[name] for name in facts if name in UNKNOWN_FACTS]
        return (reasons[0] if reasons else "the statistics that it needs were not read"), ""

    def _counts(self, group: str | None) -> bool:
        return group is None or any(block.schema.provider == group for block in self.window.current.blocks)

    def _is_missing(self, leaf: Expression, scope: Scope) -> TypeGuard[StatTerm | QuantileTerm | ShareTerm]:
        if not isinstance(leaf, StatTerm | QuantileTerm | ShareTerm):
            return False
        return not self.window.has(leaf.stat.provider, scope, leaf.stat.name)

    def _leaves(self, expression: Expression, scope: Scope) -> Iterator[tuple[Expression, Scope]]:
        """The leaves of the expression; of alternatives, the one that this sample has, else the first."""
        match expression:
            case Reference():
                formula = self._metrics[expression.name]
                yield from self._leaves(formula.expression, formula.scope)
            case OverVcpus():
                yield from self._leaves(expression.operand, Scope.VCPU)
            case Either():
                ways = [list(self._leaves(option, scope)) for option in expression.options]
                yield from next((way for way in ways if not any(self._is_missing(*leaf) for leaf in way)), ways[0])
            case _:
                yield expression, scope
                for part in children(expression):
                    yield from self._leaves(part, scope)
