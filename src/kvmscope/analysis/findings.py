"""What the rules of the catalogue say of each VM and vCPU, window after window.

Pure: windows and facts in, findings out; the moments are those of the samples. Not here: what a rule says (the
catalogue), what the facts are (``observations``), and what the verdict on interrupt acceleration adds.

Rules, for each rule and subject separately:
- It fires after ``when`` and ``activity`` held in as many consecutive windows as the rule asks for, and then stays
  until ``clears`` holds or ``activity`` does not.
- Unknown never fires: it breaks a row of windows like false. A finding whose condition is no longer known ends as
  UNKNOWN, not as CLEARED, and its rule stands among those that are not judged.
- A subject that came in the window, or whose counts were cleared in it, starts again; so does everything if windows do
  not follow one another, as a row of windows would then have a hole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt

from ..catalog.findings import UNKNOWN_FACTS, Rule, Severity
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
from ..sample import I64Array, VmId
from ..schema import Schema, Scope
from .evaluate import Evaluator
from .observations import reset_vms
from .window import BoolArray, F64Array, Window

_WORST_SHOWN: Final = 3
_URGENCY: Final = {each: (each is not Severity.PROBLEM, -each.rank) for each in Severity}
_TRUE, _FALSE = 1.0, 0.0

_Rows: TypeAlias = npt.NDArray[np.intp]

Key: TypeAlias = tuple[str, VmId, int | None]
"""Rule, VM, and vCPU's id or None: what a finding is of."""


@dataclass(frozen=True, slots=True)
class Worst:
    """A vCPU that has much to do with a finding, and its value of the rule's formula."""

    vcpu: int
    value: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule says of a subject. ``vm_row``: in the sample it was last seen in. ``vcpu``: id, None for a VM.

    ``since_s``: for how long it has held, as far as was looked. ``cost_cpus``: CPU time; ``lost_vcpus``: wall time that
    vCPUs lose; each None where the rule gives none or it is not known.
    ``evidence``: metrics of the subject by name. ``worst``: the worst vCPUs first, those of value 0 not.
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
    """A finding that no longer is one, as it was last seen. ``at_ns``: CLOCK_REALTIME of the sample that showed it."""

    finding: Finding
    why: EndCause
    at_ns: int


@dataclass(frozen=True, slots=True)
class NotJudged:
    """A rule of which it is not known whether it fires, and why.

    ``vms``: of which, None for all. ``group``: the group of statistics that would have to be counted, or "".
    """

    rule: str
    reason: str
    vms: tuple[VmId, ...] | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What there is to be said after a window: ``findings`` in order, those that ``ended`` in it, what is not known."""

    taken_ns: int
    findings: tuple[Finding, ...]
    ended: tuple[Ended, ...]
    not_judged: tuple[NotJudged, ...]


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Problems first, then by cost; where there is none, by severity."""
    return tuple(sorted(findings, key=lambda finding: urgency(finding.rule, finding.cost_cpus or finding.lost_vcpus)))


def urgency(rule: Rule, cost: float | None) -> tuple[bool, float, int]:
    """Sort key of a finding, the most urgent first. ``cost``: in CPUs or, for wall time, in vCPUs."""
    is_lesser, rank = _URGENCY[rule.severity]
    return is_lesser, -(cost or 0.0), rank


class Watcher:
    """Judges windows that follow one another.

    ``metrics``: formulas by name, for the rules that refer to them. ``silent``: why a rule is not judged on this host,
    by its slug.
    """

    def __init__(
        self, rules: Sequence[Rule], metrics: Mapping[str, Formula], *, silent: Mapping[str, str] | None = None
    ) -> None:
        self._rules = rules
        self._metrics = metrics
        self._silent = dict(silent or {})
        self._states: dict[str, _State] = {}
        self._findings: dict[Key, Finding] = {}
        self._last_ns: int | None = None
        self._schemas: tuple[Schema, ...] = ()
        self._missing: dict[str, tuple[str, str]] = {}
        """By rule what these schemas lack for it: see ``_Look._why_unknown``."""

    def update(self, evaluator: Evaluator) -> Judgement:
        """What is to be said after a window; ``evaluator`` has that, the metrics, and the facts of ``observe``."""
        window = evaluator.window
        if window.previous.monotonic_ns != self._last_ns:
            self._states, self._findings = {}, {}
        self._last_ns = window.current.monotonic_ns
        schemas = tuple(block.schema for block in window.current.blocks)
        if schemas != self._schemas:
            self._schemas, self._missing = schemas, {}
        look = _Look(window, evaluator, self._metrics, self._missing)
        found: dict[Key, Finding] = {}
        why: dict[Key, EndCause] = {}
        not_judged: list[NotJudged] = []
        for rule in self._rules:
            if rule.slug in self._silent:
                not_judged.append(NotJudged(rule.slug, self._silent[rule.slug]))
                continue
            truth = _Truth.of(rule, look)
            before = self._aligned(rule, look)
            after = before.without(look.new(rule.scope)).moved(rule, truth, window.previous.monotonic_ns)
            self._states[rule.slug] = after
            found.update((finding.key, finding) for finding in look.findings(rule, after))
            why.update(look.endings(rule, truth, before.fires & ~after.fires))
            not_judged += look.not_judged(rule, truth)
        ended = self._ended(found, why, window.current.taken_ns)
        self._findings = found
        return Judgement(window.current.taken_ns, in_order(found.values()), ended, tuple(not_judged))

    def _aligned(self, rule: Rule, look: _Look) -> _State:
        """What was known of the rule after the window before, for this window's subjects."""
        before = self._states.get(rule.slug)
        if before is None:
            return _State.fresh(look.count(rule.scope))
        return before if look.window.is_unchanged(rule.scope) else before.aligned(look.window.previous_rows(rule.scope))

    def _ended(self, found: Mapping[Key, Finding], why: Mapping[Key, EndCause], at_ns: int) -> tuple[Ended, ...]:
        over = (finding for key, finding in self._findings.items() if key not in found)
        return tuple(Ended(finding, why.get(finding.key, EndCause.GONE), at_ns) for finding in over)


