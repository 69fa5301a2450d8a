"""Formulas at random over given schemas, for engines that must agree: every node of the language, names that no stat
has, divisions by zero and nested choices among them. What is drawn follows from the seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from kvmscope.formula.check import Formula, Type
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


@dataclass
class FormulaMaker:
    """``schemas``: of one provider, one a scope. ``metrics``: those that formulas may refer to. ``facts``: names."""

    random: Random
    schemas: Mapping[Scope, Schema]
    metrics: Mapping[str, Formula] = field(default_factory=dict)
    facts: Sequence[str] = ()

    def formula(self, scope: Scope, *, depth: int = 3) -> Formula:
        """A number or a condition of VMs or vCPUs."""
        make = self._condition if self.random.random() < 0.4 else self._number
        return Formula(make(scope, depth), scope, Type())

    def _number(self, scope: Scope, depth: int) -> Expression:
        if depth == 0 or self.random.random() < 0.2:
            return self._leaf(scope)
        if scope is Scope.VM and self.random.random() < 0.3:
            return self._fold(depth)
        match self.random.choice(["minus", *["arithmetic"] * 3, "ratio", "ratio", "either"]):
            case "minus":
                return Minus(self._number(scope, depth - 1))
            case "arithmetic":
                return self._arithmetic(scope, depth)
            case "ratio":
                return Ratio(*self._pair(scope, depth), self.random.choice(_ZEROS))
        return Either(tuple(self._number(scope, depth - 1) for _ in range(self.random.randint(1, 3))))

    def _fold(self, depth: int) -> Expression:
        fold = self.random.choice(list(Fold))
        make = self._condition if fold is Fold.COUNT else self._number
        return OverVcpus(fold, make(Scope.VCPU, depth - 1))

    def _arithmetic(self, scope: Scope, depth: int) -> Expression:
        sign = self.random.choice(list(Operator))
        left, right = self._pair(scope, depth)
        return Arithmetic(sign, left, Number(self.random.choice([2.0, 4.0])) if sign is Operator.DIVIDE else right)

    def _pair(self, scope: Scope, depth: int) -> tuple[Expression, Expression]:
        return self._number(scope, depth - 1), self._number(scope, depth - 1)

    def _condition(self, scope: Scope, depth: int) -> Expression:
        if depth == 0 or self.random.random() < 0.4:
            left, right = self._pair(scope, max(depth, 1))
            return Compare(self.random.choice(list(Comparison)), left, right)
        match self.random.choice(["join", "join", "not", "either"]):
            case "join":
                junction = self.random.choice(list(Junction))
                return Join(junction, self._condition(scope, depth - 1), self._condition(scope, depth - 1))
            case "not":
                return Negation(self._condition(scope, depth - 1))
        return Either(tuple(self._condition(scope, depth - 1) for _ in range(self.random.randint(1, 2))))

    def _leaf(self, scope: Scope) -> Expression:
        kinds = ["stat"] * 6 + ["number"]
        histograms = [stat.name for stat in self.schemas[scope].descriptors if stat.is_histogram]
        kinds += ["quantile", "share"] if histograms else []
        kinds += ["fact"] if self.facts else []
        names = [name for name, metric in self.metrics.items() if metric.scope is scope or scope is Scope.VM]
        kinds += ["metric"] if names else []
        match self.random.choice(kinds):
            case "number":
                return Number(float(self.random.randint(0, 4)))
            case "quantile":
                return QuantileTerm(StatName("kvm", self.random.choice(histograms)), self.random.choice(_QUANTILES))
            case "share":
                bound = Number(self.random.choice(_BOUNDS))
                name = StatName("kvm", self.random.choice(histograms))
                return ShareTerm(name, bound, self.random.random() < 0.5)
            case "fact":
                return FactTerm(self.random.choice(self.facts))
            case "metric":
                return Reference(self.random.choice(names))
        return self._stat(scope)

    def _stat(self, scope: Scope) -> Expression:
        """Mostly a stat as it should be read; now and then one that is not there, or read as what it is not."""
        if self.random.random() < 0.05:
            return StatTerm(self.random.choice(list(Reduction)), StatName("kvm", "absent"))
        stat = self.random.choice(self.schemas[scope].descriptors)
        fitting = [Reduction.VALUE]
        if stat.kind is Kind.CUMULATIVE or stat.is_histogram:
            fitting = [Reduction.RATE, Reduction.DELTA]
        is_misread = self.random.random() < 0.05
        reduction = self.random.choice(list(Reduction) if is_misread else fitting)
        return StatTerm(reduction, StatName("kvm", stat.name))
