"""Generated formulas, and samples of a few VMs for them: for tests that compare two ways to evaluate a formula."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from any_formula import FormulaMaker
from hypothesis import strategies as st

from kvmscope.analysis.evaluate import Evaluator
from kvmscope.analysis.window import Window
from kvmscope.formula.check import Formula, Type
from kvmscope.formula.tree import (
    HOST,
    Level,
)
from kvmscope.sample import Sample, VmId
from kvmscope.schema import Base, Descriptor, Kind, Schema, Scope, Unit, Unknown
from kvmscope.sources.files import StatsOf, VcpuStats, VmStats, assemble

BUCKETS = 4
SCHEMAS = {
    Scope.VCPU: Schema(
        "kvm",
        Scope.VCPU,
        (
            Descriptor("exits", Kind.CUMULATIVE, offset=0),
            Descriptor("halts", Kind.CUMULATIVE, offset=8),
            Descriptor("poll_ns", Kind.CUMULATIVE, Unit.SECONDS, exponent=-9, offset=16),
            Descriptor("depth", Kind.INSTANT, offset=24),
            Descriptor("longest", Kind.PEAK, offset=32),
            Descriptor("odd", Unknown(9), offset=40),
            Descriptor("hist", Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=BUCKETS, offset=48),
        ),
        80,
    ),
    Scope.VM: Schema(
        "kvm",
        Scope.VM,
        (
            Descriptor("flushes", Kind.CUMULATIVE, offset=0),
            Descriptor("pages", Kind.INSTANT, Unit.BYTES, Base.POW2, exponent=12, offset=8),
            Descriptor("widest", Kind.PEAK, offset=16),
        ),
        24,
    ),
}
NAMES = {scope: (*(stat.name for stat in schema.descriptors), "absent") for scope, schema in SCHEMAS.items()}

Words = tuple[int, ...]
Subject = tuple[int, int | None]
"""A VM's number, and a vCPU's or None."""
Value = float | None


@dataclass(frozen=True)
class ReferenceMoment:
    """Words by subject; a subject that is there and cannot be read has None."""

    words: Mapping[Subject, Words | None]

    @property
    def vms(self) -> list[int]:
        return [vm for vm, vcpu in self.words if vcpu is None]

    @property
    def vcpus(self) -> list[Subject]:
        return [(vm, vcpu) for number in self.vms for vm, vcpu in self.words if vm == number and vcpu is not None]

    def subjects(self, level: Level) -> list[Subject]:
        if level is HOST:
            return [(0, None)]
        return self.vcpus if level is Scope.VCPU else [(vm, None) for vm in self.vms]

    def members(self, subject: Subject, level: Level, scope: Scope) -> list[Subject]:
        """Who of a scope belongs to a subject of a level."""
        everybody = self.subjects(scope)
        return everybody if level is HOST else [each for each in everybody if each[0] == subject[0]]

    def sample(self, at_s: int) -> Sample:
        made = [VmStats(VmId(vm), self._stats((vm, None)), self._vcpus(vm)) for vm in self.vms]
        return assemble(made, source="test", taken_ns=0, monotonic_ns=at_s * 10**9)

    def _vcpus(self, vm: int) -> list[VcpuStats]:
        return [VcpuStats(each[1] or 0, self._stats(each)) for each in self.vcpus if each[0] == vm]

    def _stats(self, subject: Subject) -> list[StatsOf]:
        words = self.words[subject]
        schema = SCHEMAS[Scope.VM if subject[1] is None else Scope.VCPU]
        return [] if words is None else [StatsOf(schema, np.array(words, dtype=np.uint64))]


@dataclass(frozen=True)
class EvaluationCase:
    """Two moments, the seconds between them, and the facts that the caller provides."""

    before: ReferenceMoment
    after: ReferenceMoment
    seconds: int
    facts: Mapping[tuple[Level, str], Sequence[Value]]

    def evaluator(self, metrics: Mapping[str, Formula]) -> Evaluator:
        facts = {
            key: np.array([math.nan if each is None else each for each in column], dtype=np.float64)
            for key, column in self.facts.items()
        }
        return Evaluator(Window(self.before.sample(0), self.after.sample(self.seconds)), metrics, facts)


# --- generated formulas and samples -----------------------------------------------------------------------------------

FACTS = ("age", "size")
_MISREAD = 0.2


@st.composite
def any_makers(draw: st.DrawFn, metrics: Mapping[str, Formula] | None = None) -> FormulaMaker:
    """Makers of formulas over ``SCHEMAS``, that may refer to these metrics."""
    chance = draw(st.randoms(use_true_random=False))
    return FormulaMaker(chance, SCHEMAS, metrics or {}, (*FACTS, "nothing"), misread=_MISREAD)


@st.composite
def any_metrics(draw: st.DrawFn) -> dict[str, Formula]:
    """Each may refer to those before it."""
    metrics: dict[str, Formula] = {}
    for name, scope in (("vcpu_a", Scope.VCPU), ("vcpu_b", Scope.VCPU), ("vm_c", Scope.VM)):
        metrics[name] = Formula(draw(any_makers(metrics)).number(scope, 2), scope, Type())
    return metrics


@st.composite
def any_cases(draw: st.DrawFn) -> EvaluationCase:
    """A few VMs of which some came, went, cannot be read, or had counts that went down.

    A VM has no more than two vCPUs, and counts are small: sums are exact, and added in one order.
    """
    before, after = draw(any_moments()), draw(any_moments())
    kept = draw(st.booleans())
    if kept:  # the same subjects, and counts that mostly went up
        after = ReferenceMoment({subject: draw(later(words, subject)) for subject, words in before.words.items()})
    facts: dict[tuple[Level, str], Sequence[Value]] = {}
    for level in (Scope.VCPU, Scope.VM, HOST):
        for name in FACTS:
            if draw(st.booleans()):
                count = len(after.subjects(level))
                column = st.lists(st.none() | st.integers(0, 3).map(float), min_size=count, max_size=count)
                facts[level, name] = draw(column)
    return EvaluationCase(before, after, draw(st.sampled_from([1, 2])), facts)


_counts = st.integers(0, 6)


@st.composite
def any_moments(draw: st.DrawFn) -> ReferenceMoment:
    words: dict[Subject, Words | None] = {}
    for vm in draw(st.lists(st.integers(1, 3), unique=True, max_size=3)):
        words[vm, None] = draw(_words(Scope.VM))
        for vcpu in range(draw(st.integers(0, 2))):
            words[vm, vcpu] = draw(_words(Scope.VCPU))
    return ReferenceMoment(words)


def _words(scope: Scope) -> st.SearchStrategy[Words | None]:
    size = SCHEMAS[scope].words
    known = st.lists(_counts, min_size=size, max_size=size).map(lambda words: _in_seconds(words, scope))
    return st.one_of(known, known, known, st.none())


def _in_seconds(words: Sequence[int], scope: Scope) -> Words:
    """Times of whole seconds, which floats have exactly."""
    time = SCHEMAS[Scope.VCPU]["poll_ns"].offset // 8
    return tuple(w * 10**9 if scope is Scope.VCPU and at == time else w for at, w in enumerate(words))


def later(words: Words | None, subject: Subject) -> st.SearchStrategy[Words | None]:
    fresh = _words(Scope.VM if subject[1] is None else Scope.VCPU)
    if words is None:
        return fresh
    grown = fresh.map(lambda more: None if more is None else tuple(a + b for a, b in zip(words, more, strict=True)))
    return st.one_of(grown, grown, grown, fresh)