@dataclass(frozen=True, slots=True)
class _Truth:
    """A rule's conditions for each subject: 1, 0, or NaN for not known."""

    active: F64Array
    when: F64Array
    clears: F64Array

    @classmethod
    def of(cls, rule: Rule, look: _Look) -> _Truth:
        active = None if rule.activity is None else look.of(rule.activity, rule.scope)
        if active is not None and not active.any():
            return cls(active, active, active)  # nothing else matters where nobody is active
        when = look.of(rule.when, rule.scope)
        active = np.ones(len(when)) if active is None else active
        clears = 1.0 - when if rule.clears is None else look.of(rule.clears, rule.scope)
        return cls(active, when, clears)

    @property
    def holds(self) -> BoolArray:
        return np.asarray((self.active == _TRUE) & (self.when == _TRUE))

    @property
    def stays(self) -> BoolArray:
        """Where a finding does not end: neither condition that would end it holds, nor is either unknown."""
        return np.asarray((self.active == _TRUE) & (self.clears == _FALSE))

    @property
    def is_quiet(self) -> BoolArray:
        """Where a finding is known to end."""
        return np.asarray((self.active == _FALSE) | (self.clears == _TRUE))

    @property
    def is_unknown(self) -> BoolArray:
        """Where it is not known whether the rule fires."""
        return np.asarray((self.active != _FALSE) & (self.when != _FALSE) & ~self.holds)


@dataclass(frozen=True, slots=True)
class _State:
    """One rule, a row a subject: ``row`` is how many windows it has held in a row, ``began_ns`` when that began."""

    row: I64Array
    fires: BoolArray
    began_ns: I64Array

    @classmethod
    def fresh(cls, count: int) -> _State:
        return cls(np.zeros(count, np.int64), np.zeros(count, np.bool_), np.zeros(count, np.int64))

    def aligned(self, previous_rows: I64Array) -> _State:
        """The same for the subjects of the next sample; those that came start again."""
        if not len(self.row):
            return _State.fresh(len(previous_rows))
        parts = (self.row[previous_rows], self.fires[previous_rows], self.began_ns[previous_rows])
        return _State(*parts).without(previous_rows < 0)

    def without(self, where: BoolArray | None) -> _State:
        """The same, with these subjects starting again."""
        if where is None:
            return self
        return _State(np.where(where, 0, self.row), self.fires & ~where, self.began_ns)

    def moved(self, rule: Rule, truth: _Truth, began_ns: int) -> _State:
        """After one more window, which began at ``began_ns``."""
        goes_on = truth.holds | (self.fires & truth.stays)
        row = np.where(goes_on, self.row + 1, 0)
        fires = goes_on & (self.fires | (row >= rule.windows))
        return _State(row, fires, np.where(self.row == 0, began_ns, self.began_ns))


