"""Formulas at random over given schemas, for evaluators that must agree: every node of the language, names that no stat
has, stats read as what they are not, divisions by zero and nested choices among them.

What is drawn follows from the source of randomness: a ``Random`` with a seed, or one of Hypothesis, which shrinks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from kvmscope.formula.check import CONDITION, Formula, Type
from kvmscope.formula.tree import (
    Arithmetic,
    Compare,
    Comparison,
    Either,
    Expression,
    FactTerm,
    Fold,
    Join,
    Junction,
    Minus,
    Negation,
    Number,
    Operator,
    OverVcpus,
    QuantileTerm,
    Ratio,
    Reduction,
    Reference,
    ShareTerm,
    StatName,
    StatTerm,
)
from kvmscope.schema import Kind, Schema, Scope

_QUANTILES = (0.0, 0.07, 0.5, 0.99, 1.0)
_BOUNDS = (1e-9, 3e-9, 4e-9, 5e-9, 1e-7)
_ZEROS = (None, 0.0, 1.0, -1.0)
_ABSENT = "absent"
"""A stat that no schema has."""


@dataclass
class FormulaMaker:
    """``schemas``: of one provider, one a scope. ``metrics``: those that formulas may refer to. ``facts``: names.
    ``misread``: share of the stats that are absent, and of those that are read as what they are not."""

    random: Random
    schemas: Mapping[Scope, Schema]
    metrics: Mapping[str, Formula] = field(default_factory=dict)
    facts: Sequence[str] = ()
    misread: float = 0.05

    def formula(self, scope: Scope, *, depth: int = 3) -> Formula:
        """A number or a condition of VMs or vCPUs."""
        if self._happens(0.4):
            return Formula(self.condition(scope, depth), scope, CONDITION)
        return Formula(self.number(scope, depth), scope, Type())

    def number(self, scope: Scope, depth: int) -> Expression:
        if depth == 0 or self._happens(0.2):
            return self._leaf(scope)
        if scope is Scope.VM and self._happens(0.3):
            return self._fold(depth)
        match self.random.choice(["minus", *["arithmetic"] * 3, "ratio", "ratio", "either"]):
            case "minus":
                return Minus(self.number(scope, depth - 1))
            case "arithmetic":
                return self._arithmetic(scope, depth)
            case "ratio":
                return Ratio(*self._pair(scope, depth), self.random.choice(_ZEROS))
        return Either(tuple(self.number(scope, depth - 1) for _ in range(self.random.randint(1, 3))))

    def _fold(self, depth: int) -> Expression:
        fold = self.random.choice(list(Fold))
        make = self.condition if fold is Fold.COUNT else self.number
        return OverVcpus(fold, make(Scope.VCPU, depth - 1))

    def _arithmetic(self, scope: Scope, depth: int) -> Expression:
        sign = self.random.choice(list(Operator))
        left, right = self._pair(scope, depth)
        return Arithmetic(sign, left, Number(self.random.choice([2.0, 4.0])) if sign is Operator.DIVIDE else right)

    def _pair(self, scope: Scope, depth: int) -> tuple[Expression, Expression]:
        return self.number(scope, depth - 1), self.number(scope, depth - 1)

    def condition(self, scope: Scope, depth: int) -> Expression:
        if depth == 0 or self._happens(0.4):
            left, right = self._pair(scope, max(depth, 1))
            return Compare(self.random.choice(list(Comparison)), left, right)
        match self.random.choice(["join", "join", "not", "either"]):
            case "join":
                junction = self.random.choice(list(Junction))
                return Join(junction, self.condition(scope, depth - 1), self.condition(scope, depth - 1))
            case "not":
                return Negation(self.condition(scope, depth - 1))
        return Either(tuple(self.condition(scope, depth - 1) for _ in range(self.random.randint(1, 2))))

    def _leaf(self, scope: Scope) -> Expression:
        histograms = [stat.name for stat in self.schemas[scope].descriptors if stat.is_histogram]
        kinds = ["stat"] * 6 + ["number"]
        kinds += ["quantile", "share"] if histograms else []
        kinds += ["fact"] if self.facts else []
        names = [name for name, metric in self.metrics.items() if metric.scope is scope or scope is Scope.VM]
        kinds += ["metric"] if names else []
        match self.random.choice(kinds):
            case "number":
                return Number(float(self.random.randint(0, 4)))
            case "quantile":
                return QuantileTerm(self._histogram(histograms, scope), self.random.choice(_QUANTILES))
            case "share":
                bound = Number(self.random.choice(_BOUNDS))
                return ShareTerm(self._histogram(histograms, scope), bound, self._happens(0.5))
            case "fact":
                return FactTerm(self.random.choice(self.facts))
            case "metric":
                return Reference(self.random.choice(names))
        return self._stat(scope)

    def _stat(self, scope: Scope) -> Expression:
        if self._happens(self.misread):
            return StatTerm(self.random.choice(list(Reduction)), StatName("kvm", _ABSENT))
        stat = self.random.choice(self.schemas[scope].descriptors)
        fitting = [Reduction.VALUE]
        if stat.kind is Kind.CUMULATIVE or stat.is_histogram:
            fitting = [Reduction.RATE, Reduction.DELTA]
        reduction = self.random.choice(list(Reduction) if self._happens(self.misread) else fitting)
        return StatTerm(reduction, StatName("kvm", stat.name))

    def _histogram(self, histograms: Sequence[str], scope: Scope) -> StatName:
        names = [stat.name for stat in self.schemas[scope].descriptors] if self._happens(self.misread) else histograms
        return StatName("kvm", self.random.choice(names))

    def _happens(self, share: float) -> bool:
        return self.random.random() < share