class _Look:
    """A window with what the rules need to know of it."""

    def __init__(
        self,
        window: Window,
        evaluator: Evaluator,
        metrics: Mapping[str, Formula],
        missing: dict[str, tuple[str, str]],
    ) -> None:
        """``missing``: what ``_why_unknown`` has found of samples with the same schemas; more is added."""
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

    def endings(self, rule: Rule, truth: _Truth, ended: BoolArray) -> Iterator[tuple[Key, EndCause]]:
        """Why the rule fires no more where it did, on subjects that are still there."""
        is_reset, is_quiet = self._is_reset[rule.scope], truth.is_quiet
        for row in np.flatnonzero(ended).tolist():
            vm_row, vcpu = self._subject(rule.scope, row)
            why = EndCause.RESET if is_reset[row] else EndCause.CLEARED if is_quiet[row] else EndCause.UNKNOWN
            yield (rule.slug, self.window.current.vms.vm_id(vm_row), vcpu), why

    def _subject(self, scope: Scope, row: int) -> tuple[int, int | None]:
        """Row of the VM, and the vCPU's id."""
        if scope is Scope.VM:
            return row, None
        vcpus = self.window.current.vcpus
        return int(vcpus.vm[row]), int(vcpus.id[row])

    def findings(self, rule: Rule, state: _State) -> Iterator[Finding]:
        """Those of one rule."""
        rows = np.flatnonzero(state.fires)
        if not len(rows):
            return
        sample = self.window.current
        vm_rows = rows if rule.scope is Scope.VM else sample.vcpus.vm[rows]
        vcpus = [None] * len(rows) if rule.scope is Scope.VM else sample.vcpus.id[rows].tolist()
        worst = self._worst(rule, vm_rows) if rule.scope is Scope.VM else [((), 0)] * len(rows)
        for vm, vm_row, vcpu, since_s, cost_cpus, lost_vcpus, evidence, (shown, count) in zip(
            map(sample.vms.ids.__getitem__, vm_rows.tolist()),
            vm_rows.tolist(),
            vcpus,
            ((sample.monotonic_ns - state.began_ns[rows]) / 1e9).tolist(),
            self._known(rule.cost, rule.scope, rows),
            self._known(rule.lost, rule.scope, rows),
            self._evidence(rule, rows),
            worst,
            strict=True,
        ):
            yield Finding(rule, vm, vm_row, vcpu, since_s, cost_cpus, lost_vcpus, evidence, shown, count)

    def _evidence(self, rule: Rule, rows: _Rows) -> list[dict[str, float | None]]:
        """What there is to show for some subjects."""
        if not rule.evidence:
            return [{} for _ in rows]
        columns = [self._known(name, rule.scope, rows) for name in rule.evidence]
        return [dict(zip(rule.evidence, values, strict=True)) for values in zip(*columns, strict=True)]

    def _known(self, what: str | Formula | None, scope: Scope, rows: _Rows) -> list[float | None]:
        """The values of some subjects."""
        if what is None:
            return [None] * len(rows)
        return [None if math.isnan(value) else value for value in self.of(what, scope)[rows].tolist()]

    def _worst(self, rule: Rule, vm_rows: _Rows) -> list[tuple[tuple[Worst, ...], int]]:
        """For each VM the worst vCPUs, and how many have anything to do with it."""
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

    def not_judged(self, rule: Rule, truth: _Truth) -> Iterator[NotJudged]:
        """For each reason the VMs of which it is not known whether the rule fires."""
        unknown = np.flatnonzero(truth.is_unknown)
        if not len(unknown):
            return
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
        vms = np.unique(rows if scope is Scope.VM else sample.vcpus.vm[rows]).tolist()
        return None if len(vms) == len(sample.vms) else tuple(sample.vms.vm_id(vm) for vm in vms)

    def _why_unknown(self, rule: Rule) -> tuple[str, str]:
        """What it would take to know, and the group that would have to be counted, if it is that."""
        leaves = [leaf for formula in rule.conditions for leaf in self._leaves(formula.expression, formula.scope)]
        missing = dict.fromkeys(str(leaf.stat) for leaf, scope in leaves if self._is_missing(leaf, scope))
        groups = [group for name in missing if (group := name.rpartition(".")[0])]
        if groups:
            return f"group {groups[0]} is not being counted, which is off until asked for", groups[0]
        if missing:
            return f"this source or kernel has no {', '.join(missing)}", ""
        facts = (leaf.name for leaf, _ in leaves if isinstance(leaf, FactTerm))
        reasons = [UNKNOWN_FACTS[name] for name in facts if name in UNKNOWN_FACTS]
        return (reasons[0] if reasons else "the statistics that it needs were not read"), ""

    def _is_missing(self, leaf: Expression, scope: Scope) -> TypeGuard[StatTerm | QuantileTerm | ShareTerm]:
        if not isinstance(leaf, StatTerm | QuantileTerm | ShareTerm):
            return False
        return not self.window.has(leaf.stat.provider, scope, leaf.stat.name)

    def _leaves(self, expression: Expression, scope: Scope) -> Iterator[tuple[Expression, Scope]]:
        """What the expression reads; of several ways to put it the one that this sample has, else the first."""
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
